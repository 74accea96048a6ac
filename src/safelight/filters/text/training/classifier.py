"""Training of the prompt classifier: first its head, then also the upper half of the encoder's layers.

A small encoder that is fine-tuned on few sources learns their styles instead of harm. Countermeasures are
pairs of texts that differ only in what makes one of them harmful, corrected labels, balanced sources, a
teacher, and misspelt texts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from safelight.filters.text.calibration import Calibration, logit
from safelight.filters.text.classifier import PromptClassifier
from safelight.filters.text.lexicon import Lexicon
from safelight.filters.text.training.calibration_prompts import calibration_prompts
from safelight.filters.text.training.corpus import read_corpus
from safelight.filters.text.training.examples import Examples
from safelight.filters.text.training.folds import Fold, folds
from safelight.filters.text.training.grammar import Text, generate_texts
from safelight.filters.text.training.head import fit_head, losses, minimise
from safelight.filters.text.training.network import CATEGORIES, PromptNetwork, export_onnx
from safelight.filters.text.training.relabelled import relabelled
from safelight.filters.text.training.states import Misspell, TokenStates
from safelight.filters.text.training.targets import Targets
from safelight.filters.text.training.teacher import taught_targets, teacher_embeddings
from safelight.filters.text.training.written import read_written
from safelight.models.files import HASHES, write_hashes
from safelight.training.fit import fit, from_scratch, load_averaged, steps
from safelight.training.processes import device, launch

_VERSION = "5"
_SEED = 1
_TARGETS, _HEAD = "targets.safetensors", "head.safetensors"
_GENERATED_TEXTS = 12_000
# Of each family's harmful and of its harmless texts; more of them are seldom sampled.
_MAX_TEXTS = 8_000
_EMBEDDED_PER_GROUP = 1_500
_BATCH_SIZE = 64
_LEARNING_RATE = 2e-4
# The word list whose matches are further evidence.
_WORDS = "general"
# The share of harmful prompts for which the scores are calibrated.
_PRIOR = 0.15


@dataclass(frozen=True)
class Budget:
    """The size of a training.

    ``generated`` texts come from the grammar; the head is fitted to at most ``embedded`` texts of each group;
    fine-tuning sees ``seen`` texts.
    """

    generated: int = _GENERATED_TEXTS
    embedded: int = _EMBEDDED_PER_GROUP
    seen: int = 288_000

    def scaled(self, share: float) -> Budget:
        return Budget(*(max(128, round(share * n)) for n in (self.generated, self.embedded, self.seen)))


@dataclass(frozen=True)
class Recipe:
    """What a prompt classifier is trained on and from.

    ``data`` is a Parquet file of labelled prompts, or a folder of them. ``encoder`` is the folder of
    all-MiniLM-L6-v2, or of another encoder of its kind. ``teacher`` is the folder of a larger encoder, such
    as all-mpnet-base-v2; without one, labels are learnt as they are. ``share`` scales the size of the
    training.
    """

    data: Path
    encoder: Path
    misspell: Misspell
    teacher: Path | None = None
    share: float = 1.0

    @property
    def budget(self) -> Budget:
        return Budget().scaled(self.share)

    def labelled_texts(self) -> list[Text]:
        """Return the prompts of ``data``, labels corrected, and the packaged ones written for training."""
        return [*relabelled(read_corpus(self.data)), *(each.text for each in read_written())]

    def training_texts(self) -> list[Text]:
        """Return the texts that a classifier is trained on: not too many of a family."""
        return [*_thinned(self.labelled_texts()), *islice(generate_texts(_SEED), self.budget.generated)]

    def work_folder(self, work: Path) -> Path:
        """Return the folder in ``work`` for the intermediate results of this recipe."""
        texts = [(t.prompt, sorted(t.categories), t.family, t.precise) for t in self.training_texts()]
        digest = hashlib.sha256(repr((self.budget, texts)).encode())
        for folder in filter(None, (self.encoder, self.teacher)):
            for name in ("model.safetensors", "tokenizer.json"):
                digest.update((folder / name).read_bytes())
        return work / digest.hexdigest()[:12]


def train_prompt_classifier(recipe: Recipe, out: Path, work: Path) -> None:
    """Train a prompt classifier, calibrate it on the packaged prompts, and write it to the folder ``out``.

    Intermediate results are kept in ``work``: called again with the same ``work``, an interrupted training
    resumes.
    """
    work = recipe.work_folder(work)
    _train_classifier(None, recipe, work)
    _write_classifier(work / "whole", recipe.encoder, out)
    _describe(out, words=_WORDS, calibration=asdict(fit_calibration(PromptClassifier(out))))


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A fold with its held-out texts and their scores.

    ``logits`` are the logits of P(harm) by the ``classifier`` that was trained without these texts;
    ``listed`` are the highest scores of listed words.
    """

    fold: Fold
    classifier: PromptClassifier
    texts: list[Text]
    logits: NDArray[np.float64]
    listed: NDArray[np.float64]


def score_held_out(recipe: Recipe, work: Path) -> list[HeldOut]:
    """Train a classifier without each fold, and score the held-out texts with it and with the word list."""
    texts, held_out = recipe.labelled_texts(), []
    lexicon = Lexicon(_WORDS)
    work = recipe.work_folder(work)
    for fold in folds(texts):
        folder = work / fold.name
        if not (folder / "classifier" / HASHES).exists():
            _train_classifier(fold, recipe, work)
            _write_classifier(folder, recipe.encoder, folder / "classifier")
        classifier = PromptClassifier(folder / "classifier")
        selected = [text for text in texts if fold.holds_out(text)]
        if not (folder / "scores.npy").exists():
            np.save(folder / "scores.npy", classifier.probabilities([text.prompt for text in selected]))
        logits = logit(np.load(folder / "scores.npy"))
        listed = np.array(lexicon.harm_scores([text.prompt for text in selected]))
        held_out.append(HeldOut(fold, classifier, selected, logits, listed))
    return held_out


def fit_calibration(classifier: PromptClassifier) -> Calibration:
    """Fit the calibration of P(harm) on the packaged prompts, for a share of 15 % of harmful prompts.

    This is a logistic regression. The classifier must be without a word list and not calibrated.
    """
    texts = calibration_prompts()
    prompts = [text.prompt for text in texts]
    logits = logit(classifier.probabilities(prompts))
    listed = np.array(Lexicon(_WORDS).harm_scores(prompts))
    harmful = np.array([bool(text.categories) for text in texts])
    return _fit_logistic(np.stack([logits, listed], 1), harmful)


def _fit_logistic(features: NDArray[np.float64], harmful: NDArray[np.bool_]) -> Calibration:
    """Fit a logistic regression to logits and word list scores (N, 2), with a share ``_PRIOR`` of harmful."""
    shares = np.where(harmful, _PRIOR / harmful.sum(), (1 - _PRIOR) / (~harmful).sum())
    x, y, w = (torch.tensor(values, dtype=torch.float64) for values in (features, harmful, shares))
    line = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    minimise(
        [line],
        lambda: functional.binary_cross_entropy_with_logits(x @ line[:2] + line[2], y, w, reduction="sum"),
    )
    return Calibration(*line.tolist())


def _thinned(texts: Sequence[Text]) -> Iterator[Text]:
    """Yield at most ``_MAX_TEXTS`` random texts of every group, in order."""
    groups: dict[tuple[str, bool], list[int]] = {}
    for row, text in enumerate(texts):
        groups.setdefault((text.family, bool(text.categories)), []).append(row)
    rng = np.random.default_rng(_SEED)
    chosen = {row for rows in groups.values() for row in rng.permutation(rows)[:_MAX_TEXTS].tolist()}
    yield from (text for row, text in enumerate(texts) if row in chosen)


def _train_classifier(fold: Fold | None, recipe: Recipe, work: Path) -> None:
    """Train one classifier, on all texts or on those outside of ``fold``."""
    folder = work / (fold.name if fold else "whole")
    folder.mkdir(parents=True, exist_ok=True)
    training = _Training.of(fold, recipe, work)
    if not (folder / _TARGETS).exists():
        _targets(training, recipe, work).save(folder / _TARGETS)
    if not (folder / _HEAD).exists():
        _train_head(training, recipe, folder)
    launch(_fine_tune, fold, recipe, work)


@dataclass(frozen=True, slots=True)
class _Training:
    """The ``texts`` of one training, and the ``states`` of all texts, of which they are those in ``rows``."""

    folder: Path
    texts: list[Text]
    rows: NDArray[np.int64]
    states: TokenStates

    @classmethod
    def of(cls, fold: Fold | None, recipe: Recipe, work: Path) -> Self:
        texts = recipe.training_texts()
        states = TokenStates.of([text.prompt for text in texts], recipe.encoder, recipe.misspell, work)
        rows = [row for row, text in enumerate(texts) if not (fold and fold.holds_out(text))]
        return cls(
            work / (fold.name if fold else "whole"), [texts[row] for row in rows], np.array(rows), states
        )

    def examples(self) -> Examples:
        return Examples(self.texts, Targets.load(self.folder / _TARGETS))


def _targets(training: _Training, recipe: Recipe, work: Path) -> Targets:
    labels = Targets.from_labels(training.texts)
    if not recipe.teacher:
        return labels
    prompts = [text.prompt for text in recipe.training_texts()]
    embedded = teacher_embeddings(recipe.teacher, prompts, work)[training.rows]
    return taught_targets(Examples(training.texts, labels), embedded)


@torch.inference_mode()
def _first_embeddings(training: _Training, rows: NDArray[np.int64], encoder: Path) -> Tensor:
    """Return the embeddings (N, width) of some of the texts by the encoder before training."""
    network = PromptNetwork.from_pretrained(encoder).eval().to(device())
    embedded = torch.empty(len(rows), network.head.in_features)
    own = training.rows[rows]
    order = np.argsort(training.states.lengths[own])
    for part in np.array_split(order, -(-len(order) // _BATCH_SIZE)):
        states, mask = training.states.batch(own[part].tolist())
        embedded[part] = network.upper_embed(states.to(device()), mask.to(device())).cpu()
    return embedded


def _train_head(training: _Training, recipe: Recipe, folder: Path) -> None:
    """Fit the head to the embeddings of the pretrained encoder."""
    examples, rng = training.examples(), np.random.default_rng(_SEED)
    most = recipe.budget.embedded
    rows = np.concatenate([rng.permutation(group)[:most] for group in examples.groups.values()])
    embedded = _first_embeddings(training, rows, recipe.encoder).clone()
    weights = torch.tensor(examples.weights(rows), dtype=torch.float32)
    save_file(fit_head(embedded, examples.targets.of(rows), weights).state_dict(), folder / _HEAD)


def _fine_tune(fold: Fold | None, recipe: Recipe, work: Path) -> None:
    training = _Training.of(fold, recipe, work)
    examples, lengths = training.examples(), training.states.lengths[training.rows]
    network = _with_head(recipe.encoder, training.folder).to(device())
    network.freeze_lower()

    calls = count()

    def loss(rng: np.random.Generator) -> Tensor:
        picked = examples.sample(_BATCH_SIZE, lengths, next(calls), rng)
        versions = training.states.versions(training.rows[picked].tolist(), rng)
        states, mask = training.states.batch(versions)
        logits = network.upper(states.to(device()), mask.to(device()))
        return losses(logits, examples.targets.of(picked)).mean()

    number = steps(recipe.budget.seen, _BATCH_SIZE)
    settings = from_scratch(
        number, _LEARNING_RATE, ema_decay=0.98, checkpoint_every=100, lr_warmup_steps=min(30, number // 2)
    )
    fit(network.train(), loss, settings, training.folder, "fine-tuning", _SEED)


def _with_head(encoder: Path, folder: Path) -> PromptNetwork:
    network = PromptNetwork.from_pretrained(encoder)
    network.head.load_state_dict(load_file(folder / _HEAD))
    return network


def _write_classifier(work: Path, encoder: Path, out: Path) -> None:
    """Write the trained network, not calibrated and without a word list, with all files that it needs."""
    network = _with_head(encoder, work)
    load_averaged(network, work / "fine-tuning.safetensors")
    out.mkdir(parents=True, exist_ok=True)
    export_onnx(network.eval(), out / "model.onnx")
    shutil.copy(encoder / "tokenizer.json", out)
    _describe(out)


def _describe(out: Path, **more: Any) -> None:
    about = {"version": _VERSION, "categories": CATEGORIES, **more}
    (out / "classifier.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    write_hashes(out, "tokenizer.json", "classifier.json")
