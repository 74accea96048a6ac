"""Baselines that a prompt classifier is compared with: linear models of n-grams and of a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.errors import MissingExtraError
from safelight.filters.text.training.embeddings import embeddings

Scores = NDArray[np.float64]


def n_gram_scores(known: Sequence[str], harmful: Sequence[bool], asked: Sequence[str]) -> Scores:
    """Return the scores of ``asked`` by a logistic regression on character n-grams of ``known`` prompts."""
    counts = _sklearn("feature_extraction.text").TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), min_df=3, sublinear_tf=True, max_features=300_000
    )
    return regression_scores(counts.fit_transform(known), harmful, counts.transform(asked), c=1.0)


def regression_scores(known: Any, harmful: Sequence[bool], asked: Any, c: float = 0.3) -> Scores:
    """Return the scores of ``asked`` by a penalised logistic regression on the rows of ``known``."""
    linear = _sklearn("linear_model").LogisticRegression(C=c, max_iter=1000).fit(known, harmful)
    scores: Scores = linear.decision_function(asked)
    return scores


def frozen_embeddings(prompts: Sequence[str], encoder: Path, work: Path) -> dict[str, Scores]:
    """Return the embedding of each prompt by the encoder before training, of length one; kept in ``work``."""
    path = work / f"embeddings-{len(prompts)}.npy"
    if not path.exists():
        np.save(path, embeddings(encoder, prompts))
    rows = np.load(path)
    return dict(zip(prompts, rows / np.linalg.norm(rows, axis=1, keepdims=True), strict=True))


def _sklearn(module: str) -> Any:
    try:
        return import_module(f"sklearn.{module}")
    except ImportError as error:
        raise MissingExtraError("Comparing with baselines", "dev") from error
