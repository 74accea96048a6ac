"""The hook between a pipeline and its denoiser, where guidance acts without a line of the pipeline changed.

A pipeline that guides itself calls its denoiser with the rows [no text, prompts] and makes
ε_0 + s (ε_p - ε_0) of the answer. The hook asks about the concepts in further rows and answers
[ε_0, ε_p - γ]; what comes out is ε_0 + s (ε_p - γ - ε_0), Safe Latent Diffusion's eq. 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from safelight.alignment.guidance.risk import Similarity
from safelight.errors import ModelError
from safelight.models.conditioning import Branch, ConditioningBatch, DenoiserOutput, ProjectedCall
from safelight.models.denoiser import Arguments, Denoiser, denoiser_of
from safelight.models.network_view import view_of
from safelight.models.noise_schedule import log_signal_to_noise, noise_per_output
from safelight.models.patched_method import Method, patched_method

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in a generation a step is: ``noise`` is ln(b²/a²); ``images`` are made together."""

    timestep: float
    noise: float
    images: int


@dataclass(frozen=True, slots=True)
class Predictions:
    """The denoiser's outputs for no text and for the prompts, (N, …) each, and for every concept wanted, with
    as many rows as images want it. ``noise_per_output`` is a scalar."""

    nothing: Tensor
    prompt: Tensor
    concepts: Sequence[tuple[Branch, Tensor]]
    noise_per_output: Tensor


class Attached(Protocol):
    """A guidance at work, as the hook sees it."""

    def begin(self) -> None:
        """A call of the pipeline begins."""

    def instead_of_nothing(self) -> str | None:
        """What takes the place of no text."""

    def wanted(self, moment: Moment, similarity: Similarity) -> Sequence[Branch]:
        """What to ask the denoiser about; ``similarity`` says which texts the prompts are near to."""

    def concepts_to_project_out(self, moment: Moment, similarity: Similarity) -> Sequence[Sequence[str]]:
        """What the denoiser is not to be told, of each image; nothing if that is nothing of any."""

    def left(self, left: ProjectedCall, moment: Moment) -> None:
        """What became of that."""

    def taken(self, said: Predictions, moment: Moment) -> Tensor:
        """γ, (N, …), in units of the denoiser's output."""

    def scale(self) -> float:
        """By what γ counts in a pipeline that does not guide itself; raises ``ModelError`` if nobody said."""

    def true_cfg_scale(self) -> float | None:
        """By what a pipeline guides itself that does so in two calls a step."""


@dataclass(frozen=True, slots=True)
class _Half:
    """The first of two calls of a step."""

    moment: Moment
    wanted: Sequence[Sequence[Branch]]
    answer: DenoiserOutput


# By pipeline.
_HOOKS: WeakKeyDictionary[Any, Hook] = WeakKeyDictionary()


class Hook:
    """One for each pipeline, however much is attached to it.

    The pipeline is given a view of its network, and gets the network back in the end. Other pipelines with
    the same network are not guided.
    """

    def __init__(self, denoiser: Denoiser, fixed_batch: bool) -> None:
        self._denoiser = denoiser
        self._network = denoiser.module
        self._scheduler = denoiser.pipe.scheduler
        self._rows = ConditioningBatch(self._denoiser, fixed_batch)
        self._attached: list[Attached] = []
        self._half: _Half | None = None
        self._last: float | None = None
        self._view = view_of(self._network, self._ask)
        self._stack = ExitStack()
        self._stack.enter_context(patched_method(self._scheduler, "set_timesteps", self._beginning))
        _give(denoiser.pipe, denoiser.component, self._view)

    @classmethod
    def on(cls, pipe: Any, fixed_batch: bool = False) -> Hook:
        """Raises ``ModelError`` for a pipeline that cannot be guided."""
        denoiser = denoiser_of(pipe)
        hook = _HOOKS.get(pipe)
        if hook is None:
            hook = _HOOKS[pipe] = cls(denoiser, fixed_batch)
        return hook

    def hold(self, attached: Attached) -> None:
        self._attached.append(attached)

    def let_go(self, attached: Attached) -> None:
        """The last one takes the hook off."""
        if attached not in self._attached:
            return
        self._attached.remove(attached)
        if not self._attached:
            self._stack.close()
            pipe = self._denoiser.pipe
            if self._denoiser.module is self._view:
                _give(pipe, self._denoiser.component, self._network)
            del _HOOKS[pipe]

    def _beginning(self, set_timesteps: Method) -> Method:
        """Every pipeline sets its timesteps once, before it asks its denoiser."""

        def begin(*args: Any, **kwargs: Any) -> Any:
            if self._denoiser.module is not self._view:
                raise ModelError("the pipeline was given another network while guided; attach again.")
            self._rows.clear_cache()
            self._half = self._last = None
            for each in self._attached:
                each.begin()
            return set_timesteps(*args, **kwargs)

        return begin

    def _ask(self, *args: Any, **kwargs: Any) -> Any:
        """Stands in the place of the network: answers one call that the pipeline makes of it."""
        network = self._network
        call = self._denoiser.bind_arguments(args, kwargs)
        if self._scheduler is not self._denoiser.pipe.scheduler:
            raise ModelError("the pipeline was given another scheduler while guided; attach again.")
        if call.get("skip_layers") is not None:  # Stable Diffusion 3 asks a third time, not to be guided
            moment = self._moment(call, len(self._denoiser.sample(call)))
            return network(**self._edit_conditioning(moment, call, slice(None), noted=False))
        if self._denoiser.uses_cfg_batch:
            return self._in_one_call(network, call)
        if any(each.true_cfg_scale() for each in self._attached):
            return self._in_two_calls(network, call)
        return self._unguided(network, call)

    def _in_one_call(self, network: Method, call: Arguments) -> Any:
        """[ε_0, ε_p] -> [ε_0, ε_p - γ]."""
        import torch

        rows = len(self._denoiser.sample(call))
        if rows % 2:
            raise ModelError(f"the pipeline asks about {rows} rows at once, not about two for each image.")
        moment = self._moment(call, rows // 2)
        wanted = self._wanted(moment, call, slice(rows // 2, None))
        told = self._edit_conditioning(moment, call, slice(rows // 2, None))
        answer = self._rows.predict(network, self._with_negative(told, moment), _flat(wanted))
        if not answer.branches:
            return answer.raw
        nothing, prompt = answer.rows.chunk(2)
        for _, taken in self._taken(nothing, prompt, wanted, answer.branches, moment):
            prompt = prompt - taken
        return answer.to_pipeline_output(torch.cat([nothing, prompt]))

    def _unguided(self, network: Method, call: Arguments) -> Any:
        """ε_p -> ε_p - s γ, for which it has to ask about no text as well."""
        moment = self._moment(call, len(self._denoiser.sample(call)))
        if moment.timestep == self._last and not self._may_repeat():
            raise ModelError("the pipeline guides itself in two calls a step; give its true_cfg_scale.")
        self._last = moment.timestep
        if self._negative():
            raise ModelError("the pipeline does not guide itself, so nothing can stand for no text.")
        wanted = self._wanted(moment, call, slice(None))
        told = self._edit_conditioning(moment, call, slice(None))
        if not _flat(wanted):
            return network(**told)
        about_nothing = Branch("", tuple(range(moment.images)))
        answer = self._rows.predict(network, told, [about_nothing, *_flat(wanted)])
        prompt = answer.rows
        for each, taken in self._taken(answer.branches[0], prompt, wanted, answer.branches[1:], moment):
            prompt = prompt - each.scale() * taken
        return answer.to_pipeline_output(prompt)

    def _in_two_calls(self, network: Method, call: Arguments) -> Any:
        """ε_p, then ε_0 -> ε_0 + s / (s - 1) γ, of which the pipeline makes ε_0 + s (ε_p - γ - ε_0)."""
        moment = self._moment(call, len(self._denoiser.sample(call)))
        first, self._half = self._half, None
        if first is None:
            wanted = self._wanted(moment, call, slice(None))
            answer = self._rows.predict(
                network, self._edit_conditioning(moment, call, slice(None)), _flat(wanted)
            )
            self._half = _Half(moment, wanted, answer)
            return answer.to_pipeline_output(answer.rows)
        if first.moment.timestep != moment.timestep:
            raise ModelError(
                "the pipeline does not guide itself in two calls a step; leave true_cfg_scale out."
            )
        answer = self._rows.predict(network, self._with_negative(call, moment), ())
        nothing = answer.rows
        for each, taken in self._taken(
            answer.rows, first.answer.rows, first.wanted, first.answer.branches, first.moment
        ):
            if not (scale := each.true_cfg_scale()):
                raise ModelError("the pipeline guides itself in two calls a step; give its true_cfg_scale.")
            nothing = nothing + scale / (scale - 1) * taken
        return answer.to_pipeline_output(nothing)

    def _wanted(self, moment: Moment, call: Arguments, prompts: slice) -> list[Sequence[Branch]]:
        similarity = partial(self._rows.similarity, call, prompts)
        return [each.wanted(moment, similarity) for each in self._attached]

    def _edit_conditioning(
        self, moment: Moment, call: Arguments, prompts: slice, noted: bool = True
    ) -> Arguments:
        """The call, of whose prompts only that is left which may be said."""
        similarity = partial(self._rows.similarity, call, prompts)
        for each in self._attached:
            if any(texts := each.concepts_to_project_out(moment, similarity)):
                left = self._rows.project_out(call, prompts, texts)
                if noted:
                    each.left(left, moment)
                call = left.call
        return call

    def _taken(
        self,
        nothing: Tensor,
        prompt: Tensor,
        wanted: Sequence[Sequence[Branch]],
        outputs: Sequence[Tensor],
        moment: Moment,
    ) -> Iterator[tuple[Attached, Tensor]]:
        """γ of each that is attached and wanted something; computed in single precision at least."""
        noise = noise_per_output(self._scheduler, moment.timestep).to(prompt.device)
        rest = iter(outputs)
        for each, mine in zip(self._attached, wanted, strict=True):
            if mine:
                concepts = [(about, next(rest).float()) for about in mine]
                said = Predictions(nothing.float(), prompt.float(), concepts, noise)
                yield each, each.taken(said, moment).to(prompt.dtype)

    def _moment(self, call: Arguments, images: int) -> Moment:
        timestep = self._denoiser.timestep(call)
        noise = -log_signal_to_noise(self._scheduler, timestep)
        return Moment(float(timestep), float(noise), images)

    def _negative(self) -> str | None:
        return next(filter(None, (each.instead_of_nothing() for each in self._attached)), None)

    def _with_negative(self, call: Arguments, moment: Moment) -> Arguments:
        negative = self._negative()
        return self._rows.with_text(call, negative, moment.images) if negative else call

    def _may_repeat(self) -> bool:
        """Whether the scheduler comes to a timestep more than once."""
        timesteps = self._scheduler.timesteps
        return len(timesteps.unique()) < len(timesteps)


def is_guided(pipe: Any) -> bool:
    """Whether any guidance is attached to the pipeline."""
    try:
        return pipe in _HOOKS
    except TypeError:  # what cannot be referred to weakly cannot be guided
        return False


def _give(pipe: Any, component: str, network: Any) -> None:
    """Set a part of the pipeline, and leave alone what its configuration says of the part."""
    if component in vars(pipe):
        vars(pipe)[component] = network
    else:
        setattr(pipe, component, network)


def _flat(wanted: Sequence[Sequence[Branch]]) -> list[Branch]:
    return [each for mine in wanted for each in mine]
