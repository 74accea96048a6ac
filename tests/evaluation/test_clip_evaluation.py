from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from safelight.clip import Concepts
from safelight.errors import RequestError
from safelight.evaluation.logistic_regression import fit
from safelight.evaluation.pair_evidence import pair_rates
from safelight.experiments import clip as module
from safelight.experiments.clip import concept_rates, evaluate_clip, pairs, retrieval
from safelight.storybook.hidden_hazards import prompts_without_hazards
from safelight.storybook.scene import Scene
from safelight.storybook.vocabulary import HAZARDS, LABELS, THINGS, descriptions

_WORDS = {word: i for i, label in enumerate(LABELS) for word in THINGS[label].words}


class KnowingClip:
    """An image's and a text's embedding has a number for each thing that is in it, and one for the rest."""

    scale = 20.0
    version = "1"

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = {scene.image.tobytes(): scene for scene in scenes}

    def embed_images(self, images: Sequence[Image.Image]) -> Any:
        shown = [self.scenes[image.tobytes()].objects for image in images]
        return self._rows([{LABELS.index(label) for label in labels} for labels in shown])

    def embed_texts(self, texts: Sequence[str]) -> Any:
        return self._rows([_named(text.lower()) for text in texts])

    def _rows(self, things: Sequence[set[int]]) -> Any:
        rows = np.full((len(things), len(LABELS) + 1), 0.001, np.float32)
        for row, numbers in zip(rows, things, strict=True):
            row[-1] = 0.3
            row[list(numbers) or [-1]] = 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _named(text: str) -> set[int]:
    """Longer words first, each cut out: "kitchen knife" is no knife in a kitchen."""
    found = set()
    for word in sorted(_WORDS, key=len, reverse=True):
        if word in text:
            found.add(_WORDS[word])
            text = text.replace(word, "|")
    return found


@pytest.fixture(scope="module")
def knowing(scenes: list[Scene]) -> Any:
    return KnowingClip(scenes)


def test_who_knows_what_is_there_finds_it_again(knowing: Any, scenes: list[Scene]) -> None:
    images = knowing.embed_images([scene.image for scene in scenes])
    rows = {row.group: row.rate for row in retrieval(knowing, scenes, images)}
    assert all(rate.n == 400 for rate in rows.values())
    # Places and styles it does not know, and several scenes of a hundred show the same thing.
    assert rows["image to full caption"].rate > 0.6
    strangers = images[np.roll(np.arange(len(images)), 200)]
    assert retrieval(knowing, scenes, strangers)[0].rate.rate < 0.1


def test_who_knows_what_is_there_tells_every_concept(knowing: Any, scenes: list[Scene]) -> None:
    images = knowing.embed_images([scene.image for scene in scenes])
    rows, figures = concept_rates(knowing, scenes, images)
    rates = {row.group: row.rate.rate for row in rows}
    assert figures["auroc, mean"] == figures["auroc: knife"] == 1.0
    assert rates["recall"] == 1.0
    assert rates["false positives"] == 0.0


def test_prompts_in_disguise_do_not_name_the_hazard(knowing: Any, scenes: list[Scene]) -> None:
    images = knowing.embed_images([scene.image for scene in scenes])
    texts = [text for scene in scenes for hints, text in prompts_without_hazards(scene) if not hints]
    hazardous = {_WORDS[word] for label in HAZARDS for word in THINGS[label].words}
    named = [_named(text.lower()) & hazardous for text in texts]
    assert sum(map(bool, named)) <= 0.02 * len(texts)  # a misspelt or compound word now and then
    of = pairs(knowing, scenes, images)
    assert len(of.images) == 2 * len(texts) == 2 * (~of.hinted).sum()
    assert 50 < of.there.any(1).sum() < len(of.there)


def test_pairs_are_told_by_the_image_where_it_tells(knowing: Any, scenes: list[Scene]) -> None:
    images = knowing.embed_images([scene.image for scene in scenes])
    of = pairs(knowing, scenes, images)
    concepts = Concepts(knowing, {label: descriptions(label) for label in HAZARDS}, module._HARMLESS)
    rows, figures = pair_rates(concepts, of, of)
    assert all(row.rate.rate > 0.99 for row in rows)
    assert figures["auroc, left out, with its prompt"] == pytest.approx(1, abs=1e-3)


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    signs = np.column_stack([rng.normal(size=(500, 2)), np.ones(500)])
    there = rng.random(500) < 1 / (1 + np.exp(-signs @ [2, -1, 0.5]))
    reference = LogisticRegression(C=1e3, tol=1e-10, fit_intercept=False).fit(signs, there)
    assert fit(signs, there) == pytest.approx(reference.coef_[0], abs=1e-4)


def test_results_say_how_to_repeat_them(
    knowing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenes: list[Scene]
) -> None:
    monkeypatch.setattr(module, "AMONG", 10)
    monkeypatch.setattr(module, "load_clip", lambda model: knowing)
    monkeypatch.setattr(module, "_FITTED_ON", 9100)
    results = evaluate_clip(tmp_path, scenes=300, seed=9100)
    assert results["command"] == "safelight evaluate clip --scenes 300 --seed 9100"
    assert set(results["tables"]) == {"retrieval", "concepts", "pairs"}
    assert (tmp_path / "results.json").is_file()


def test_few_scenes_say_nothing(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="at least 1000"):
        evaluate_clip(tmp_path, scenes=999)
