"""Unified Concept Editing (UCE): a closed-form edit of the layers that read the text embeddings.

All layers with the same input are multiplied by the same matrix M. If a layer W_o should map the embedding c
of a concept to W_o g, eq. 7 of Gandikota et al. (2024, arXiv:2308.14761) gives W = W_o M with

    M = (λI + w_e Σ g cᵀ + w_p Σ p pᵀ) (λI + w_e Σ c cᵀ + w_p Σ p pᵀ)⁻¹,

over the edited states c and the preserved states p. It is solved once, in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from safelight.alignment.delta.delta import Delta, Provenance, part_sha256
from safelight.alignment.diffusion.parameters import parameters
from safelight.alignment.method.concept_names import check_apart, check_names, check_templates, names_of
from safelight.errors import RequestError, unknown_name
from safelight.models.denoiser import Denoiser, TokenPositions, denoiser_of
from safelight.models.pipelines import model_name
from safelight.registry import register
from safelight.types import AlignmentResult, AlignmentRun

if TYPE_CHECKING:
    from torch import Tensor

Tokens = Literal["last", "words", "end"]
TOKENS: tuple[Tokens, ...] = get_args(Tokens)
TEMPLATES = ("{}", "image of {}", "photo of {}", "portrait of {}", "picture of {}", "painting of {}")

# A template, with {} in the place of the name, and the name.
_Pair = tuple[str, str]

# The metadata of the settings that Debias has as well.
PRESERVE_HELP = {"help": "Concept that should stay as it is, with synonyms separated by commas; repeatable."}
TOKENS_HELP = {
    "help": "Tokens whose embeddings are edited: last (the last token of the concept), words (all "
    "its tokens) or end (the end of the prompt and its padding); repeatable."
}
PRESERVE_WEIGHT_HELP = {"help": "Weight w_p of the preserved concepts, above 0."}
RIDGE_HELP = {"help": "Regularization weight λ, above 0; higher values change other prompts less."}

_BATCH = 64

# The layers with which transformers read the token embeddings and the pooled embedding.
_EMBEDDERS = {
    "encoder_hidden_states": "context_embedder.weight",
    "pooled_projections": "time_text_embed.text_embedder.linear_1.weight",
}


@register("alignment_method", "uce")
@dataclass(frozen=True)
class UCE:
    """Edit concepts in the denoiser in closed form (UCE). Unified Concept Editing takes seconds, and does not
    train.

    Each of ``concepts`` is mapped to ``target``, by default to the empty prompt, while ``preserve`` lists
    concepts that keep their meaning. With ``add`` instead of a target, a concept keeps its meaning and the
    given amount of each word's meaning is added to it, or subtracted if negative; ``Debias`` searches for
    such amounts.

    A concept can have several synonyms, separated by commas; each is edited in each of ``templates``.
    ``tokens`` selects the token embeddings that are edited: the ``last`` token of the concept, the tokens of
    all its ``words``, or the ``end`` of the text with its padding. ``erase_weight``, ``preserve_weight`` and
    ``ridge`` are w_e, w_p and λ.

    Raises ``RequestError`` for invalid settings.
    """

    concepts: Sequence[str] = field(
        metadata={
            "option": "--concept",
            "help": "Concept to edit, with synonyms separated by commas; repeatable.",
        }
    )
    target: str = field(
        default="",
        metadata={
            "help": "Concept that replaces it; not with --add.",
            "shown": "the empty prompt",
        },
    )
    preserve: Sequence[str] = field(
        default=(),
        metadata=PRESERVE_HELP,
    )
    templates: Sequence[str] = field(
        default=TEMPLATES,
        metadata={
            "option": "--template",
            "help": "Prompt with {} in the place of a concept; repeatable.",
            "shown": "six prompts",
        },
    )
    tokens: Sequence[Tokens] = field(
        default=("last",),
        metadata=TOKENS_HELP,
    )
    erase_weight: float = field(default=1.0, metadata={"help": "Weight w_e of the edited concepts, above 0."})
    preserve_weight: float = field(default=1.0, metadata=PRESERVE_WEIGHT_HELP)
    ridge: float = field(
        default=0.5,
        metadata=RIDGE_HELP,
    )
    add: Mapping[str, float] = field(
        default_factory=dict,
        metadata={
            "help": "Word to add to the concept's meaning, and the factor of its embedding; negative factors "
            "subtract it. Instead of --target; repeatable.",
            "metavar": "WORD=FACTOR",
        },
    )

    name: ClassVar[str] = "uce"
    examples: ClassVar[tuple[str, ...]] = (
        '--concept "gun, pistol" --target flower --preserve "dog, cat" --output gun.safetensors',
        '--model ./stable-diffusion --concept "Van Gogh" --output gogh.safetensors',
    )

    def __post_init__(self) -> None:
        _check(self)

    def align(self, pipe: Any, run: AlignmentRun = AlignmentRun()) -> AlignmentResult[Delta]:
        """Return the delta of the edit; ``pipe`` itself is not changed.

        Raises ``RequestError`` for a concept that the tokenizer cannot represent, and ``ModelError`` for a
        pipeline of an unsupported architecture, or if nothing would be changed.
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
        about = Provenance(self.name, tuple(self.concepts), model_name(pipe), base, asdict(self))
        return AlignmentResult(Delta.of(differences, about), preserved=tuple(self.preserve))

    def _matrix(self, denoiser: Denoiser, reads: str) -> Tensor:
        import torch

        states = _States(denoiser, reads)
        pairs = self._pairs(self.concepts)
        erased, preserved = states.of(pairs, self.tokens), self._pairs(self.preserve)
        return closed_form(
            erased,
            self._targets(states, pairs, erased),
            torch.cat([states.empty(), states.of(preserved, self.tokens)]) if preserved else states.empty(),
            self.erase_weight,
            self.preserve_weight,
            self.ridge,
        )

    def _pairs(self, concepts: Sequence[str]) -> list[_Pair]:
        names = [name for concept in concepts for name in names_of(concept)]
        return [(template, name) for name in names for template in self.templates]

    def _targets(self, states: _States, pairs: Sequence[_Pair], before: Tensor) -> Tensor:
        if not self.add:
            return states.instead(pairs, self.target, self.tokens)
        return before + sum(
            share * states.instead(pairs, word, self.tokens) for word, share in self.add.items()
        )


def closed_form(
    erased: Tensor,
    targets: Tensor,
    preserved: Tensor,
    erase_weight: float,
    preserve_weight: float,
    ridge: float,
) -> Tensor:
    """Return the matrix M, (C, C) in float64.

    ``erased`` and ``targets`` are the embeddings to edit and their replacements, (n, C); ``preserved`` are
    those to keep, (m, C).
    """
    import torch

    c, g, p = (states.double() for states in (erased, targets, preserved))
    common = ridge * torch.eye(c.shape[1], dtype=torch.float64, device=c.device) + preserve_weight * p.T @ p
    right, left = common + erase_weight * g.T @ c, common + erase_weight * c.T @ c
    matrix: Tensor = torch.linalg.solve(left, right, left=False)
    return matrix


def _multiplied(weight: Tensor, matrix: Tensor) -> Tensor:
    """Return W_o M - W_o."""
    before = weight.detach().double()
    return (before @ matrix.to(before) - before).float()


def _layers(denoiser: Denoiser) -> dict[str, dict[str, Tensor]]:
    """Return the edited layers' weights by name, for each argument of the network that they read."""
    every = dict(denoiser.module.named_parameters())
    if embedders := {reads: name for reads, name in _EMBEDDERS.items() if name in every}:
        return {reads: {name: every[name]} for reads, name in embedders.items()}
    keys_and_values = parameters(denoiser.module, "esd-x-strict")
    return {"encoder_hidden_states": {n: w for n, w in keys_and_values.items() if n.endswith(".weight")}}


class _States:
    """The embeddings of texts that are passed in one argument of the network."""

    def __init__(self, denoiser: Denoiser, reads: str) -> None:
        self._denoiser = denoiser
        self._reads = reads

    def of(self, pairs: Sequence[_Pair], tokens: Sequence[Tokens]) -> Tensor:
        """Return the embeddings to edit in all texts, (n, C); the others are not kept in memory."""
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
        """Return the replacement of each edited embedding, (n, C).

        It is the embedding of the target's last word, or of the empty prompt without a target; the end of the
        text is replaced by the end of the text about the target.
        """
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

    def empty(self) -> Tensor:
        states: Tensor = self._encoded([""])[0]
        return states if states.ndim == 2 else states[None]

    def _places(self, words: TokenPositions, template: str, name: str, tokens: Sequence[Tokens]) -> list[int]:
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

    def _words(self, states: Tensor) -> Sequence[TokenPositions]:
        return self._denoiser.token_positions(len(states))

    def _encoded(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of each text: (L, C), or (C,) for a pooled embedding."""
        rows: Tensor = self._denoiser.encode(texts)[self._reads].detach().float()
        return rows


def _check(settings: UCE) -> None:
    check_apart(settings.concepts, settings.preserve)
    if any(settings.target in names_of(concept) for concept in settings.concepts):
        raise RequestError(f'"{settings.target}" cannot be edited to mean itself; give another target.')
    if settings.target and settings.add:
        raise RequestError("give a target or add, not both.")
    if not all(map(math.isfinite, settings.add.values())):
        raise RequestError("the amount of an added word must be a finite number.")
    check_templates(settings.templates)
    if not settings.tokens:
        raise RequestError("give at least one kind of tokens.")
    for kind in settings.tokens:
        if kind not in TOKENS:
            raise RequestError(unknown_name("kind of tokens", kind, TOKENS))
    weights: Mapping[str, float] = {
        "erase_weight": settings.erase_weight,
        "preserve_weight": settings.preserve_weight,
        "ridge": settings.ridge,
    }
    for name, weight in weights.items():
        if not 0 < weight < float("inf"):
            raise RequestError(f"{name} is {weight}; it must be a number above 0.")
