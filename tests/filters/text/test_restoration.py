from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.filters.text.folding import Folded, fold
from safelight.filters.text.restoration import Restored, Restorer, rare_words

RESTORER = Restorer({"knife", "bomb", "murder", "nude", "glass"}, {"scunthorpe"})


def _restored(prompt: str) -> str:
    return RESTORER.restore(Folded(prompt)).text


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a kn1f3", "a knife"),
        ("a b0m8", "a bomb"),
        ("murd3r!", "murder"),
        ("k n i f e", "knife"),
        ("k.n i-f_e", "knife"),
        ("k*n*i*f*e", "knife"),
        ("a  m a n  w i t h  a  k n i f e", "a man with a knife"),
        ("a.m.a.n.w.i.t.h.a.k.n.i.f.e", "a man with a knife"),
        ("kn.ife", "knife"),
        ("kni fe", "knife"),
        ("mur der", "murder"),
        ("a kinfe", "a knife"),
        ("mudrer", "murder"),
        ("knnnife", "knife"),
        ("kkknnniiifffeee", "knife"),
        ("glasssss", "glass"),
        ("nudee", "nude"),
        ("ǝɟᴉuʞ", "knife"),
        ("tweet", "tweet"),
    ],
)
def test_hidden_words_are_restored(prompt: str, expected: str) -> None:
    assert _restored(prompt) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "a photorealistic castle in scunthorpe, 35mm, f1.8, 8k, 70s style",
        "an al pastor taco for 2 at 7pm",
        "1girl, masterpiece, best quality, hdr10+",
        "caravaggio's chiaroscuro; j. m. w. turner",
        "https://example.org/a_b-c?d=1",
        "$5 bill @home #art",
        "аниме девочка 裸体 हिन्दी",
        "",
    ],
)
def test_harmless_text_keeps_its_words(prompt: str) -> None:
    folded = Folded(prompt)
    words = {"knife", "bomb", "murder", "nude", "glass"}
    assert not words & set(RESTORER.restore(folded).text.split())


def test_known_words_are_left_alone() -> None:
    text = "the united states are far from a trial on a trail, twenty-five well-known cats"
    assert RESTORER.restore(Folded(text)).edits == []


@given(st.text())
def test_every_part_comes_from_the_original(prompt: str) -> None:
    restored = RESTORER.restore(Folded(prompt))
    for i in range(len(restored.text)):
        span = restored.span(i, i + 1)
        assert prompt[span.start : span.end] == span.text


@given(st.text(alphabet="abekfinurdm10!.-_ \n@", max_size=60))
def test_edits_are_in_order_and_apart(prompt: str) -> None:
    edits = RESTORER.restore(Folded(prompt)).edits
    ends = [0, *(edit.end for edit in edits)]
    assert all(end <= edit.start < edit.end for end, edit in zip(ends, edits, strict=False))


def test_spans_of_restored_words_are_as_the_user_wrote_them() -> None:
    prompt = "Ein\u200b K.N.I.F.E is here"
    restored = RESTORER.restore(Folded(prompt))
    start = restored.text.index("knife")
    assert restored.span(start, start + 5).text == "K.N.I.F.E"
    after = restored.text.index("here")
    assert restored.span(after, after + 4).text == "here"


def test_rare_words_are_known_but_common_ones_come_first() -> None:
    restorer = Restorer(rare=rare_words())
    assert restorer.restore(Folded("tw1tch3s and c0w3rs")).text == "twitches and cowers"
    assert not restorer.restore(Folded("twitches and cowers")).edits
    assert len(rare_words()) > 90_000
    assert not any(word.startswith("#") for word in rare_words())


@pytest.mark.parametrize(
    ("written", "meant"), [("sklrmish", "skirmish"), ("chiidren", "children"), ("trumpetlng", "trumpeting")]
)
def test_an_i_may_be_an_l(written: str, meant: str) -> None:
    assert Restorer(rare=rare_words()).restore(Folded(written)).text == meant


LISTED = {"knife", "bomb", "murder", "umbrella", "gun", "nude"}
LEXICON = Restorer(LISTED, {"scunthorpe"}, rare_words(), LISTED)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("agun", "a gun"),
        ("thegun", "the gun"),
        ("holdingaknife", "holding a knife"),
        ("bloodyknifefight", "bloody knife fight"),
        ("nudewoman", "nude woman"),
        ("umbralla", "umbrella"),
        ("umbrela", "umbrella"),
        ("umbrellla", "umbrella"),
        ("umbreolla", "umbrella"),
        ("g1u1n", "gun"),
        ("g中u中n", "gun"),
        ("kn9ife", "knife"),
        ("кภเfє", "knife"),
        ("ﻮยภ", "gun"),
        ("ᑌᗰᗷᖇEᒪᒪᗩ", "umbrella"),
        ("ꓖꓴꓠ", "gun"),
        ("丂ㄒ山 ᎶᏬᏁ", "丂ㄒ山 gun"),
        ("m u r d e r", "murder"),
    ],
)
def test_more_disguises_are_undone(written: str, meant: str) -> None:
    restored = LEXICON.restore(Folded(written))
    assert restored.text == meant or fold(written) == meant
    assert restored.span(0, len(restored.text)).text == written


@pytest.mark.parametrize(
    "harmless",
    [
        "begun",
        "shotgun wedding",
        "burgundy",
        "gundam",
        "gunther",
        "dickinson",
        "hitchcock",
        "cockburn",
        "scunthorpe",
        "gunita",
        "inguna",
        "knifelike",
        "therapist",
        "cockpit",
        "assassin's",
        "gunwale",
        "penguins",
        "umbrellas",
        "ภาษาไทย",
        "สวัสดีครับ",
        "עברית",
        "שלום עולם",
        "ᐃᓄᒃᑎᑐᑦ",
        "人口山",
        "g1",
        "r2d2",
        "mp3",
        "4k8k",
        "a1b2",
    ],
)
def test_names_compounds_and_other_scripts_are_left_alone(harmless: str) -> None:
    words = LEXICON.restore(Folded(harmless)).text.split()
    assert LISTED.isdisjoint(words)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.text(alphabet="agunkifeholdr1中ภᑌ <&;B", max_size=40))
def test_edits_of_the_list_come_from_the_original(prompt: str) -> None:
    restored = LEXICON.restore(Folded(prompt))
    assert all(restored.is_edited(start, start + 1) for start in _edited(restored))
    for i in range(len(restored.text)):
        span = restored.span(i, i + 1)
        assert prompt[span.start : span.end] == span.text


def _edited(restored: Restored) -> list[int]:
    """Where edits begin in the restored text."""
    shifts = accumulate((len(edit.text) - edit.end + edit.start for edit in restored.edits), initial=0)
    return [edit.start + shift for edit, shift in zip(restored.edits, shifts, strict=False)]
