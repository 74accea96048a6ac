from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safelight.errors import FilterError, ModelError
from safelight.filters.text.classifier import PromptClassifier, _heaviest_run, _Window, _WindowScores
from safelight.models.files import write_hashes
from safelight.types import Finding, Span


@pytest.fixture(scope="module")
def classifier(knives: Path) -> PromptClassifier:
    return PromptClassifier(knives)


def spans(answer: object) -> dict[str, Span]:
    assert isinstance(answer, list)
    return {finding.label: finding.evidence for finding in answer}


def test_the_likeliest_category_has_the_probability_of_harm(classifier: PromptClassifier) -> None:
    # Seven tokens with the two ends: one adds 14 sqrt(7), six add -14 / sqrt(7); the bias is 1.
    logit = (14 * math.sqrt(7) - 6 * 14 / math.sqrt(7)) / 7 + 1
    illegal = (14 * math.sqrt(7) - 6 * 14 / math.sqrt(7)) / 7 + 1
    harm = 1 / (1 + math.exp(-logit))
    ((*findings,),) = classifier.find(["a man with a knife"])
    scores = {finding.label: finding.score for finding in findings}
    assert scores["violence"] == pytest.approx(harm, abs=0.02)
    assert scores["illegal"] == pytest.approx(harm / (1 + math.exp(-illegal)), abs=0.02)
    assert set(scores) == {"violence", "illegal"}
    assert classifier.probabilities(["a man with a knife"])[0] == pytest.approx(harm, abs=0.02)


def test_hidden_words_raise_the_odds_five_times(classifier: PromptClassifier) -> None:
    plain, hidden = classifier.probabilities(["a man with a knife", "a man with a kn1fe"]).tolist()
    assert hidden / (1 - hidden) == pytest.approx(5 * plain / (1 - plain), rel=1e-3)
    possessive, technical = classifier.probabilities(
        ["a man with a knife's", "a man with a knife f/1.4"]
    ).tolist()
    assert possessive <= plain
    assert technical <= plain
    name, harmless = classifier.probabilities(["a man with a dgo", "a man with a dog"]).tolist()
    assert name == harmless
    looks_alike, unseen = classifier.probabilities(
        ["a man with a knіfe", "a man with a kn\u200bife"]
    ).tolist()
    assert looks_alike == unseen == plain


def test_listed_words_are_further_evidence(knives: Path, tmp_path: Path) -> None:
    """With odds of 1 for the list's full weight of 4: log odds rise by 4 · 0.5."""
    words = tmp_path / "words.toml"
    words.write_text('version = "3"\n[labels]\nviolence = ["dog"]\n[scores]\ndog = 0.5\n')
    folder = Path(shutil.copytree(knives, tmp_path / "both"))
    about = json.loads((folder / "classifier.json").read_text())
    about |= {"words": str(words), "calibration": {"slope": 1.0, "words": 4.0, "shift": 0.0}}
    (folder / "classifier.json").write_text(json.dumps(about))
    write_hashes(folder, "tokenizer.json", "classifier.json")
    alone, both = PromptClassifier(knives), PromptClassifier(folder)
    prompts = ["a knife and a dog", "a knife and bread"]
    before, after = alone.probabilities(prompts), both.probabilities(prompts)
    odds = before / (1 - before)
    assert after[0] == pytest.approx(odds[0] * math.e**2 / (1 + odds[0] * math.e**2), rel=1e-3)
    assert after[1] == pytest.approx(before[1], rel=1e-4)
    assert both.version == "both 7, words 3"


@pytest.mark.parametrize(
    ("prompt", "seen"),
    [
        ("a man with a knife", "knife"),
        ("a man with a kn1fe and a dog", "kn1fe"),
        ("A MAN WITH A ＫＮＩＦＥ", "ＫＮＩＦＥ"),
        ("a man with bread and k.n.i.f.e", "k.n.i.f.e"),
        ("a dog and a knife.", "knife"),
    ],
)
def test_the_words_that_carried_the_score_are_named_as_they_were_written(
    prompt: str, seen: str, classifier: PromptClassifier
) -> None:
    (answer,) = classifier.find([prompt])
    span = spans(answer)["violence"]
    assert span.text == prompt[span.start : span.end] == seen


def test_harmless_words_are_no_finding(classifier: PromptClassifier) -> None:
    assert classifier.find(["a man with bread and a dog"]) == [[]]


def test_a_word_is_found_wherever_it_is_in_a_long_prompt(classifier: PromptClassifier) -> None:
    dogs = ["a dog"] * 300
    for place in (0, 42, 63, 64, 150, 299):
        prompt = ", ".join([*dogs[:place], "knife knife knife knife knife", *dogs[place:]])
        span = spans(classifier.find([prompt])[0])["violence"]
        assert span.text == "knife knife knife knife knife"
        assert span.start == prompt.index("knife")


def test_a_batch_is_answered_as_its_prompts_are_alone(classifier: PromptClassifier) -> None:
    prompts = [" ".join(["a dog and"] * (n % 40)) + " a knife" * (n % 3) + " ." for n in range(200)]
    together = classifier.find(prompts)
    for prompt, answer in list(zip(prompts, together, strict=True))[::17]:
        (alone,) = classifier.find([prompt])
        assert alone == answer


@pytest.mark.parametrize("prompt", ["", " \n\t", "\u200b\u200d", "\u0301\u0301", "\x00", "\ud800"])
def test_what_cannot_be_read_is_never_let_by(prompt: str, classifier: PromptClassifier) -> None:
    (answer,) = classifier.find([prompt])
    assert isinstance(answer, FilterError)
    assert classifier.probabilities([prompt])[0] == 1


def test_a_prompt_that_is_too_long_blocks_itself_alone(classifier: PromptClassifier) -> None:
    characters, tokens, second = classifier.find(["a dog " * 2_000, "., " * 2_000, "a knife"])
    assert isinstance(characters, FilterError)
    assert str(characters) == "the prompt has 12000 characters after normalisation; shorten it to 10000."
    assert isinstance(tokens, FilterError)
    assert str(tokens) == "the prompt has too many tokens after normalisation; shorten it."
    assert isinstance(second, list)
    assert second


def test_what_a_prompt_is_shown_as_is_read_too(classifier: PromptClassifier) -> None:
    plain = classifier.probabilities(["a man with a knife"])[0]
    shown = classifier.probabilities(["a man with a kn&#105;fe", "a man with a kn<b>i</b>fe"])
    assert shown == pytest.approx([plain, plain])
    assert spans(classifier.find(["a kn&#105;fe"])[0])["violence"].text == "kn&#105;fe"


def test_only_windows_with_something_restored_are_read_again(classifier: PromptClassifier) -> None:
    windows = classifier._windows_or_error("a dog and bread " * 100 + "a kn1fe")
    assert isinstance(windows, list)
    assert [window.hidden for window in windows].count(True) == 1
    assert len(windows) > 4


@given(st.text(max_size=60))
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_text_gets_an_answer(classifier: PromptClassifier, text: str) -> None:
    (answer,) = classifier.find([text])
    if isinstance(answer, FilterError):
        return
    for finding in answer:
        assert isinstance(finding, Finding)
        span = finding.evidence
        assert isinstance(span, Span)
        assert text[span.start : span.end] == span.text


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "classifier.json"])
def test_a_file_that_was_altered_is_refused(name: str, knives: Path, tmp_path: Path) -> None:
    shutil.copytree(knives, tmp_path / "copy")
    with (tmp_path / "copy" / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match="was altered"):
        PromptClassifier(tmp_path / "copy")
    (tmp_path / "copy" / name).unlink()
    with pytest.raises(ModelError, match="is missing"):
        PromptClassifier(tmp_path / "copy")


@pytest.mark.parametrize(
    "prompt",
    ["a knife\u12a0", "a \u12a0knife\u12a0 \u12a0", "刀knife刀", "a man with a knife" + "\u0e01" * 200],
)
def test_letters_it_does_not_know_hide_no_word(prompt: str, classifier: PromptClassifier) -> None:
    (answer,) = classifier.find([prompt])
    assert isinstance(answer, list)
    (alone,) = classifier.find([prompt.replace("knife", "dog")])
    assert "violence" in spans(answer)
    assert alone == []


def test_a_window_whose_score_is_no_number_blocks(knives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier, run = PromptClassifier(knives), PromptClassifier._run

    def spoilt(self: PromptClassifier, window: _Window) -> _WindowScores:
        read = run(self, window)
        return replace(read, scores=read.scores * np.nan) if len(window.ids) < 128 else read

    monkeypatch.setattr(PromptClassifier, "_run", spoilt)
    with pytest.raises(ValueError, match="nan"):
        classifier.find(["a dog and " * 100])
    assert np.isnan(classifier.probabilities(["a dog and " * 100])[0])


def test_a_name_nobody_knows_is_refused() -> None:
    with pytest.raises(FilterError, match="prompt classifier"):
        PromptClassifier("generall")


@pytest.mark.parametrize(
    ("weights", "run"),
    [
        ([1.0], (0, 0)),
        ([-3.0, -1.0, -2.0], (1, 1)),
        ([1.0, -5.0, 2.0, 3.0, -1.0], (2, 3)),
        ([2.0, -1.0, 2.0], (0, 2)),
    ],
)
def test_the_heaviest_run(weights: list[float], run: tuple[int, int]) -> None:
    assert _heaviest_run(weights) == run


def test_it_knows_its_version_and_labels(classifier: PromptClassifier, knives: Path) -> None:
    assert classifier.version == f"{knives.name} 7"
    assert "violence" in classifier.labels
