from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.attacks.spelling import SPELLINGS, misspell, misspell_somehow
from safelight.filters.text.folding import fold

RNG = random.Random(1)


@pytest.mark.parametrize(
    ("how", "shape"),
    [
        ("homoglyph", r"[^a-z]"),
        ("leet", r"[\d@!|$+]"),
        ("zero_width", "^k.n.i.f.e$"),
        ("spacing", "^k n i f e$"),
        ("dots", r"^k([.\-_*])n\1i\1f\1e$"),
        ("swap", "^(kinfe|knfie)$"),
        ("tripled", r"(.)\1\1"),
        ("accents", "^k.n.i.f.e.$"),
    ],
)
def test_each_spelling_has_its_shape(how: str, shape: str) -> None:
    word = SPELLINGS[how]("knife", RNG)
    assert word != "knife"
    assert re.search(shape, word)


def test_there_are_eight_spellings() -> None:
    assert len(SPELLINGS) == 8


@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=12), st.integers(0, 1000))
def test_lookalikes_are_folded_back(word: str, seed: int) -> None:
    rng = random.Random(seed)
    for how in ("zero_width", "accents"):
        assert fold(SPELLINGS[how](word, rng)) == word
    assert sorted(SPELLINGS["swap"](word, rng)) == sorted(word)
    assert SPELLINGS["spacing"](word, rng).replace(" ", "") == word


def test_short_words_and_everything_else_are_unchanged() -> None:
    assert misspell("a 12 ox, -- 刀", "leet", RNG) == "a 12 ox, -- 刀"
    assert misspell("the sword of kings", "dots", random.Random(3), share=0.0) == "the sword of kings"
    halves = [misspell("knife " * 100, "spacing", random.Random(4), share=0.5).count("k n i f e")]
    assert 30 < halves[0] < 70


def test_a_random_spelling_is_one_of_them() -> None:
    texts = {misspell_somehow("a knife on a table", random.Random(seed)) for seed in range(50)}
    assert len(texts) > 20
    assert misspell_somehow("a knife", random.Random(5)) == misspell_somehow("a knife", random.Random(5))
