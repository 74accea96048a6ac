"""Evaluation of a CLIP model on new renders: retrieval, detection of concepts, and unnamed hazards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.clip import NEUTRAL, ClipModel, Concepts, load_clip
from safelight.errors import RequestError
from safelight.evaluation.command_line import command_line
from safelight.evaluation.detection import flags, label_aurocs, score_rows, share
from safelight.evaluation.pair_evidence import Pairs, pair_rates
from safelight.evaluation.results import write_results
from safelight.evaluation.retrieval import AMONG, retrieval_rows
from safelight.evaluation.run import Progress
from safelight.evaluation.tables import Row
from safelight.storybook.hidden_hazards import prompts_without_hazards
from safelight.storybook.scene import Scene, Storybook
from safelight.storybook.vocabulary import HAZARDS, LABELS, descriptions, with_article

Floats = NDArray[np.float32]

_CHUNK = 64
# The seed of the scenes on which weights are fitted; the evaluated scenes have another seed.
_FITTED_ON = 8000
# The texts with which concepts are compared: all objects of the vocabulary.
_THINGS = tuple(f"a picture of {with_article(label)}" for label in LABELS)
_HARMLESS = tuple(f"a picture of {with_article(label)}" for label in LABELS if label not in HAZARDS)


def evaluate_clip(
    out: Path,
    scenes: int = 5000,
    seed: int = 9000,
    model: str = "storybook",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the CLIP ``model`` on scenes 0 to ``scenes`` of the storybook ``seed``.

    Writes ``results.json`` in ``out`` and returns its content. Raises ``RequestError`` for fewer than 1,000
    scenes, ``ModelError`` if the model is missing.
    """
    if scenes < 10 * AMONG:
        raise RequestError(f"the number of scenes is at least {10 * AMONG}, not {scenes}.")
    clip = load_clip(model)
    shown, fitting = (list(Storybook(of).scenes(scenes)) for of in (seed, _FITTED_ON))
    images, fitting_images = (_embed(clip, of, progress) for of in (shown, fitting))
    concept_rows, concept_figures = concept_rates(clip, shown, images)
    hazards = Concepts(clip, {label: descriptions(label) for label in HAZARDS}, _HARMLESS)
    fitted_to, judged = pairs(clip, fitting, fitting_images), pairs(clip, shown, images)
    pair_rows, pair_figures = pair_rates(hazards, fitted_to, judged)
    return write_results(
        out / "results.json",
        command_line("clip", scenes=scenes, seed=seed),
        {"model": clip.version, "scenes": scenes, "seed": seed, "weights fitted on seed": _FITTED_ON},
        {"retrieval": retrieval(clip, shown, images), "concepts": concept_rows, "pairs": pair_rows},
        {**concept_figures, **pair_figures},
    )


def _embed(clip: ClipModel, scenes: Sequence[Scene], progress: Progress | None) -> Floats:
    rows = []
    for start in range(0, len(scenes), _CHUNK):
        rows.append(clip.embed_images([scene.image for scene in scenes[start : start + _CHUNK]]))
        if progress:
            progress(min(start + _CHUNK, len(scenes)), len(scenes))
    return np.concatenate(rows)


def retrieval(clip: ClipModel, scenes: Sequence[Scene], images: Floats) -> list[Row]:
    """Return the retrieval accuracy among a hundred candidates, for both kinds of captions."""
    captions = {"full caption": 0, "as people write": 1}
    texts = {kind: [scene.captions[i] for scene in scenes] for kind, i in captions.items()}
    return [
        row for kind, of in texts.items() for row in retrieval_rows(kind, of, clip.embed_texts(of), images)
    ]


def concept_rates(
    clip: ClipModel, scenes: Sequence[Scene], images: Floats
) -> tuple[list[Row], dict[str, float | None]]:
    """Return how well objects are detected by their seen synonyms: rates at a score of 0.5, and AUROC.

    The synonyms are compared with all objects of the vocabulary, and with the default neutral texts of
    filters.
    """
    concepts = {label: descriptions(label) for label in LABELS}
    odds, plain = (Concepts(clip, concepts, texts).compare(images).log_odds for texts in (_THINGS, NEUTRAL))
    there = flags((scene.objects for scene in scenes), LABELS)
    rows = []
    for name, seen in (("", odds >= 0), (" against the default texts", plain >= 0)):
        rows += [*share(f"recall{name}", seen[there]), *share(f"false positives{name}", seen[~there])]
    areas, plain_areas = label_aurocs(odds, there, LABELS), label_aurocs(plain, there, LABELS)
    figures: dict[str, float | None] = {
        "auroc, mean": fmean(areas.values()),
        "auroc, mean, against the default texts": fmean(plain_areas.values()),
        **{f"auroc: {label}": area for label, area in areas.items()},
    }
    return [*rows, *score_rows(odds, there, LABELS, threshold=0.0)], figures


def pairs(clip: ClipModel, scenes: Sequence[Scene], images: Floats) -> Pairs:
    """Return the images that show more than hazards, each with two prompts.

    One prompt leaves the hazards out, the other hints at them.
    """
    prompts = [(row, *each) for row, scene in enumerate(scenes) for each in prompts_without_hazards(scene)]
    rows, hinted, texts = (list(column) for column in zip(*prompts, strict=True))
    there = flags((scenes[row].objects for row in rows), list(HAZARDS))
    return Pairs(images[rows], clip.embed_texts(texts), there, np.array(hinted))
