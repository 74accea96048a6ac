"""Heads: classifiers that run on the CLIP embedding of an image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from safelight.clip import ClipModel, Concepts, sigmoid
from safelight.errors import ModelError
from safelight.types import MIN_SCORE, Concept

Floats = NDArray[np.float32]
Signal = tuple[str, float, Concept | None]
_CHECKER_SLOPE = 100.0
# The smallest rounded score that counts as unsafe is 0.001; the decision boundary lies halfway to 0.
_CHECKER_BOUNDARY = 0.0005


class Head(Protocol):
    """A classifier of embeddings.

    ``labels`` are all that it can report, and ``version`` changes whenever its results may change.
    """

    labels: frozenset[str]
    version: str

    def signals(self, embeddings: Floats) -> list[list[Signal]]:
        """Return labels with score and evidence for each of the unit-length embeddings (N, d).

        Scores below 0.05 are left out; NaN never is.
        """
        ...


def _signals_above_minimum(scores: Floats, signal: Callable[[int, int], Signal]) -> list[list[Signal]]:
    """Return, for each row of scores (N, outputs), the signals of those that are not below the minimum.

    The condition is negated so that NaN is not dropped, since the filter must fail on it.
    """
    found: list[list[Signal]] = [[] for _ in scores]
    for row, output in np.argwhere(~(scores < MIN_SCORE)).tolist():
        found[row].append(signal(row, output))
    return found


class ConceptHead:
    """A zero-shot classifier with labels described in words (:class:`safelight.clip.Concepts`).

    The score is sigmoid(slope · log odds + offset), where ``calibration`` is (slope, offset): Platt 1999.
    """

    def __init__(
        self,
        model: ClipModel,
        concepts: Mapping[str, Sequence[str]],
        neutral: Sequence[str],
        calibration: Sequence[float] = (1.0, 0.0),
    ) -> None:
        self.labels = frozenset(concepts)
        settings = [
            {label: list(texts) for label, texts in concepts.items()},
            list(neutral),
            list(calibration),
        ]
        self.version = _hash(json.dumps(settings).encode())
        self._concepts = Concepts(model, concepts, neutral)
        self._slope, self._offset = calibration

    def signals(self, embeddings: Floats) -> list[list[Signal]]:
        seen = self._concepts.compare(embeddings)
        scores = sigmoid(self._slope * seen.log_odds + self._offset)

        def signal(row: int, i: int) -> Signal:
            nearest = self._concepts.description(i, seen.nearest[row, i])
            return (
                self._concepts.labels[i],
                float(scores[row, i]),
                Concept(nearest, float(seen.cosines[row, i])),
            )

        return _signals_above_minimum(scores, signal)


@dataclass(frozen=True, slots=True)
class CheckerScores:
    """Cosines and rounded scores (N, concepts) of the Stable Diffusion safety checker.

    A concept is detected if its score is above 0.
    """

    special_cosines: Floats
    special_scores: Floats
    cosines: Floats
    scores: Floats

    @property
    def unsafe(self) -> NDArray[np.bool_]:
        """Whether the checker would black out each image, (N,)."""
        seen: NDArray[np.bool_] = np.any(self.scores > 0, axis=1)
        return seen


class SafetyChecker:
    """The rule of diffusers' ``StableDiffusionSafetyChecker.forward``, on embeddings of its own CLIP.

    ``folder`` contains its ``model.safetensors``, as in ``CompVis/stable-diffusion-safety-checker``. Raises
    ``ModelError`` if that is missing, or for embeddings of another size. The concepts have no names in the
    file, so they are numbered. Scores of 0.5 or more are exactly those that the checker treats as unsafe;
    scores are ordered correctly but are not probabilities. Special-care concepts only make the others more
    sensitive: they are reported as "special-care".
    """

    def __init__(self, folder: str | Path, dimensions: int, label: str) -> None:
        file = Path(folder) / "model.safetensors"
        tensors = _tensors(file)[0]
        names = ("special_care_embeds", "concept_embeds")
        try:
            self._special, self._concepts = (_unit_rows(tensors[name]) for name in names)
            self._special_thresholds, self._thresholds = (tensors[f"{name}_weights"] for name in names)
        except KeyError as error:
            raise ModelError(f"{file} has no {error}; give the folder of a safety checker.") from error
        _check_size(file, self._concepts.shape[1], dimensions)
        self._label = label
        self.labels = frozenset({label, "special-care"})
        self.version = _hash(file.read_bytes())

    def check(self, embeddings: Floats) -> CheckerScores:
        """Apply the rule to unit-length embeddings (N, d), in single precision, as diffusers does.

        Once a special-care concept is detected, 0.01 is added to the scores of those after it and of all
        other concepts.
        """
        specials, cosines = embeddings @ self._special.T, embeddings @ self._concepts.T
        added = np.zeros(len(embeddings), np.float32)
        columns = []
        for cosine, threshold in zip(specials.T, self._special_thresholds, strict=True):
            columns.append(np.round(cosine - threshold + added, 3))
            added = np.where(columns[-1] > 0, np.float32(0.01), added)
        special_scores = np.stack(columns, 1) if columns else specials
        return CheckerScores(
            specials, special_scores, cosines, np.round(cosines - self._thresholds + added[:, None], 3)
        )

    def signals(self, embeddings: Floats) -> list[list[Signal]]:
        check = self.check(embeddings)
        special = _checker_signals("special-care", "special", check.special_scores, check.special_cosines)
        concepts = _checker_signals(self._label, "concept", check.scores, check.cosines)
        return [[*a, *b] for a, b in zip(special, concepts, strict=True)]


def _checker_signals(label: str, kind: str, scores: Floats, cosines: Floats) -> list[list[Signal]]:
    """Return signals with scores by a sigmoid around the decision boundary.

    It is 0.51 for the smallest rounded score that counts as unsafe, and 0.99 for a rounded score of 0.05.
    """
    odds = sigmoid(_CHECKER_SLOPE * (scores - np.float32(_CHECKER_BOUNDARY)))
    bounded = cosines.clip(-1, 1)
    return _signals_above_minimum(
        odds, lambda row, i: (label, float(odds[row, i]), Concept(f"{kind} {i}", float(bounded[row, i])))
    )


_ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "identity": lambda x: x,
}


class TrainedHead:
    """One or more linear layers in a safetensors file, numbered as by ``torch.nn.Sequential``.

    The tensors are ``0.weight`` (outputs, inputs), ``0.bias``, ``2.weight`` …. The metadata have ``labels``
    (a JSON list with one label per output), ``activation`` between the layers ("relu" by default, or "tanh",
    "sigmoid", "identity"), and ``output``, the function from logits to probabilities: "sigmoid" (by default)
    or "softmax". Raises ``ModelError`` for a file that has another content, or whose hash is not ``sha256``.
    """

    def __init__(self, file: str | Path, dimensions: int, sha256: str | None = None) -> None:
        path = Path(file)
        tensors, about = _tensors(path, sha256)
        numbers = sorted(int(name.removesuffix(".weight")) for name in tensors if _is_weight(name))
        self._layers = [(tensors[f"{n}.weight"], _bias(path, tensors, n)) for n in numbers]
        self._labels = _labels(path, about)
        self._activation = _look_up(path, about.get("activation", "relu"), _ACTIVATIONS)
        self._output = _look_up(
            path, about.get("output", "sigmoid"), {"sigmoid": sigmoid, "softmax": _softmax}
        )
        self._check(path, dimensions)
        self.labels = frozenset(self._labels)
        self.version = _hash(path.read_bytes())

    def _check(self, path: Path, dimensions: int) -> None:
        if not self._layers:
            raise ModelError(f"{path} has no tensor 0.weight; save the layers of a Sequential.")
        widths = [dimensions, *(len(weight) for weight, _ in self._layers)]
        for (weight, bias), width in zip(self._layers, widths, strict=False):
            _check_size(path, weight.shape[1], width)
            _check_size(path, len(bias), len(weight))
        if len(self._labels) != widths[-1]:
            raise ModelError(
                f"{path} has {widths[-1]} outputs and {len(self._labels)} labels; name each one."
            )

    def signals(self, embeddings: Floats) -> list[list[Signal]]:
        x = embeddings
        for number, (weight, bias) in enumerate(self._layers):
            x = (self._activation(x) if number else x) @ weight.T + bias
        scores = self._output(x)
        return _signals_above_minimum(scores, lambda row, i: (self._labels[i], float(scores[row, i]), None))


def _is_weight(name: str) -> bool:
    return name.endswith(".weight") and name.removesuffix(".weight").isdecimal()


def _bias(path: Path, tensors: Mapping[str, Floats], number: int) -> Floats:
    weight = tensors[f"{number}.weight"]
    if weight.ndim != 2:
        raise ModelError(f"the layer {number} of {path} is not linear; use linear layers only.")
    return tensors.get(f"{number}.bias", np.zeros(len(weight), np.float32))


def _labels(path: Path, about: Mapping[str, str]) -> tuple[str, ...]:
    try:
        labels = json.loads(about["labels"])
    except (KeyError, ValueError):
        labels = None
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise ModelError(f"{path} has no labels; add them to its metadata as a JSON list.")
    return tuple(labels)


def _look_up(
    path: Path, name: str, known: Mapping[str, Callable[[Floats], Floats]]
) -> Callable[[Floats], Floats]:
    if name not in known:
        raise ModelError(f'{path} asks for "{name}"; choose one of {", ".join(known)}.')
    return known[name]


def _softmax(logits: Floats) -> Floats:
    odds = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: Floats = odds / odds.sum(1, keepdims=True)
    return probabilities


def _tensors(file: Path, sha256: str | None = None) -> tuple[dict[str, Floats], dict[str, str]]:
    """Return the tensors in single precision, without those of the vision tower, and the metadata."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise ModelError(f"there is no file {file}; give one that exists.")
    if sha256 and hashlib.sha256(file.read_bytes()).hexdigest() != sha256.lower():
        raise ModelError(f"the sha256 of {file} differs from the given one; get the right file.")
    try:
        with safe_open(file, "numpy") as opened:
            expected = [name for name in opened.keys() if not name.startswith("vision_model.")]  # noqa: SIM118
            tensors = {name: opened.get_tensor(name).astype(np.float32) for name in expected}
            return tensors, opened.metadata() or {}
    except (SafetensorError, TypeError, AttributeError) as error:
        raise ModelError(f"{file} is not a safetensors file in fp16 or fp32: {error}.") from error


def _unit_rows(vectors: Floats) -> Floats:
    """Return vectors of unit length; as in ``torch.nn.functional.normalize``, norms are at least 1e-12."""
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))
    return unit


def _check_size(file: Path, found: int, expected: int) -> None:
    if found != expected:
        raise ModelError(
            f"{file} expects {found} dimensions, not {expected}; use the CLIP that it was trained on."
        )


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def load_head(model: ClipModel, entry: str | Path | Mapping[str, Any]) -> TrainedHead:
    """Load an entry of a policy's ``heads``: a file, or a table with ``file`` and optionally ``sha256``."""
    table: dict[str, Any] = {"file": entry} if isinstance(entry, str | Path) else dict(entry)
    if not {"file"} <= table.keys() <= {"file", "sha256"}:
        raise ModelError("the table of a head has the keys file and optionally sha256; remove any others.")
    return TrainedHead(table["file"], model.dimensions, table.get("sha256"))
