from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import FilterError
from safelight.filters.text import lexicon
from safelight.filters.text.lexicon import Lexicon
from safelight.filters.text.training.written import LANGUAGES
from safelight.policy import Policy

STORYBOOK = Lexicon("storybook")
GENERAL = Lexicon("general")


def _labels(words: Lexicon, prompt: str) -> list[str]:
    return [finding.label for finding in words.find([prompt])[0]]  # type: ignore[union-attr]


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


def test_ambiguous_phrases_of_a_language_score_less_than_the_others_of_their_label(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    lists = '[languages.de]\na = ["die axt"]\n[ambiguous.de]\na = ["axt", "das beil"]\n'
    path.write_text(f'version = "3"\n{lists}[scores]\na = 0.9\n"das beil" = 0.3\n')
    (found,) = Lexicon(path).find(["die Axt und das Beil"])
    assert [(f.score, f.evidence.text) for f in found] == [  # type: ignore[union-attr]
        (0.9, "die Axt"),
        (0.6, "Axt"),
        (0.3, "das Beil"),
    ]


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


def test_the_longest_prompt_is_read_to_its_end() -> None:
    assert _labels(STORYBOOK, "word " * 1_999 + "gun") == ["gun"]


@pytest.mark.parametrize("prompt", ["word " * 2_001, "🏳" * 1_000, "\ufdfa" * 1_000, "&#128170;" * 1_000])
def test_a_prompt_that_is_read_as_too_many_characters_is_refused(prompt: str) -> None:
    ((answer, found)) = STORYBOOK.find([prompt, "a gun"])
    assert isinstance(answer, FilterError)
    expected = r"the prompt has \d+ characters after normalisation; shorten it to 10000\."
    assert re.fullmatch(expected, str(answer))
    assert [finding.label for finding in found] == ["gun"]  # type: ignore[union-attr]


def test_of_each_label_and_score_a_hundred_findings_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text(
        'version = "1"\n[labels]\nweapons = ["gun", "bomb"]\n[patterns]\nhate = ["c"]\n[scores]\ngun = 0.3\n'
    )
    found = Lexicon(path).find(["gun c " * 1_000 + "bomb"])[0]
    counts = Counter((finding.label, finding.score) for finding in found)  # type: ignore[union-attr]
    assert counts == {("weapons", 0.3): 100, ("hate", 1.0): 100, ("weapons", 1.0): 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ('version = "1"\n[labels]\ngun = []', "line 3: labels.gun"),
        ('version = "1"\n[labels]\ngun = "gun"', "line 3: labels.gun"),
        ('version = "1"\nlabel = 1', "line 2|labels"),
        ("version = 1\n[labels]", "line 1: version"),
        ('version = "1"\n[labels]\ngun = ["…"]', "no letter"),
        ('version = "1"\n[labels]\ngun = ["gun"]\n[scores]\nrifle = 0.5', '"rifle" has a score'),
        ("nonsense", "not valid TOML"),
    ],
)
def test_a_malformed_list_is_refused(tmp_path: Path, words: str, message: str) -> None:
    path = tmp_path / "words.toml"
    path.write_text(words)
    with pytest.raises(FilterError, match=message):
        Lexicon(path)


def test_an_unknown_list_names_those_there_are() -> None:
    with pytest.raises(
        FilterError, match='no word list "generl"; available: child_safety, general, storybook'
    ):
        Lexicon("generl")


@pytest.mark.parametrize(
    ("prompt", "action"),
    [
        ("a cat on a mat", "allow"),
        ("a nude statue", "allow"),
        ("the history of the nazis", "review"),
        ("hardcore pornography", "block"),
        ("two great tits on a branch", "allow"),
        ("a soldier with a rifle", "allow"),
        ("a child walking to school", "allow"),
        ("a pegboard in a workshop", "allow"),
        ("scunthorpe united", "allow"),
    ],
)
def test_the_general_policy_on_plain_prompts(prompt: str, action: str) -> None:
    findings = Lexicon("general").find([prompt])[0]
    assert Policy.load("general").judge("prompt", findings).action == action


_HOMOGLYPHS = str.maketrans("aeiopcxysk", "аеіорсхуѕк")
_LEET = str.maketrans("aeiost", "431057")
_ALTERATIONS: dict[str, Callable[[str], str]] = {
    "homoglyph": lambda word: word.translate(_HOMOGLYPHS),
    "leet": lambda word: word.translate(_LEET),
    "zero-width": "\u200b".join,
    "spacing": " ".join,
    "dots": ".".join,
    "swap": lambda word: word[:1] + word[2:3] + word[1:2] + word[3:],
    "tripled letter": lambda word: word[:1] + 3 * word[1:2] + word[2:],
    "accents": "\u0301".join,
}


@pytest.mark.parametrize("alteration", _ALTERATIONS)
def test_altered_words_are_found(alteration: str) -> None:
    words = [
        (label, word)
        for label, words in _packaged("storybook")["labels"].items()
        for word in words
        if len(word) > 3 and " " not in word
    ]
    missed = [
        word
        for label, word in words
        if label not in _labels(STORYBOOK, f"we see one {_ALTERATIONS[alteration](word)} today")
    ]
    assert len(words) > 200
    assert len(missed) <= 0.02 * len(words), missed


def _packaged(name: str) -> dict[str, Any]:
    return tomllib.loads((Path(lexicon.__file__).parent / "lexicons" / f"{name}.toml").read_text("utf-8"))


def test_every_language_of_the_general_list_is_found_by_its_own_words() -> None:
    packaged = _packaged("general")
    assert packaged["languages"].keys() == packaged["ambiguous"].keys() == set(LANGUAGES)
    for language, labels in [*packaged["languages"].items(), *packaged["ambiguous"].items()]:
        for label, words in labels.items():
            for word in words:
                assert label in _labels(GENERAL, f"{word}"), (language, word)
                assert label in _labels(GENERAL, f"1girl, {word.upper()}, 4k"), (language, word)


def test_allowed_phrases_excuse_only_the_words_in_them() -> None:
    assert _labels(GENERAL, "nude lipstick, a naked mole rat") == []
    assert _labels(GENERAL, "nude lipstick on somebody nude") == ["sexual.nudity"]


def test_scripts_without_blanks_are_searched_inside_sentences() -> None:
    assert _labels(GENERAL, "公园里的裸体雕像") == ["sexual.nudity"]


def test_patterns_of_users_are_found_and_cannot_hang(tmp_path: Path) -> None:
    path = tmp_path / "words.toml"
    path.write_text(
        'version = "1"\n[patterns]\nweapons = ["(a+)+b", "gl.ck [0-9]+"]\n[scores]\nweapons = 0.5\n'
    )
    own = Lexicon(path)
    assert own.find(["a" * 10_000]) == [[]]
    (finding,) = own.find(["an old Glock 17"])[0]
    assert (finding.label, finding.score, finding.evidence.text) == ("weapons", 0.5, "Glock 17")  # type: ignore[union-attr]
    path.write_text('version = "1"\n[patterns]\nweapons = ["(a)\\\\1"]\n')
    with pytest.raises(FilterError, match="not valid for RE2"):
        Lexicon(path)


@pytest.mark.parametrize(
    "word", ["ogre", "stupor", "taunt", "rapping", "coon", "penne", "gnus", "jest", "overdoes"]
)
def test_rare_words_that_nearly_are_listed_are_left_alone(word: str) -> None:
    assert _labels(GENERAL, f"an {word}, painted") == []
