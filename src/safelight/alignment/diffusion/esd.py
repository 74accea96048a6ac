"""Erasing Concepts from Diffusion Models: the network learns to draw away from what it was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from safelight.alignment.delta.adapter import Adapter
from safelight.alignment.delta.delta import Delta, json_sha256
from safelight.alignment.diffusion.parameters import SELECTIONS, parameters
from safelight.alignment.diffusion.points import Goal, Point, Target, points
from safelight.alignment.method.concept_names import check_apart, check_names, check_templates, names_of
from safelight.alignment.method.fine_tuning import FineTuning, TrainedMethod, checkpointing
from safelight.alignment.method.tuning import Curve, Measure, Tell
from safelight.errors import RequestError, no_such
from safelight.models.conditioning import ConditioningBatch
from safelight.models.denoiser import Denoiser, denoiser_of

if TYPE_CHECKING:
    from torch import Tensor

Sampling = Literal["frozen", "edited"]

# Seeds of one walk are next to each other; walks must not share any.
_APART = 1000


@dataclass(frozen=True)
class ESD(TrainedMethod):
    """Gandikota et al. (2023, arXiv:2303.07345), eq. 6 and 7:

        L = ‖ε_θ(x_t, c, t) - [ε*(x_t, t) - η (ε*(x_t, c, t) - ε*(x_t, t))]‖²

    in the network's own output: the target is linear in it, so that it is the same in ε, v and flow. A
    concept can have several names, between commas. A negative η (``eta``) moves towards the concept.

    ``selection`` says which parameters are trained. With an ``anchor`` its prediction takes the place of
    ε*(x_t, t), the first term; with ``erase_from`` the concept is taken out of that text alone. On
    ``preserve`` the network is to answer as before, a loss that counts ``preserve_weight``; "" is no text.
    ``captions`` are preserved as well, as they are, commas and all. Names, anchor and ``erase_from`` come in
    every one of ``templates``: with scenes around the concept, "esd-u" takes less of the rest along.

    x_t comes from ``walks`` generations of each text, ``steps_of_walk`` steps long, guided by ``scale``, with
    the ``frozen`` network, walked once, or with the ``edited`` one, walked again every ``refresh`` steps.
    Every step of every walk is a point, and ``batch`` of them, of any timesteps, are a batch. With ``jitter``
    timesteps are drawn between those of the walk, as in the paper. With a ``part`` below 1 only so much of
    each walk is walked, from the noise on, where it is decided what an image will show.

    With ``checkpointing`` what the network works out on the way is worked out again instead of being kept,
    which saves memory, as a ``lora_rank`` does.

    Raises ``RequestError`` for settings that make no sense.
    """

    concepts: Sequence[str]
    selection: str = "esd-x"
    eta: float = 1.0
    anchor: str = ""
    erase_from: str = ""
    preserve: Sequence[str] = ()
    preserve_weight: float = 1.0
    captions: Sequence[str] = ()
    templates: Sequence[str] = ("{}",)
    batch: int = 8
    sampling: Sampling = "frozen"
    walks: int = 4
    steps_of_walk: int = 50
    scale: float = 3.0
    jitter: bool = False
    part: float = 1.0
    refresh: int = 50
    checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self)

    def tune(
        self,
        pipe: Any,
        folder: Path | None = None,
        measure: Measure | None = None,
        tell: Tell | None = None,
    ) -> tuple[Delta, Curve]:
        denoiser = denoiser_of(pipe)
        check_names((*self.concepts, *self.preserve, self.anchor, self.erase_from), pipe)
        with checkpointing(denoiser.module) if self.checkpointing else nullcontext():
            adapter = self.adapter(denoiser.module, parameters(denoiser.module, self.selection))
            work = FineTuning(
                pipe, {denoiser.component: adapter}, "esd", tuple(self.concepts), self.settings(), self.plan()
            )
            return work.run(_Batches(self, denoiser, adapter).loss, folder, measure, tell)

    def settings(self) -> Mapping[str, Any]:
        """Without the captions themselves."""
        return {
            **asdict(self),
            "captions": {"count": len(self.captions), "sha256": json_sha256(self.captions)},
        }


def target(said: Mapping[str, Tensor], concept: str, eta: float, instead: str = "") -> Tensor:
    """ε*_instead - η (ε*_c - ε*_0), (N, …), of the frozen network's predictions by text."""
    return said[instead] - eta * (said[concept] - said[""])


class _Batches:
    """Batches of points; which come in a step depends on the seed and the step alone."""

    def __init__(self, esd: ESD, denoiser: Denoiser, adapter: Adapter) -> None:
        self._esd = esd
        self._denoiser = denoiser
        self._adapter = adapter
        self._rows = ConditioningBatch(denoiser)
        self._pool: list[Point] = []
        self._kept: list[Point] = []
        self._of: int | None = None

    def loss(self, number: int) -> Tensor:
        """Of batch ``number``: the mean over what is erased, and over what is kept."""
        esd = self._esd
        self._walk(number // esd.accumulate)
        loss = self._error(self._pool, esd.batch, number)
        if self._kept and esd.preserve_weight:
            loss = loss + esd.preserve_weight * self._error(self._kept, esd.batch, number)
        return loss

    def _error(self, pool: Sequence[Point], batch: int, number: int) -> Tensor:
        import torch

        random = torch.Generator().manual_seed(self._esd.seed * 1_000_003 + number)
        chosen = [pool[i] for i in torch.randint(len(pool), (batch,), generator=random).tolist()]
        raw = self._denoiser.module(**self._rows.joined([point.call for point in chosen]))
        output = raw[0] if isinstance(raw, tuple) else raw.sample
        wanted = torch.cat([point.target for point in chosen])
        error: Tensor = (output.float() - wanted.float()).square().mean()
        return error

    def _walk(self, step: int) -> None:
        """Anew where the network that walks has changed enough."""
        turn = step // self._esd.refresh if self._esd.sampling == "edited" else 0
        if turn == self._of:
            return
        self._of = turn
        with self._adapter.off() if self._esd.sampling == "frozen" else nullcontext():
            self._pool = [point for goal in self._goals() for point in self._points(goal, turn)]
            self._kept = [point for goal in self._keeping() for point in self._points(goal, turn)]

    def _goals(self) -> Iterator[Goal]:
        esd = self._esd
        names = [name for each in esd.concepts for name in names_of(each)]
        for template in esd.templates:
            erase_from, anchor = (text and template.format(text) for text in (esd.erase_from, esd.anchor))
            for concept in map(template.format, names):
                prompt = erase_from or concept
                others = [text for text in (concept, anchor) if text and text != prompt]
                yield Goal(prompt, _target(concept, esd.eta, anchor or erase_from), tuple(others))

    def _keeping(self) -> Iterator[Goal]:
        names = [name for each in self._esd.preserve for name in names_of(each) or [""]]
        for text in (*names, *self._esd.captions):
            yield Goal(text, _same(text))

    def _points(self, goal: Goal, turn: int) -> list[Point]:
        esd = self._esd
        first = esd.seed + _APART * turn
        return points(
            self._denoiser,
            goal,
            range(first, first + esd.walks),
            esd.steps_of_walk,
            esd.scale,
            esd.jitter,
            esd.part,
            self._adapter.off if esd.sampling == "edited" else None,
        )


def _target(concept: str, eta: float, instead: str) -> Target:
    return lambda said: target(said, concept, eta, instead)


def _same(name: str) -> Target:
    return lambda said: said[name]


def _check(esd: ESD) -> None:
    check_apart(esd.concepts, esd.preserve, esd.captions)
    check_templates(esd.templates)
    if esd.anchor and esd.erase_from:
        raise RequestError("give an anchor or what to erase from, not both.")
    if esd.selection not in SELECTIONS:
        raise RequestError(no_such("selection of parameters", esd.selection, SELECTIONS))
    if esd.sampling not in ("frozen", "edited"):
        raise RequestError(no_such("way of sampling", esd.sampling, ("frozen", "edited")))
    for name in ("batch", "walks", "steps_of_walk", "refresh"):
        if getattr(esd, name) < 1:
            raise RequestError(f"{name} is {getattr(esd, name)}; it must be at least 1.")
    if not 0 < esd.part <= 1:
        raise RequestError(f"part is {esd.part}; it must be above 0 and at most 1.")
    if esd.checkpoint_every % esd.refresh and esd.sampling == "edited":
        raise RequestError("checkpoint_every must be a multiple of refresh, so that it can be resumed.")
