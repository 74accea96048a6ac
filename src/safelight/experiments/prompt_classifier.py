"""Evaluation of the prompt classifier on held-out families of prompts, compared with two baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.evaluation.borderline import borderline_prompts
from safelight.evaluation.command_line import command_line
from safelight.evaluation.results import write_results
from safelight.evaluation.score_cells import Cell, Cells, aurocs, mean_auroc, mean_recall, recall_rows
from safelight.filters.text.calibration import logit
from safelight.filters.text.lexicon import Lexicon
from safelight.filters.text.training.baselines import frozen_embeddings, n_gram_scores, regression_scores
from safelight.filters.text.training.classifier import HeldOut, Recipe, fit_calibration, score_held_out
from safelight.filters.text.training.corpus import corpus_files
from safelight.filters.text.training.grammar import Text

_BORDERLINE = "scary but harmless"
_FEWEST = 50
Scores = NDArray[np.float64]


def evaluate_prompt_classifier(recipe: Recipe, out: Path, work: Path) -> dict[str, Any]:
    """Hold out each family in turn; write ``out / "results.json"`` and return its content.

    A cell compares the harmful prompts of a held-out family with held-out harmless prompts: those of the same
    family, of another family, or those that only sound harmful. The baselines are trained on the same texts,
    except for our own grammar's prompts: character n-grams, and the mean embedding of the frozen encoder,
    both with a penalised logistic regression.
    """
    held_out = score_held_out(recipe, work)
    texts = recipe.labelled_texts()
    prompts = [*(text.prompt for text in texts), *borderline_prompts()]
    embedded = frozen_embeddings(prompts, recipe.encoder, recipe.work_folder(work))
    cells: dict[str, dict[str, Cell]] = {}
    for each in held_out:
        for system, scores in _systems(each, texts, embedded):
            cells.setdefault(system, {}).update(_cells(each, scores))
    figures: dict[str, float | None] = {}
    for system, of in cells.items():
        figures |= {**_means(system, of), **aurocs(system, of)}
    return write_results(
        out / "results.json",
        command_line("prompt-classifier", data="FILE", share=f"{recipe.share:g}"),
        {
            "data sha256": [sha256(file.read_bytes()).hexdigest() for file in corpus_files(recipe.data)],
            "texts": len(texts),
        },
        {system: recall_rows(of) for system, of in cells.items()},
        figures,
    )


def _systems(
    held: HeldOut, texts: Sequence[Text], embedded: Mapping[str, Scores]
) -> Iterator[tuple[str, Scores]]:
    """Yield every system's scores of the held-out texts and then of the borderline prompts.

    Each system is trained on everything that the fold does not hold out.
    """
    seen = [text for text in texts if not held.fold.holds_out(text)]
    known, harmful = [text.prompt for text in seen], [bool(text.categories) for text in seen]
    prompts = [*(text.prompt for text in held.texts), *borderline_prompts()]
    logits = np.concatenate([held.logits, logit(held.classifier.probabilities(borderline_prompts()))])
    listed = np.concatenate([held.listed, Lexicon().harm_scores(borderline_prompts())])
    yield "classifier", fit_calibration(held.classifier).probability(logits, listed)
    yield "its network alone", logits
    yield "word list", listed
    yield "character n-grams", n_gram_scores(known, harmful, prompts)
    rows, prompt_rows = (np.stack([embedded[prompt] for prompt in of]) for of in (known, prompts))
    yield "frozen encoder", regression_scores(rows, harmful, prompt_rows)


def _cells(held: HeldOut, scores: Scores) -> Iterator[tuple[str, Cell]]:
    """Yield a cell of the harmful family with each kind of harmless prompts that has enough prompts."""
    scores, borderline = scores[: len(held.texts)], scores[len(held.texts) :]
    family = np.array([text.family for text in held.texts])
    harmful = np.array([bool(text.categories) for text in held.texts])
    caught = scores[harmful & (family == held.fold.harmful)]
    for benign in (held.fold.harmful, held.fold.benign):
        passed = scores[~harmful & (family == benign)]
        if len(passed) >= _FEWEST:
            yield f"{held.fold.harmful} / {benign}", (caught, passed)
    yield f"{held.fold.harmful} / {_BORDERLINE}", (caught, borderline)


def _means(system: str, cells: Cells) -> dict[str, float]:
    ordinary = {name: cell for name, cell in cells.items() if not name.endswith(_BORDERLINE)}
    borderline = {name: cell for name, cell in cells.items() if name.endswith(_BORDERLINE)}
    return {
        f"{system}: mean AUROC": mean_auroc(ordinary),
        f"{system}: mean recall at 1 %": mean_recall(ordinary),
        f"{system}: mean AUROC, {_BORDERLINE}": mean_auroc(borderline),
    }
