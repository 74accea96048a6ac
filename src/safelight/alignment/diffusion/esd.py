"""Erasing Concepts from Diffusion Models (ESD): the denoiser learns to steer images away from a concept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from safelight.alignment.delta.adapter import Adapter
from safelight.alignment.delta.delta import Delta, json_sha256
from safelight.alignment.diffusion.parameters import SELECTIONS, Selection, parameters
from safelight.alignment.diffusion.points import Goal, Point, Target, points
from safelight.alignment.method.concept_names import check_apart, check_names, check_templates, names_of
from safelight.alignment.method.trained_method import (
    CHECKPOINTING_HELP,
    TrainedMethod,
    gradient_checkpointing,
)
from safelight.errors import RequestError, unknown_name
from safelight.models.conditioning import ConditioningBatch
from safelight.models.denoiser import Denoiser, denoiser_of
from safelight.registry import register
from safelight.types import AlignmentResult, AlignmentRun

if TYPE_CHECKING:
    from torch import Tensor

Sampling = Literal["frozen", "edited"]

# The seeds of one set of trajectories are consecutive; the stride keeps those of different sets apart.
_SEED_STRIDE = 1000


@register("alignment_method", "esd")
@dataclass(frozen=True)
class ESD(TrainedMethod):
    """Fine-tune the denoiser to steer away from a concept (ESD). The method is that of Erasing Concepts from
    Diffusion Models.

    Gandikota et al. (2023, arXiv:2303.07345), eq. 6 and 7:

        L = ‖ε_θ(x_t, c, t) - [ε*(x_t, t) - η (ε*(x_t, c, t) - ε*(x_t, t))]‖²

    where ε is the network's own output. The target is linear in it, so it has the same form for ε, v and flow
    predictions. A negative η (``eta``) moves towards the concept.

    With an ``anchor``, the prediction for it replaces the first term, ε*(x_t, t). With ``erase_from``, the
    concept is removed from images of that text only. For ``preserve`` and ``captions`` the loss, weighted by
    ``preserve_weight``, keeps the network's former predictions; captions are used unchanged, including
    commas, and "" is the empty prompt. Concepts, anchor and ``erase_from`` are inserted into each of
    ``templates``: if these describe scenes around the concept, "esd-u" affects other concepts less.

    x_t comes from ``trajectories`` generations of each text with ``num_inference_steps`` and
    ``guidance_scale``: generated once by the ``frozen`` network, or again every ``refresh_every`` steps by
    the ``edited`` one. Each step of a trajectory is a training point, and a batch has ``batch_size`` points
    of any timesteps. With ``jitter_timesteps`` the timesteps are drawn between those of the trajectory, as in
    the paper. With a ``trajectory_fraction`` below 1 only the first, noisiest part of each trajectory is
    used, which determines the content of an image.

    Raises ``RequestError`` for invalid settings.
    """

    selection: Selection = field(
        default="esd-x",
        metadata={
            "help": "Parameters to train: esd-x (cross-attention), esd-x-strict (keys and values of "
            "cross-attention), esd-u (all but cross-attention), esd-self (self-attention) or esd-all (all)."
        },
    )
    eta: float = field(
        default=1.0,
        metadata={
            "help": "η of the paper, the strength of erasure; values below 0 strengthen the concept instead."
        },
    )
    anchor: str = field(
        default="",
        metadata={
            "help": "Concept that images should show instead; not with --erase-from.",
            "shown": "the empty prompt",
        },
    )
    erase_from: str = field(
        default="",
        metadata={
            "help": "Prompt to remove the concept from, while other prompts keep it; not with --anchor.",
            "shown": "the concept itself, so any prompt",
        },
    )
    preserve: Sequence[str] = field(
        default=(),
        metadata={
            "help": "Concept that should stay as it is, with synonyms separated by commas; repeatable."
        },
    )
    preserve_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of the loss on --preserve and --captions; the loss on the concepts has weight 1.",
            "min": 0,
        },
    )
    captions: Sequence[str] = field(
        default=(),
        metadata={
            "help": "File of prompts whose images should stay as they are: text with one prompt per line, "
            "CSV, Parquet or JSONL; repeatable.",
            "files": True,
        },
    )
    templates: Sequence[str] = field(
        default=("{}",),
        metadata={
            "option": "--template",
            "help": "Prompt with {} in the place of a concept; repeatable.",
            "shown": "the concept alone",
        },
    )
    batch_size: int = field(
        default=8,
        metadata={"help": "Number of noisy latents, each with its timestep, in a batch.", "min": 1},
    )
    sampling: Sampling = field(
        default="frozen",
        metadata={
            "help": "Model that generates the trajectories to train on: frozen (the original) or edited (the "
            "one in training)."
        },
    )
    trajectories: int = field(
        default=4,
        metadata={"help": "Number of denoising trajectories to generate for each prompt.", "min": 1},
    )
    num_inference_steps: int = field(
        default=50,
        metadata={
            "option": "--trajectory-steps",
            "help": "Number of denoising steps of each trajectory.",
            "min": 1,
        },
    )
    guidance_scale: float = field(
        default=3.0, metadata={"help": "Scale of classifier-free guidance in the trajectories."}
    )
    jitter_timesteps: bool = field(
        default=False,
        metadata={
            "help": "Train at random timesteps between those of the trajectory, as in the paper, instead of "
            "at the trajectory's own."
        },
    )
    trajectory_fraction: float = field(
        default=1.0,
        metadata={"help": "Fraction of each trajectory to train on, from pure noise on; above 0, at most 1."},
    )
    refresh_every: int = field(
        default=50,
        metadata={
            "help": "Number of optimizer steps between new sets of trajectories; only with --sampling "
            "edited. --checkpoint-every must be a multiple of it.",
            "min": 1,
        },
    )
    gradient_checkpointing: bool = field(default=False, metadata=CHECKPOINTING_HELP)

    name: ClassVar[str] = "esd"
    examples: ClassVar[tuple[str, ...]] = (
        '--concept "gun, a gun, pistol" --learning-rate 1e-3 --output gun.safetensors',
        "--model ./stable-diffusion --concept nudity --selection esd-u --output nudity.safetensors",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)

    def align(self, pipe: Any, run: AlignmentRun = AlignmentRun()) -> AlignmentResult[Delta]:
        """Train and return the delta, as ``TrainedMethod.align`` describes."""
        self.check_run(run)
        denoiser = denoiser_of(pipe)
        check_names((*self.concepts, *self.preserve, self.anchor, self.erase_from), pipe)
        with gradient_checkpointing(denoiser.module) if self.gradient_checkpointing else nullcontext():
            adapter = self.adapter(denoiser.module, parameters(denoiser.module, self.selection))
            loss = _Batches(self, denoiser, adapter).loss
            result = self.train(pipe, {denoiser.component: adapter}, loss, run)
        return replace(result, preserved=tuple(self.preserve))

    def settings(self) -> Mapping[str, Any]:
        """Return the settings; captions are represented by their hash."""
        return {
            **asdict(self),
            "captions": {"count": len(self.captions), "sha256": json_sha256(self.captions)},
        }


def target(predictions: Mapping[str, Tensor], concept: str, eta: float, instead: str = "") -> Tensor:
    """Return the target ε*_instead - η (ε*_c - ε*_0), (N, …).

    ``predictions`` are those of the frozen network, by text.
    """
    return predictions[instead] - eta * (predictions[concept] - predictions[""])


class _Batches:
    """Batches of training points; a batch depends only on the seed and the step."""

    def __init__(self, esd: ESD, denoiser: Denoiser, adapter: Adapter) -> None:
        self._esd = esd
        self._denoiser = denoiser
        self._adapter = adapter
        self._batch = ConditioningBatch(denoiser)
        self._pool: list[Point] = []
        self._kept: list[Point] = []
        self._generation: int | None = None

    def loss(self, number: int) -> Tensor:
        """Return the loss of batch ``number``: the mean error on erased plus that on preserved concepts."""
        esd = self._esd
        self._refresh(number // esd.gradient_accumulation)
        loss = self._error(self._pool, esd.batch_size, number)
        if self._kept and esd.preserve_weight:
            loss = loss + esd.preserve_weight * self._error(self._kept, esd.batch_size, number)
        return loss

    def _error(self, pool: Sequence[Point], batch: int, number: int) -> Tensor:
        import torch

        random = torch.Generator().manual_seed(self._esd.seed * 1_000_003 + number)
        chosen = [pool[i] for i in torch.randint(len(pool), (batch,), generator=random).tolist()]
        raw = self._denoiser.module(**self._batch.concatenate([point.call for point in chosen]))
        output = raw[0] if isinstance(raw, tuple) else raw.sample
        wanted = torch.cat([point.target for point in chosen])
        error: Tensor = (output.float() - wanted.float()).square().mean()
        return error

    def _refresh(self, step: int) -> None:
        """Generate the trajectories, and again every ``refresh_every`` steps if the edited network does."""
        turn = step // self._esd.refresh_every if self._esd.sampling == "edited" else 0
        if turn == self._generation:
            return
        self._generation = turn
        with self._adapter.off() if self._esd.sampling == "frozen" else nullcontext():
            self._pool = [point for goal in self._goals() for point in self._points(goal, turn)]
            self._kept = [point for goal in self._preserved_goals() for point in self._points(goal, turn)]

    def _goals(self) -> Iterator[Goal]:
        esd = self._esd
        names = [name for each in esd.concepts for name in names_of(each)]
        for template in esd.templates:
            erase_from, anchor = (text and template.format(text) for text in (esd.erase_from, esd.anchor))
            for concept in map(template.format, names):
                prompt = erase_from or concept
                others = [text for text in (concept, anchor) if text and text != prompt]
                yield Goal(prompt, _target(concept, esd.eta, anchor or erase_from), tuple(others))

    def _preserved_goals(self) -> Iterator[Goal]:
        names = [name for each in self._esd.preserve for name in names_of(each) or [""]]
        for text in (*names, *self._esd.captions):
            yield Goal(text, _unchanged(text))

    def _points(self, goal: Goal, turn: int) -> list[Point]:
        esd = self._esd
        first = esd.seed + _SEED_STRIDE * turn
        return points(
            self._denoiser,
            goal,
            range(first, first + esd.trajectories),
            esd.num_inference_steps,
            esd.guidance_scale,
            esd.jitter_timesteps,
            esd.trajectory_fraction,
            self._adapter.off if esd.sampling == "edited" else None,
        )


def _target(concept: str, eta: float, instead: str) -> Target:
    return lambda predictions: target(predictions, concept, eta, instead)


def _unchanged(name: str) -> Target:
    return lambda predictions: predictions[name]


def _check(esd: ESD) -> None:
    check_apart(esd.concepts, esd.preserve, esd.captions)
    check_templates(esd.templates)
    if esd.anchor and esd.erase_from:
        raise RequestError("give an anchor or erase_from, not both.")
    if esd.selection not in SELECTIONS:
        raise RequestError(unknown_name("selection of parameters", esd.selection, SELECTIONS))
    if esd.sampling not in get_args(Sampling):
        raise RequestError(unknown_name("sampling", esd.sampling, get_args(Sampling)))
    for name in ("batch_size", "trajectories", "num_inference_steps", "refresh_every"):
        if getattr(esd, name) < 1:
            raise RequestError(f"{name} is {getattr(esd, name)}; it must be at least 1.")
    if not 0 < esd.trajectory_fraction <= 1:
        raise RequestError(
            f"trajectory_fraction is {esd.trajectory_fraction}; it must be above 0 and at most 1."
        )
    if esd.checkpoint_every % esd.refresh_every and esd.sampling == "edited":
        raise RequestError("checkpoint_every must be a multiple of refresh_every, to resume training.")
