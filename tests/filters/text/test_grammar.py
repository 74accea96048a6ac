from __future__ import annotations

from collections import Counter
from itertools import islice

from safelight.filters.text.training.grammar import Text, write
from safelight.taxonomy import load_taxonomy

TEXTS = list(islice(write(1), 6000))


def test_texts_are_many_and_different() -> None:
    assert len({text.prompt for text in TEXTS}) > 5000
    assert all(text.prompt.strip() and not set("{}@") & set(text.prompt) for text in TEXTS)
    assert list(islice(write(1), 50)) == TEXTS[:50] != list(islice(write(2), 50))


def test_half_are_harmful_and_every_category_is_known() -> None:
    counts = Counter(category for text in TEXTS for category in text.categories)
    assert set(counts) <= set(load_taxonomy().categories) - {"csae", "ip"}
    assert 0.45 < sum(bool(text.categories) for text in TEXTS) / len(TEXTS) < 0.55
    assert min(counts.values()) > 0.5 * max(counts.values())


def test_manners_are_shared_by_both_sides() -> None:
    def share(texts: list[Text], mark: str) -> float:
        return sum(mark in text.prompt for text in texts) / len(texts)

    harmful = [text for text in TEXTS if text.categories]
    harmless = [text for text in TEXTS if not text.categories]
    for mark in ("masterpiece", "Draw", "Chapter", "On the left", "--ar"):
        assert abs(share(harmful, mark) - share(harmless, mark)) < 0.02


def test_nobody_young_is_near_anything_sexual() -> None:
    young = ("child", "kid", "girl", "boy", "teen", "school", "baby", "pupil", "minor")
    for text in TEXTS:
        if any(category.startswith("sexual") for category in text.categories):
            wish = (
                text.prompt.lower().replace("children's book illustrator", "").replace("school project", "")
            )
            assert not any(word in wish for word in young), text.prompt
