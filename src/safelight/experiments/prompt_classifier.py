"""How well the prompt classifier does on families that it was never trained on, beside two baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.attacks.spelling import misspell_somehow
from safelight.errors import MissingExtraError
from safelight.evaluation.rates import at_false_positives, auroc
from safelight.evaluation.results import write_results
from safelight.evaluation.tables import Row
from safelight.experiments.borderline_prompts import borderline_prompts
from safelight.filters.text.calibration import Calibration, logit
from safelight.filters.text.lexicon import Lexicon
from safelight.filters.text.training.classifier import (
    HeldOut,
    embeddings,
    fit_calibration,
    score_held_out,
    work_folder,
)
from safelight.filters.text.training.corpus import read_corpus
from safelight.filters.text.training.folds import WEAK
from safelight.filters.text.training.grammar import Text

_SCARY = "scary but harmless"
_FALSE_POSITIVES = 0.01
_FEWEST = 50
_Scores = NDArray[np.float64]
# A system's scores of the held-out texts, and of those that only sound harmful.
_Scored = tuple[_Scores, _Scores]
# Scores of harmful and of harmless prompts.
_Cell = tuple[_Scores, _Scores]


def evaluate_prompt_classifier(
    data: Path, encoder: Path, out: Path, work: Path, share: float = 1.0
) -> dict[str, Any]:
    """Leave every family out in turn; write ``out / "results.json"`` and give what it holds.

    A cell is a family's harmful prompts against the harmless ones of a family, neither trained on: of
    itself, of another, or those that only sound harmful. Baselines see the same texts, without the grammar
    that is ours: character n-grams, and the mean embedding of the frozen encoder, both with a penalised
    logistic regression. Families with weak labels count in no mean.
    """
    held_out = score_held_out(data, encoder, work, misspell_somehow, share)
    calibrated = fit_calibration(held_out)
    texts = read_corpus(data)
    embedded = _embedded(texts, encoder, work_folder(work, data, encoder, share))
    lexicon = Lexicon()
    cells: dict[str, dict[str, _Cell]] = {}
    for each in held_out:
        for system, scored in _systems(each, texts, embedded, lexicon, calibrated):
            cells.setdefault(system, {}).update(_cells(each, *scored))
    tables = {system: [_recall(name, cell) for name, cell in of.items()] for system, of in cells.items()}
    figures: dict[str, float | None] = {}
    for system, of in cells.items():
        figures |= _means(system, of)
        figures |= {f"{system}: AUROC {name}": auroc(*cell) for name, cell in of.items()}
    command = f"safelight evaluate prompt-classifier --data FILE --share {share:g}"
    run = {
        "data sha256": sha256(data.read_bytes()).hexdigest(),
        "texts": len(texts),
        "calibration": asdict(calibrated),
    }
    return write_results(out / "results.json", command, run, tables, figures)


def _systems(
    held: HeldOut,
    texts: Sequence[Text],
    embedded: Mapping[str, _Scores],
    lexicon: Lexicon,
    calibrated: Calibration,
) -> Iterator[tuple[str, _Scored]]:
    """Every system's scores; what it learns from is all that the fold does not hold out."""
    seen = [text for text in texts if not held.fold.holds_out(text)]
    harmful = [bool(text.categories) for text in seen]
    asked = [text.prompt for text in held.texts]
    prompts = [*asked, *borderline_prompts()]

    def split(scores: _Scores) -> _Scored:
        return scores[: len(asked)], scores[len(asked) :]

    logits = np.concatenate([held.logits, logit(held.classifier.probabilities(borderline_prompts()))])
    listed = np.concatenate([held.listed, lexicon.harm_scores(borderline_prompts())])
    yield "classifier", split(calibrated.probability(logits, listed))
    yield "its network alone", split(logits)
    yield "word list", split(listed)
    yield "character n-grams", split(_n_grams([text.prompt for text in seen], harmful, prompts))
    known = np.stack([embedded[text.prompt] for text in seen])
    yield "frozen encoder", split(_regression(known, harmful, np.stack([embedded[p] for p in prompts])))


def _regression(known: Any, harmful: Sequence[bool], asked: Any, c: float = 0.3) -> _Scores:
    linear = _sklearn("linear_model").LogisticRegression(C=c, max_iter=1000).fit(known, harmful)
    scores: _Scores = linear.decision_function(asked)
    return scores


def _n_grams(known: Sequence[str], harmful: Sequence[bool], asked: Sequence[str]) -> _Scores:
    counts = _sklearn("feature_extraction.text").TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), min_df=3, sublinear_tf=True, max_features=300_000
    )
    return _regression(counts.fit_transform(known), harmful, counts.transform(asked), c=1.0)


def _sklearn(module: str) -> Any:
    try:
        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise MissingExtraError("Comparing with baselines", "dev") from error


def _embedded(texts: Sequence[Text], encoder: Path, work: Path) -> dict[str, _Scores]:
    """Of every prompt the embedding of the encoder as it was given, of length one; kept in ``work``."""
    prompts = [*(text.prompt for text in texts), *borderline_prompts()]
    path = work / f"embeddings-{len(prompts)}.npy"
    if not path.exists():
        np.save(path, embeddings(encoder, prompts))
    rows = np.load(path)
    return dict(zip(prompts, rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True))


def _cells(held: HeldOut, scores: _Scores, scary: _Scores) -> Iterator[tuple[str, _Cell]]:
    """The harmful family against each kind of harmless prompts, where there are enough."""
    family = np.array([text.family for text in held.texts])
    harmful = np.array([bool(text.categories) for text in held.texts])
    caught = scores[harmful & (family == held.fold.harmful)]
    for benign in (held.fold.harmful, held.fold.benign):
        passed = scores[~harmful & (family == benign)]
        if len(passed) >= _FEWEST:
            yield f"{held.fold.harmful} / {benign}", (caught, passed)
    yield f"{held.fold.harmful} / {_SCARY}", (caught, scary)


def _recall(name: str, cell: _Cell) -> Row:
    return Row(name, at_false_positives(*cell, _FALSE_POSITIVES).recall)


def _means(system: str, cells: Mapping[str, _Cell]) -> dict[str, float]:
    """Over families whose labels are not weak."""
    counted = {name: cell for name, cell in cells.items() if name.split(" / ")[0] not in WEAK}
    ordinary = [cell for name, cell in counted.items() if not name.endswith(_SCARY)]
    scary = [cell for name, cell in counted.items() if name.endswith(_SCARY)]
    return {
        f"{system}: mean AUROC": mean(auroc(*cell) for cell in ordinary),
        f"{system}: mean recall at 1 %": mean(
            at_false_positives(*cell, _FALSE_POSITIVES).recall.rate for cell in ordinary
        ),
        f"{system}: mean AUROC, {_SCARY}": mean(auroc(*cell) for cell in scary),
    }
