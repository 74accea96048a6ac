from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.filters.text.folding import Folded, fold


@pytest.mark.parametrize(
    "written",
    [
        "KNIFE",
        "ｋｎｉｆｅ",
        "𝓴𝓷𝓲𝓯𝓮",
        "𝕶𝕹𝕴𝕱𝕰",
        "ⓚⓝⓘⓕⓔ",
        "🅺🅽🅸🅵🅴",
        "🇰🇳🇮🇫🇪",
        "ᴋɴɪꜰᴇ",
        "кпіfе",
        "κnifε",
        "k\u200bn\u200di\u2060f\ufeffe",
        "k\u0336n\u0336i\u0336f\u0336e\u0336",
        "k\u0301n\u0308i\u0330f\u20dde\ufe0f",
        "\u202ek\u202dnife\u202c",
        "k\x00n\x08ife",
        "kn\ud800ife",
        "kn\U000e0069ife",
        "k\u00adnife",
        "k\u034fn\u3164ife",
    ],
)
def test_what_reads_knife_folds_to_knife(written: str) -> None:
    assert fold(written) == "knife"


@pytest.mark.parametrize("text", ["оружие", "ナイフがぎ", "हथियार", "سكين", "裸体", "칼날", "χαρά"])
def test_words_of_other_scripts_stay_words_and_fold_alike(text: str) -> None:
    assert len(fold(text).split()) == 1
    assert fold(fold(text)) == fold(text)


def test_vowels_of_indian_scripts_and_voicing_of_kana_are_no_ornament() -> None:
    assert fold("बिल्ली") != fold("बल्ली")
    assert fold("が") != fold("か")


def test_images_fold_to_their_names_with_room_around() -> None:
    assert fold("a🔪b").split() == ["a", "knife", "b"]
    assert "pistol" in fold("🔫").split()
    assert fold("👨\u200d⚕️").split()[0] == "man"


def test_a_tab_or_newline_divides_words() -> None:
    assert fold("a\tknife\nb") == "a knife b"


@given(st.text())
def test_every_part_comes_from_the_original(text: str) -> None:
    folded = Folded(text)
    for i in range(len(folded.text)):
        span = folded.span(i, i + 1)
        assert span.text == text[span.start : span.end]
        assert folded.text[i] in fold(span.text)
    if folded.text:
        whole = folded.span(0, len(folded.text))
        assert folded.text in fold(whole.text)


def test_every_character_of_unicode_folds() -> None:
    step = 97  # a prime, so that every block is met
    text = "".join(chr(code) for code in range(0, sys.maxunicode + 1, step))
    assert len(fold(text)) > 1000
