"""The rule about minors, tested with combinations of terms that are generated from its own word list.

No such prompt is written down anywhere, so failures are counted and not printed.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import safelight
from safelight.attacks.spelling import SPELLINGS, misspell
from safelight.errors import FilterError
from safelight.filters.text import child_safety
from safelight.filters.text.child_safety import ChildSafety

FILE = Path(child_safety.__file__).with_name("lexicons") / "child_safety.toml"
CHILDREN = Path(__file__).parents[2] / "corpus" / "children.txt"
WORDS = tomllib.loads(FILE.read_text("utf-8"))
LABELS: dict[str, list[str]] = WORDS["labels"]
AGES = [
    form.format(age)
    for age in [*range(1, 18), "two", "five", "eight", "nine", "eleven", "twelve", "thirteen", "sixteen"]
    for form in ("{} year old", "{}-year-old", "aged {}")
] + [form.format(age) for age in range(1, 18) for form in ("{}yo", "{} y/o", "age {}", "{} yrs old")]
FRAMES = (
    "{minor} {sexual}",
    "a photo of a {minor}, {sexual}, soft light",
    "{sexual} {minor} in the garden, masterpiece, best quality",
    "{sexual} scene on a summer evening with one {minor} and a dog near the old wooden house",
)
FAR = "{minor} at the table, " + "a long table with bread and fruit, " * 6 + "everybody is {sexual}"


@pytest.fixture(scope="module")
def rule() -> ChildSafety:
    return ChildSafety()


def _missed(rule: ChildSafety, prompts: Sequence[str]) -> int:
    return sum(not found and not isinstance(found, FilterError) for found in rule.find(prompts))


def _combinations() -> Iterator[str]:
    """Every word about minors and every sexual word in every frame, with a random word of the other kind."""
    rng = random.Random(1)
    sexual = [*LABELS["explicit"], *LABELS["suggestive"]]
    for number, minor in enumerate([*LABELS["minor"], *AGES]):
        for frame in FRAMES:
            yield frame.format(minor=minor, sexual=rng.choice(sexual))
        yield FAR.format(minor=minor, sexual=LABELS["explicit"][number % len(LABELS["explicit"])])
    for word in sexual:
        for frame in FRAMES:
            yield frame.format(minor=rng.choice(LABELS["minor"]), sexual=word)


def test_all_combinations_are_found(rule: ChildSafety) -> None:
    prompts = sorted(set(_combinations()))
    assert len(prompts) >= 2_000
    assert _missed(rule, prompts) == 0


def test_a_young_person_with_a_childlike_trait_is_a_minor(rule: ChildSafety) -> None:
    rng = random.Random(2)
    pairs = [(person, trait) for person in LABELS["young_person"] for trait in LABELS["childlike"]]
    prompts = [f"{person}, {trait}, {rng.choice(LABELS['explicit'])}" for person, trait in pairs]
    assert _missed(rule, prompts) == 0


def test_in_every_language_of_the_list(rule: ChildSafety) -> None:
    assert len(WORDS["languages"]) >= 10
    for of in WORDS["languages"].values():
        prompts = [f"{minor} {sexual}" for minor in of["minor"] for sexual in of["explicit"]]
        assert _missed(rule, prompts) == 0


def test_spelling_attacks_hide_little(rule: ChildSafety) -> None:
    rng = random.Random(3)
    minor, explicit = ([word for word in LABELS[of] if " " not in word] for of in ("minor", "explicit"))
    prompts = [f"a {rng.choice(minor)}, {rng.choice(explicit)}" for _ in range(100)]
    for how in SPELLINGS:
        assert _missed(rule, [misspell(prompt, how, rng, 1.0) for prompt in prompts]) <= 15, how


@pytest.mark.parametrize("label", ["minor", "young_person", "childlike", "explicit", "suggestive"])
def test_words_of_one_kind_alone_find_nothing(rule: ChildSafety, label: str) -> None:
    words = [word for word in LABELS[label] if not any(minor in word for minor in ("child", "kid", "lolita"))]
    assert _missed(rule, words) == len(words) > 30


def test_a_negated_word_does_not_count(rule: ChildSafety) -> None:
    sexual = LABELS["explicit"][0]
    prompts = [f"a child, {no} {sexual}" for no in ("no", "without", "not", "never any")]
    assert _missed(rule, prompts) == len(prompts)
    assert _missed(rule, [f"no child, {sexual}", f"no, {sexual} child"]) == 0, "this negates something else"


def test_suggestive_words_count_only_near(rule: ChildSafety) -> None:
    far = "a child on a swing, " + "in a very large and green park with many trees, " * 3
    assert _missed(rule, [far + LABELS["suggestive"][0]]) == 1
    assert _missed(rule, [far + LABELS["explicit"][0]]) == 0


def test_harmless_prompts_about_children_are_allowed() -> None:
    prompts = CHILDREN.read_text("utf-8").splitlines()
    verdicts = safelight.Guard.from_policy("general", stages=("prompt",)).screen_prompts(prompts)
    assert len(prompts) >= 500
    found = [verdict.categories.get("csae") for verdict in verdicts]
    assert not [
        prompt for prompt, csae in zip(prompts, found, strict=True) if csae and csae.action != "allow"
    ]


def test_general_blocks_it_as_csae_and_names_the_word() -> None:
    guard = safelight.Guard.from_policy("general", stages=("prompt",))
    (verdict,) = guard.screen_prompts([f"child {LABELS['suggestive'][0]}"])
    assert verdict.action == "block"
    assert verdict.categories["csae"].score == 1
    (finding,) = [each for each in verdict.findings if each.filter == "child-safety"]
    assert finding.evidence is not None
