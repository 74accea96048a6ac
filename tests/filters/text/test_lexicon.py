from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import FilterError
from safelight.filters.text.lexicon import Lexicon
from safelight.policy import Policy

STORYBOOK = Lexicon("storybook")


def _labels(lexicon: Lexicon, prompt: str) -> list[str]:
    return [finding.label for finding in lexicon.find([prompt])[0]]


@pytest.mark.parametrize(
    ("prompt", "written"),
    [
        ("a knife.", "knife"),
        ("two KNIVES", "KNIVES"),
        ("ein ＫＮＩＦＥ", "ＫＮＩＦＥ"),
        ("a police-officer waves", "police-officer"),
        ("a police  officer waves", "police  officer"),
        ("🐈 and ﬁsh", "ﬁsh"),
        ("ﬀﬀ cafe\u0301 with a knife", "knife"),
    ],
)
def test_words_are_found_where_the_user_wrote_them(prompt: str, written: str) -> None:
    ((finding,),) = STORYBOOK.find([prompt]) if "police" in prompt else [STORYBOOK.find([prompt])[0][-1:]]
    span = finding.evidence
    assert span.text == written  # type: ignore[union-attr]
    assert prompt[span.start : span.end] == written  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "prompt", ["a gunner", "begun", "knifelike", "a pirateship", "a", "", "…", "catalogue"]
)
def test_parts_of_words_are_not_words(prompt: str) -> None:
    assert _labels(STORYBOOK, prompt) == []


def test_overlapping_phrases_are_all_found(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text('version = "3"\n[labels]\na = ["red axe"]\nb = ["axe", "axe man"]\n[scores]\nb = 0.4\n')
    (found,) = Lexicon(path).find(["a red axe man"])
    assert [(f.label, f.score, f.evidence.text) for f in found] == [  # type: ignore[union-attr]
        ("a", 1.0, "red axe"),
        ("b", 0.4, "axe"),
        ("b", 0.4, "axe man"),
    ]
    assert Lexicon(path).version == "words 3"


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_spans_always_point_into_the_original(before: str, after: str) -> None:
    prompt = f"{before} knife {after}"
    (findings,) = STORYBOOK.find([prompt])
    spans = [f.evidence for f in findings if f.label == "knife"]
    assert any(span.start == len(before) + 1 for span in spans)  # type: ignore[union-attr]
    assert all(prompt[span.start : span.end] == span.text for span in spans)  # type: ignore[union-attr]


def test_a_hundred_thousand_characters_are_no_problem() -> None:
    assert _labels(STORYBOOK, "word " * 20_000 + "gun") == ["gun"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ('version = "1"\n[labels]\ngun = []', "line 3: labels.gun"),
        ('version = "1"\n[labels]\ngun = "gun"', "line 3: labels.gun"),
        ('version = "1"\nlabel = 1', "line 2|labels"),
        ("version = 1\n[labels]", "line 1: version"),
        ('version = "1"\n[labels]\ngun = ["…"]', "no letter"),
        ("nonsense", "not valid TOML"),
    ],
)
def test_a_malformed_list_is_refused(tmp_path: Path, words: str, message: str) -> None:
    path = tmp_path / "words.toml"
    path.write_text(words)
    with pytest.raises(FilterError, match=message):
        Lexicon(path)


def test_an_unknown_list_names_those_there_are() -> None:
    with pytest.raises(FilterError, match='no word list "generl"; there is general, storybook'):
        Lexicon("generl")


@pytest.mark.parametrize(
    ("prompt", "action"),
    [
        ("a cat on a mat", "allow"),
        ("a nude statue", "block"),
        ("the history of the nazis", "block"),
        ("a soldier with a rifle", "review"),
        ("a child walking to school", "allow"),
        ("a pegboard in a workshop", "allow"),
        ("scunthorpe united", "allow"),
    ],
)
def test_the_general_policy_on_plain_prompts(prompt: str, action: str) -> None:
    findings = Lexicon("general").find([prompt])[0]
    assert Policy.load("general").judge("prompt", findings).action == action
