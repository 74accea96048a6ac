"""Unified Concept Editing: the layers that read the text are solved for in closed form.

All layers of one input are multiplied by the same matrix: with W_o g for the value that a concept's state c
is to have, eq. 7 of Gandikota et al. (2024, arXiv:2308.14761) is W = W_o M,

    M = (λI + w_e Σ g cᵀ + w_p Σ p pᵀ) (λI + w_e Σ c cᵀ + w_p Σ p pᵀ)⁻¹,

over what is erased, c, and what is kept, p. It is solved once, in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from safelight.alignment.delta.delta import Delta, Provenance, part_sha256
from safelight.alignment.diffusion.parameters import parameters
from safelight.alignment.method.concept_names import check_apart, check_names, check_templates, names_of
from safelight.errors import RequestError, no_such
from safelight.models.denoiser import Denoiser, Words, denoiser_of
from safelight.models.pipelines import name_of

if TYPE_CHECKING:
    from torch import Tensor

Tokens = Literal["last", "words", "end"]
TOKENS: tuple[Tokens, ...] = get_args(Tokens)
TEMPLATES = ("{}", "image of {}", "photo of {}", "portrait of {}", "picture of {}", "painting of {}")

# A text, with {} for the name, and the name.
_Pair = tuple[str, str]

_BATCH = 64

# What transformers read the text with: from its tokens, and from all of it.
_EMBEDDERS = {
    "encoder_hidden_states": "context_embedder.weight",
    "pooled_projections": "time_text_embed.text_embedder.linear_1.weight",
}


@dataclass(frozen=True)
class UCE:
    """Makes every one of ``concepts`` mean ``target``, or with "" nothing, and ``preserve`` what it meant.

    With ``add`` it goes on meaning what it meant, and so much of each of these words besides (of less than
    nothing, less of it), as ``Debias`` finds out.

    A concept can have several names, between commas: each is edited in every one of ``templates``. ``tokens``
    says at which of their states: the ``last`` of the name, all ``words`` of it, and the ``end`` of the text
    with what fills it up. ``erase_weight``, ``preserve_weight`` and ``ridge`` are w_e, w_p and λ.

    Raises ``RequestError`` for settings that make no sense.
    """

    concepts: Sequence[str]
    target: str = ""
    preserve: Sequence[str] = ()
    templates: Sequence[str] = TEMPLATES
    tokens: Sequence[Tokens] = ("last",)
    erase_weight: float = 1.0
    preserve_weight: float = 1.0
    ridge: float = 0.5
    add: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(self)

    def edit(self, pipe: Any) -> Delta:
        """The delta that makes the edit; ``pipe`` stays as it is.

        Raises ``RequestError`` for a concept that the model cannot read, ``ModelError`` for a pipeline whose
        layers are not known, or if nothing would be changed.
        """
        denoiser = denoiser_of(pipe)
        check_names((*self.concepts, *self.preserve, self.target, *self.add), pipe)
        layers = _layers(denoiser)
        matrices = {reads: self._matrix(denoiser, reads) for reads in layers}
        differences = {
            f"{denoiser.component}.{name}": _multiplied(weight, matrices[reads])
            for reads, weights in layers.items()
            for name, weight in weights.items()
        }
        base = {denoiser.component: part_sha256(pipe, denoiser.component)}
        about = Provenance("uce", tuple(self.concepts), name_of(pipe), base, asdict(self))
        return Delta.of(differences, about)

    def _matrix(self, denoiser: Denoiser, reads: str) -> Tensor:
        import torch

        states = _States(denoiser, reads)
        pairs = self._pairs(self.concepts)
        erased, kept = states.of(pairs, self.tokens), self._pairs(self.preserve)
        return closed_form(
            erased,
            self._meant(states, pairs, erased),
            torch.cat([states.nothing(), states.of(kept, self.tokens)]) if kept else states.nothing(),
            self.erase_weight,
            self.preserve_weight,
            self.ridge,
        )

    def _pairs(self, concepts: Sequence[str]) -> list[_Pair]:
        names = [name for concept in concepts for name in names_of(concept)]
        return [(template, name) for name in names for template in self.templates]

    def _meant(self, states: _States, pairs: Sequence[_Pair], before: Tensor) -> Tensor:
        if not self.add:
            return states.instead(pairs, self.target, self.tokens)
        return before + sum(
            share * states.instead(pairs, word, self.tokens) for word, share in self.add.items()
        )


def closed_form(
    erased: Tensor, meant: Tensor, kept: Tensor, erase_weight: float, preserve_weight: float, ridge: float
) -> Tensor:
    """M, (C, C) in float64, of states ``erased`` and what they are to mean, (n, C), and ``kept``, (m, C)."""
    import torch

    c, g, p = (states.double() for states in (erased, meant, kept))
    common = ridge * torch.eye(c.shape[1], dtype=torch.float64, device=c.device) + preserve_weight * p.T @ p
    wanted, seen = common + erase_weight * g.T @ c, common + erase_weight * c.T @ c
    matrix: Tensor = torch.linalg.solve(seen, wanted, left=False)
    return matrix


def _multiplied(weight: Tensor, matrix: Tensor) -> Tensor:
    """By how much W_o M differs from W_o."""
    before = weight.detach().double()
    return (before @ matrix.to(before) - before).float()


def _layers(denoiser: Denoiser) -> dict[str, dict[str, Tensor]]:
    """By the argument that they read, the weights of the layers by name."""
    every = dict(denoiser.module.named_parameters())
    if embedders := {reads: name for reads, name in _EMBEDDERS.items() if name in every}:
        return {reads: {name: every[name]} for reads, name in embedders.items()}
    keys_and_values = parameters(denoiser.module, "esd-x-strict")
    return {"encoder_hidden_states": {n: w for n, w in keys_and_values.items() if n.endswith(".weight")}}


class _States:
    """The states of texts, of one argument; those of no text stand for nothing."""

    def __init__(self, denoiser: Denoiser, reads: str) -> None:
        self._denoiser = denoiser
        self._reads = reads

    def of(self, pairs: Sequence[_Pair], tokens: Sequence[Tokens]) -> Tensor:
        """(n, C). Of many texts only these states are kept."""
        import torch

        rows = []
        for start in range(0, len(pairs), _BATCH):
            batch = pairs[start : start + _BATCH]
            encoded = self._encoded([template.format(name) for template, name in batch])
            for states, (template, name) in zip(encoded, batch, strict=True):
                if states.ndim == 1:
                    rows.append(states[None])
                else:
                    rows += [
                        states[self._places(each, template, name, tokens)] for each in self._words(states)
                    ]
        return torch.cat(rows)

    def instead(self, pairs: Sequence[_Pair], target: str, tokens: Sequence[Tokens]) -> Tensor:
        """What takes the place of each of these: the last word of the target, or no word; the same end."""
        import torch

        texts = {template: template.format(target) if target else "" for template, _ in pairs}
        encoded = dict(zip(texts, self._encoded(list(texts.values())), strict=True))
        return torch.cat([self._instead(encoded[t], t, name, target, tokens) for t, name in pairs])

    def _instead(
        self, states: Tensor, template: str, name: str, target: str, tokens: Sequence[Tokens]
    ) -> Tensor:
        import torch

        if states.ndim == 1:
            return states[None]
        rows = []
        for words in self._words(states):
            word = (
                states[words.last(template.partition("{}")[0] + target)]
                if target
                else states[words.where].mean(0)
            )
            own = self._places(words, template, name, [each for each in tokens if each != "end"])
            rows.append(word.expand(len(own), -1))
            if "end" in tokens:
                rows.append(states[self._places(words, template, name, ["end"])])
        return torch.cat(rows)

    def nothing(self) -> Tensor:
        states: Tensor = self._encoded([""])[0]
        return states if states.ndim == 2 else states[None]

    def _places(self, words: Words, template: str, name: str, tokens: Sequence[Tokens]) -> list[int]:
        prefix = template.partition("{}")[0].rstrip()
        last = words.last(f"{prefix} {name}" if prefix else name)
        first = words.last(prefix) + 1 if prefix else words.where.start
        end = words.last(template.format(name)) + 1
        places: list[int] = []
        if "words" in tokens:
            places += range(first, last + 1)
        elif "last" in tokens:
            places.append(last)
        return [*places, *(range(end, words.where.stop) if "end" in tokens else ())]

    def _words(self, states: Tensor) -> Sequence[Words]:
        return self._denoiser.words(len(states))

    def _encoded(self, texts: Sequence[str]) -> Tensor:
        """A row each, (L, C), or (C,) where it is of all of the text."""
        rows: Tensor = self._denoiser.encode(texts)[self._reads].detach().float()
        return rows


def _check(settings: UCE) -> None:
    check_apart(settings.concepts, settings.preserve)
    if any(settings.target in names_of(concept) for concept in settings.concepts):
        raise RequestError(f'"{settings.target}" cannot mean itself and be edited; give another target.')
    if settings.target and settings.add:
        raise RequestError("give a target or what to add, not both.")
    if not all(map(math.isfinite, settings.add.values())):
        raise RequestError("how much is added must be a number.")
    check_templates(settings.templates)
    if not settings.tokens:
        raise RequestError("give at least one kind of tokens.")
    for kind in settings.tokens:
        if kind not in TOKENS:
            raise RequestError(no_such("kind of tokens", kind, TOKENS))
    weights: Mapping[str, float] = {
        "erase_weight": settings.erase_weight,
        "preserve_weight": settings.preserve_weight,
        "ridge": settings.ridge,
    }
    for name, weight in weights.items():
        if not 0 < weight < float("inf"):
            raise RequestError(f"{name} is {weight}; it must be a number above 0.")
