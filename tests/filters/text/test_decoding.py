from __future__ import annotations

import pytest
from hypothesis import given, settings

from fuzz.prompts import coded
from safelight.filters.text.decoding import decode, sources
from safelight.filters.text.lexicon import Lexicon

STORYBOOK = Lexicon("storybook")


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        ("a g&#117;n", "a gun"),
        ("a g&#x75;n", "a gun"),
        ("a gun&nbsp;and", "a gun\xa0and"),
        ("&lt;b&gt;gun", "gun"),
        ("g&amp;#117;n", "gun"),
        ("a g<b>u</b>n", "a gun"),
        ("a g<span class='x'>u</span>n", "a gun"),
        ("a g<!-- no -->un", "a gun"),
        ("one<br>gun", "one gun"),
        ("a %67%75n", "a gun"),
        ("a %2567un", "a gun"),
        ("%F0%9F%94%AA", "🔪"),
        ("a \\u0067un", "a gun"),
        ("a \\u{67}un", "a gun"),
        ("a \\x67\\x75n", "a gun"),
        ("\\ud83d\\udd2a", "🔪"),
        ("aGun", "a Gun"),
        ("holdingAGun", "holding A Gun"),
        ("a \u202enug\u202c here", "a gun here"),
        ("\u202enug\na dog", "gun\na dog"),
        ("a \u202eefink \u202dgun\u202c", "a gun knife"),
        ("\u2067\u202eab\u2069cd", "bacd"),
        ("\u202c\u2069gun", "\u202c\u2069gun"),
    ],
)
def test_a_prompt_is_read_as_it_is_shown(prompt: str, shown: str) -> None:
    assert decode(prompt).text == shown


@pytest.mark.parametrize(
    "prompt",
    [
        "a dog",
        "rock & roll",
        "100% wool",
        "1 < 2",
        "C:\\home",
        "<3",
        "a<lora:style:0.8>",
        "HDR",
        "\u2067abc\u2069",
    ],
)
def test_nothing_is_decoded_where_nothing_is_coded(prompt: str) -> None:
    assert list(sources(prompt)) == [prompt]


def test_what_looks_like_markup_is_read_as_well() -> None:
    (findings,) = STORYBOOK.find(["a man, <knife>"])
    assert [finding.label for finding in findings] == ["man", "knife"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("prompt", "written"),
    [
        ("one g&#117;n!", "g&#117;n"),
        ("one g<b>u</b>n!", "g<b>u</b>n"),
        ("one %67%75n!", "%67%75n"),
        ("one \\u0067un!", "\\u0067un"),
        ("one \u202enug\u202c!", "nug"),
        ("oneGun!", "Gun"),
    ],
)
def test_findings_point_at_what_the_user_wrote(prompt: str, written: str) -> None:
    found = [finding.evidence for finding in STORYBOOK.find([prompt])[0]]  # type: ignore[union-attr]
    assert written in [span.text for span in found]  # type: ignore[union-attr]
    assert all(prompt[span.start : span.end] == span.text for span in found)  # type: ignore[union-attr]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(coded)
def test_every_character_stands_for_a_part_of_the_original(prompt: str) -> None:
    decoded = decode(prompt)
    assert len(decoded.text) == len(decoded.starts) == len(decoded.ends)
    for i in range(len(decoded.text)):
        span = decoded.span(i, i + 1)
        assert 0 <= span.start <= span.end <= len(prompt)
        assert prompt[span.start : span.end] == span.text


@settings(derandomize=True, deadline=None, max_examples=60)
@given(coded, coded)
def test_spans_of_decoded_prompts_point_into_the_original(before: str, after: str) -> None:
    prompt = f"{before} kni&#102;e {after}"
    (findings,) = STORYBOOK.find([prompt])
    spans = [finding.evidence for finding in findings]  # type: ignore[union-attr]
    assert all(prompt[span.start : span.end] == span.text for span in spans)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "control", ["\u202e", "\u2067", "\u2069", "\u202c", "<", "<!--", "<a ", "&a", "%", "\\u{"]
)
def test_nesting_and_repeating_end_nowhere_and_lose_nothing(control: str) -> None:
    text = decode(control * 5_000 + "\u202enug").text
    assert text.endswith("gun") or text.startswith("gun")
