"""Training of the prompt classifier: head first, then gently, and a quarter of the way back.

Fine-tuning a small encoder on few sources teaches it their styles. What counts against that: texts of many
manners (the grammar), no source outweighing another, spelling attacks among them, a short training at a low
rate, and weights averaged with those before it (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models", eq. 1).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from safelight.filters.text.calibration import Calibration, logit
from safelight.filters.text.classifier import PromptClassifier
from safelight.filters.text.lexicon import Lexicon
from safelight.filters.text.training.corpus import read_corpus
from safelight.filters.text.training.examples import Examples, Misspell, Reader, padded, target
from safelight.filters.text.training.folds import WEAK, Fold, folds
from safelight.filters.text.training.grammar import Text, write
from safelight.filters.text.training.network import CATEGORIES, PromptNetwork, export
from safelight.models.files import HASHES, write_hashes
from safelight.training.fit import fit, from_scratch, load_averaged, steps
from safelight.training.processes import bfloat16_pays, device, launch

_VERSION = "2"
_SEED = 1
_WRITTEN = 16_000
_EMBEDDED_OF_A_GROUP = 1_200
_EMBEDDED_AT_ONCE = 64
_HEAD_PENALTY = 1.0
_BATCH = 64
_RATE = 3e-5
# How far to go from the encoder that was given, with a head of its own, to the one that was fine-tuned.
_KEPT = 0.75
_SMOOTHING = 0.05
_CATEGORY_WEIGHT = 0.3
# The word list that is further evidence.
_WORDS = "general"
# The share of harmful prompts for which scores are probabilities.
_PRIOR = 0.15


@dataclass(frozen=True)
class Budget:
    """Texts that the grammar writes, texts of each group for the head, and texts for fine-tuning."""

    written: int = _WRITTEN
    embedded: int = _EMBEDDED_OF_A_GROUP
    seen: int = 64_000

    def scaled(self, share: float) -> Budget:
        return Budget(*(max(128, round(share * n)) for n in (self.written, self.embedded, self.seen)))


def train_prompt_classifier(
    data: Path, encoder: Path, out: Path, work: Path, misspell: Misspell, share: float = 1.0
) -> None:
    """Train on the labelled prompts in ``data`` and write the folder ``out``.

    ``encoder`` is the folder of all-MiniLM-L6-v2, or of another BERT encoder of its kind. Every family is
    first left out once, to calibrate on prompts of sources that were not trained on. ``work`` keeps what is
    done: called again with the same ``work``, training goes on where it stopped.
    """
    calibrated = calibration(leave_out(data, encoder, work, misspell, share))
    work = own_work(work, data, encoder, share)
    _classifier(None, data, encoder, work, misspell, Budget().scaled(share))
    _ship(work / "whole", encoder, out, {"words": _WORDS, "calibration": asdict(calibrated)})


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A fold, its texts, and for each of them the logit of harm by a network trained without them and the
    score of the worst listed word."""

    fold: Fold
    classifier: PromptClassifier
    texts: list[Text]
    logits: NDArray[np.float64]
    listed: NDArray[np.float64]


def leave_out(data: Path, encoder: Path, work: Path, misspell: Misspell, share: float = 1.0) -> list[HeldOut]:
    """For every fold, what a network trained without it says of it, and what the word list does."""
    texts, held_out = read_corpus(data), []
    lexicon = Lexicon(_WORDS)
    work = own_work(work, data, encoder, share)
    for fold in folds(texts):
        folder = work / fold.name
        if not (folder / "classifier" / HASHES).exists():
            _classifier(fold, data, encoder, work, misspell, Budget().scaled(share))
            _ship(folder, encoder, folder / "classifier", {})
        classifier = PromptClassifier(folder / "classifier")
        mine = [text for text in texts if fold.holds_out(text)]
        if not (folder / "scores.npy").exists():
            np.save(folder / "scores.npy", classifier.probabilities([text.prompt for text in mine]))
        logits = logit(np.load(folder / "scores.npy"))
        listed = np.array(lexicon.worst([text.prompt for text in mine]))
        held_out.append(HeldOut(fold, classifier, mine, logits, listed))
    return held_out


def own_work(work: Path, data: Path, encoder: Path, share: float) -> Path:
    """The folder in ``work`` for what comes of this data, encoder and share, and of no other."""
    read_from = (data, encoder / "model.safetensors", encoder / "tokenizer.json")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in read_from]
    return work / hashlib.sha256(repr((digests, Budget().scaled(share))).encode()).hexdigest()[:12]


def calibration(held_out: Sequence[HeldOut]) -> Calibration:
    """What makes P(harm) right where 15 % of all prompts are harmful.

    A logistic fit to families that were not trained on, every family of a side alike; those whose labels
    are weak are left out.
    """
    features, harmful, weights = [], [], []
    for each in held_out:
        if each.fold.harmful in WEAK:
            continue
        sides = np.array([f"{text.family} {bool(text.categories)}" for text in each.texts])
        is_harmful = np.array([bool(text.categories) for text in each.texts])
        for side in sorted(set(sides)):
            mine = sides == side
            features.append(np.stack([each.logits[mine], each.listed[mine]], 1))
            harmful.append(is_harmful[mine])
            weights.append(np.full(mine.sum(), 1 / mine.sum()))
    return _logistic(*map(np.concatenate, (features, harmful, weights)))


def _logistic(
    features: NDArray[np.float64], harmful: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Calibration:
    """The likeliest, with the harmful weighing ``_PRIOR`` of all, for logits and listed words (N, 2)."""
    sums = np.where(harmful, weights[harmful].sum(), weights[~harmful].sum())
    shares = np.where(harmful, _PRIOR, 1 - _PRIOR) * weights / sums
    x, y, w = (torch.tensor(values, dtype=torch.float64) for values in (features, harmful, shares))
    line = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    _minimise(
        [line],
        lambda: functional.binary_cross_entropy_with_logits(x @ line[:2] + line[2], y, w, reduction="sum"),
    )
    return Calibration(*line.tolist())


def _classifier(
    fold: Fold | None, data: Path, encoder: Path, work: Path, misspell: Misspell, budget: Budget
) -> None:
    """Train one, on all texts or on those that ``fold`` leaves in."""
    folder = work / (fold.name if fold else "whole")
    if not (folder / "head.safetensors").exists():
        _train_head(_examples(fold, data, encoder, misspell, budget), encoder, budget, folder)
    launch(_fine_tune, fold, data, encoder, folder, misspell, budget)


def _examples(fold: Fold | None, data: Path, encoder: Path, misspell: Misspell, budget: Budget) -> Examples:
    texts = [*read_corpus(data), *islice(write(_SEED), budget.written)]
    left = [text for text in texts if not (fold and fold.holds_out(text))]
    return Examples(left, Reader(encoder), misspell)


def _train_head(examples: Examples, encoder: Path, budget: Budget, folder: Path) -> None:
    """A penalised logistic regression on the embeddings of the encoder as it was given."""
    rng = np.random.default_rng(_SEED)
    rows = np.concatenate([rng.permutation(group)[: budget.embedded] for group in examples.groups.values()])
    network = PromptNetwork.on(encoder).eval().to(device())
    embedded = _embed(network, [examples.reader.ids(examples.texts[row].prompt) for row in rows]).clone()
    targets = torch.tensor(np.stack([target(examples.texts[row]) for row in rows]))
    weights = torch.tensor(examples.weights(rows), dtype=torch.float32)
    head = nn.Linear(embedded.shape[1], targets.shape[1])
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)

    def loss() -> Tensor:
        penalty = _HEAD_PENALTY * head.weight.pow(2).sum() * embedded.pow(2).sum(1).mean() / 2
        return (_loss(head(embedded), targets) * weights).mean() + penalty / len(rows)

    _minimise(list(head.parameters()), loss)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(head.state_dict(), folder / "head.safetensors")


def embeddings(encoder: Path, prompts: Sequence[str]) -> NDArray[np.float32]:
    """The mean embedding (N, width) of each prompt, by the encoder as it was given."""
    reader = Reader(encoder)
    embedded = _embed(PromptNetwork.on(encoder).eval().to(device()), [reader.ids(p) for p in prompts])
    array: NDArray[np.float32] = embedded.numpy()
    return array


@torch.inference_mode()
def _embed(network: PromptNetwork, ids: Sequence[Sequence[int]]) -> Tensor:
    """(N, width); texts of like length together."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    embedded = torch.empty(len(ids), network.head.in_features)
    with torch.autocast(device().type, torch.bfloat16, enabled=bfloat16_pays()):
        for start in range(0, len(order), _EMBEDDED_AT_ONCE):
            rows = order[start : start + _EMBEDDED_AT_ONCE]
            batch = (part.to(device()) for part in padded([ids[row] for row in rows]))
            embedded[rows] = network.embed(*batch).cpu()
    return embedded


def _minimise(parameters: list[Tensor], loss_of: Callable[[], Tensor]) -> None:
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    optimiser.step(closure)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Of each text (N,): harm, softened, and which kind of it where that is known of a harmful one."""
    softened = targets[:, 0] * (1 - 2 * _SMOOTHING) + _SMOOTHING
    harm = functional.binary_cross_entropy_with_logits(logits[:, 0], softened, reduction="none")
    kinds = functional.binary_cross_entropy_with_logits(logits[:, 1:], targets[:, 1:], reduction="none")
    known = targets[:, 1:].any(1)
    return harm + _CATEGORY_WEIGHT * kinds.mean(1) * known


def _fine_tune(
    fold: Fold | None, data: Path, encoder: Path, folder: Path, misspell: Misspell, budget: Budget
) -> None:
    examples = _examples(fold, data, encoder, misspell, budget)
    network = _with_head(encoder, folder).to(device())
    network.encoder.embeddings.requires_grad_(False)

    def loss(rng: np.random.Generator) -> Tensor:
        ids, mask, targets = (t.to(device()) for t in examples.draw(_BATCH, rng))
        return _loss(network(ids, mask), targets).mean()

    fit(
        network.train(),
        loss,
        from_scratch(steps(budget.seen, _BATCH), _RATE, ema_decay=0.99, checkpoint_every=100),
        folder,
        "fine-tuning",
        _SEED,
    )


def _with_head(encoder: Path, folder: Path) -> PromptNetwork:
    network = PromptNetwork.on(encoder)
    network.head.load_state_dict(load_file(folder / "head.safetensors"))
    return network


def _ship(work: Path, encoder: Path, out: Path, calibrated: Mapping[str, Any]) -> None:
    """The average of both networks, with what the filter needs beside it."""
    network = _with_head(encoder, work)
    tuned = load_averaged(_with_head(encoder, work), work / "fine-tuning.safetensors").state_dict()
    first = network.state_dict()
    network.load_state_dict({name: torch.lerp(first[name], tuned[name], _KEPT) for name in first})
    out.mkdir(parents=True, exist_ok=True)
    export(network.eval(), out / "model.onnx")
    shutil.copy(encoder / "tokenizer.json", out)
    about = {"version": _VERSION, "categories": CATEGORIES, **calibrated}
    (out / "classifier.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    write_hashes(out, "tokenizer.json", "classifier.json")
