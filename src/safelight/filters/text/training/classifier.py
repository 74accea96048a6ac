"""Training of the prompt classifier: linear probing, then fine-tuning, then weight interpolation.

A small encoder that is fine-tuned on few sources overfits to their styles. Countermeasures are texts in many
styles (the grammar), balanced sources, augmentation with spelling attacks, a short training at a low learning
rate, and interpolation with the weights before fine-tuning (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models", eq. 1).
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
from safelight.filters.text.training.examples import Examples, Misspell, PromptTokenizer, pad, target
from safelight.filters.text.training.folds import WEAK, Fold, folds
from safelight.filters.text.training.grammar import Text, generate_texts
from safelight.filters.text.training.network import CATEGORIES, PromptNetwork, export_onnx
from safelight.models.files import HASHES, write_hashes
from safelight.training.fit import fit, from_scratch, load_averaged, steps
from safelight.training.processes import bfloat16_pays, device, launch

_VERSION = "2"
_SEED = 1
_GENERATED_TEXTS = 16_000
_EMBEDDED_PER_GROUP = 1_200
_EMBEDDING_BATCH_SIZE = 64
_HEAD_PENALTY = 1.0
_BATCH_SIZE = 64
_LEARNING_RATE = 3e-5
# The interpolation coefficient: the share of the fine-tuned weights against those of the linear probe.
_INTERPOLATION = 0.75
_SMOOTHING = 0.05
_CATEGORY_WEIGHT = 0.3
# The word list whose matches are further evidence.
_WORDS = "general"
# The share of harmful prompts for which the scores are calibrated.
_PRIOR = 0.15


@dataclass(frozen=True)
class Budget:
    """The size of a training.

    ``written`` texts come from the grammar; the head is fitted to at most ``embedded`` texts of each group;
    fine-tuning sees ``seen`` texts.
    """

    written: int = _GENERATED_TEXTS
    embedded: int = _EMBEDDED_PER_GROUP
    seen: int = 64_000

    def scaled(self, share: float) -> Budget:
        return Budget(*(max(128, round(share * n)) for n in (self.written, self.embedded, self.seen)))


def train_prompt_classifier(
    data: Path, encoder: Path, out: Path, work: Path, misspell: Misspell, share: float = 1.0
) -> None:
    """Train a prompt classifier on the labelled prompts in ``data`` and write it to the folder ``out``.

    ``encoder`` is the folder of all-MiniLM-L6-v2, or of another BERT encoder of its kind. First one
    classifier is trained without each family, to calibrate on held-out sources. Intermediate results are
    kept in ``work``: called again with the same ``work``, an interrupted training resumes.
    """
    calibrated = fit_calibration(score_held_out(data, encoder, work, misspell, share))
    work = work_folder(work, data, encoder, share)
    _train_classifier(None, data, encoder, work, misspell, Budget().scaled(share))
    _write_classifier(work / "whole", encoder, out, {"words": _WORDS, "calibration": asdict(calibrated)})


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


def score_held_out(
    data: Path, encoder: Path, work: Path, misspell: Misspell, share: float = 1.0
) -> list[HeldOut]:
    """Train a classifier without each fold, and score the held-out texts with it and with the word list."""
    texts, held_out = read_corpus(data), []
    lexicon = Lexicon(_WORDS)
    work = work_folder(work, data, encoder, share)
    for fold in folds(texts):
        folder = work / fold.name
        if not (folder / "classifier" / HASHES).exists():
            _train_classifier(fold, data, encoder, work, misspell, Budget().scaled(share))
            _write_classifier(folder, encoder, folder / "classifier", {})
        classifier = PromptClassifier(folder / "classifier")
        selected = [text for text in texts if fold.holds_out(text)]
        if not (folder / "scores.npy").exists():
            np.save(folder / "scores.npy", classifier.probabilities([text.prompt for text in selected]))
        logits = logit(np.load(folder / "scores.npy"))
        listed = np.array(lexicon.harm_scores([text.prompt for text in selected]))
        held_out.append(HeldOut(fold, classifier, selected, logits, listed))
    return held_out


def work_folder(work: Path, data: Path, encoder: Path, share: float) -> Path:
    """Return the folder in ``work`` for intermediate results of this data, encoder and share."""
    read_from = (data, encoder / "model.safetensors", encoder / "tokenizer.json")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in read_from]
    return work / hashlib.sha256(repr((digests, Budget().scaled(share))).encode()).hexdigest()[:12]


def fit_calibration(held_out: Sequence[HeldOut]) -> Calibration:
    """Fit the calibration of P(harm) for a share of 15 % of harmful prompts.

    This is a logistic regression on held-out families. Every family counts the same among the harmful and
    among the benign texts; families with weak labels are left out.
    """
    features, harmful, weights = [], [], []
    for each in held_out:
        if each.fold.harmful in WEAK:
            continue
        sides = np.array([f"{text.family} {bool(text.categories)}" for text in each.texts])
        is_harmful = np.array([bool(text.categories) for text in each.texts])
        for side in sorted(set(sides)):
            selected = sides == side
            features.append(np.stack([each.logits[selected], each.listed[selected]], 1))
            harmful.append(is_harmful[selected])
            weights.append(np.full(selected.sum(), 1 / selected.sum()))
    return _fit_logistic(*map(np.concatenate, (features, harmful, weights)))


def _fit_logistic(
    features: NDArray[np.float64], harmful: NDArray[np.bool_], weights: NDArray[np.float64]
) -> Calibration:
    """Fit a logistic regression to logits and word list scores (N, 2), with a share ``_PRIOR`` of harmful."""
    sums = np.where(harmful, weights[harmful].sum(), weights[~harmful].sum())
    shares = np.where(harmful, _PRIOR, 1 - _PRIOR) * weights / sums
    x, y, w = (torch.tensor(values, dtype=torch.float64) for values in (features, harmful, shares))
    line = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    _minimise(
        [line],
        lambda: functional.binary_cross_entropy_with_logits(x @ line[:2] + line[2], y, w, reduction="sum"),
    )
    return Calibration(*line.tolist())


def _train_classifier(
    fold: Fold | None, data: Path, encoder: Path, work: Path, misspell: Misspell, budget: Budget
) -> None:
    """Train one classifier, on all texts or on those outside of ``fold``."""
    folder = work / (fold.name if fold else "whole")
    if not (folder / "head.safetensors").exists():
        _train_head(_examples(fold, data, encoder, misspell, budget), encoder, budget, folder)
    launch(_fine_tune, fold, data, encoder, folder, misspell, budget)


def _examples(fold: Fold | None, data: Path, encoder: Path, misspell: Misspell, budget: Budget) -> Examples:
    texts = [*read_corpus(data), *islice(generate_texts(_SEED), budget.written)]
    left = [text for text in texts if not (fold and fold.holds_out(text))]
    return Examples(left, PromptTokenizer(encoder), misspell)


def _train_head(examples: Examples, encoder: Path, budget: Budget, folder: Path) -> None:
    """Fit the head: a regularised logistic regression on the embeddings of the pretrained encoder."""
    rng = np.random.default_rng(_SEED)
    rows = np.concatenate([rng.permutation(group)[: budget.embedded] for group in examples.groups.values()])
    network = PromptNetwork.from_pretrained(encoder).eval().to(device())
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
    """Return the mean embedding (N, width) of each prompt by the pretrained encoder."""
    reader = PromptTokenizer(encoder)
    embedded = _embed(
        PromptNetwork.from_pretrained(encoder).eval().to(device()), [reader.ids(p) for p in prompts]
    )
    array: NDArray[np.float32] = embedded.numpy()
    return array


@torch.inference_mode()
def _embed(network: PromptNetwork, ids: Sequence[Sequence[int]]) -> Tensor:
    """Return embeddings (N, width), computed in batches of texts of similar length."""
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    embedded = torch.empty(len(ids), network.head.in_features)
    with torch.autocast(device().type, torch.bfloat16, enabled=bfloat16_pays()):
        for start in range(0, len(order), _EMBEDDING_BATCH_SIZE):
            rows = order[start : start + _EMBEDDING_BATCH_SIZE]
            batch = (part.to(device()) for part in pad([ids[row] for row in rows]))
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
    """Return the loss of each text (N,).

    It is the cross-entropy of harm with label smoothing, plus that of the categories for harmful texts whose
    categories are known.
    """
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
        ids, mask, targets = (t.to(device()) for t in examples.sample_batch(_BATCH_SIZE, rng))
        return _loss(network(ids, mask), targets).mean()

    fit(
        network.train(),
        loss,
        from_scratch(steps(budget.seen, _BATCH_SIZE), _LEARNING_RATE, ema_decay=0.99, checkpoint_every=100),
        folder,
        "fine-tuning",
        _SEED,
    )


def _with_head(encoder: Path, folder: Path) -> PromptNetwork:
    network = PromptNetwork.from_pretrained(encoder)
    network.head.load_state_dict(load_file(folder / "head.safetensors"))
    return network


def _write_classifier(work: Path, encoder: Path, out: Path, calibrated: Mapping[str, Any]) -> None:
    """Write the interpolated network with all files that the filter needs."""
    network = _with_head(encoder, work)
    tuned = load_averaged(_with_head(encoder, work), work / "fine-tuning.safetensors").state_dict()
    first = network.state_dict()
    network.load_state_dict({name: torch.lerp(first[name], tuned[name], _INTERPOLATION) for name in first})
    out.mkdir(parents=True, exist_ok=True)
    export_onnx(network.eval(), out / "model.onnx")
    shutil.copy(encoder / "tokenizer.json", out)
    about = {"version": _VERSION, "categories": CATEGORIES, **calibrated}
    (out / "classifier.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    write_hashes(out, "tokenizer.json", "classifier.json")
