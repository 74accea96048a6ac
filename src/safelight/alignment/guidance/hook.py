"""The hook between a pipeline and its denoiser: guidance acts here, and the pipeline's code is unchanged.

With classifier-free guidance, a pipeline calls its denoiser with the rows [unconditional, prompts] and
computes ε_0 + s (ε_p - ε_0) from the output. The hook adds rows for the concepts and returns [ε_0, ε_p - γ];
the result is ε_0 + s (ε_p - γ - ε_0), equations 3 and 4 of Safe Latent Diffusion.
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
    """One denoising step of a call: ``noise`` is ln(b²/a²), ``images`` the number of images in the call."""

    timestep: float
    noise: float
    images: int


@dataclass(frozen=True, slots=True)
class Predictions:
    """The denoiser's outputs: unconditional and for the prompts, (N, …) each, and for every concept.

    Each concept has one row for each image that it applies to. ``noise_per_output`` is a scalar: the change
    of the predicted noise per change of the output.
    """

    uncond: Tensor
    prompt: Tensor
    concepts: Sequence[tuple[Branch, Tensor]]
    noise_per_output: Tensor


class AttachedGuidance(Protocol):
    """An attached guidance, as the hook uses it."""

    def begin(self) -> None:
        """Reset the state of the last call, as the pipeline begins a new one."""

    def negative_prompt(self) -> str | None:
        """Return the text that replaces the empty prompt of the unconditional prediction, or None."""

    def record_negative_prompt(self, moment: Moment) -> None:
        """Record that the negative prompt was used at this step."""

    def branches(self, moment: Moment, similarity: Similarity) -> Sequence[Branch]:
        """Return the concepts to predict; ``similarity`` compares the prompts with texts."""

    def concepts_to_project_out(self, moment: Moment, similarity: Similarity) -> Sequence[Sequence[str]]:
        """Return the concepts to remove from each image's prompt embeddings; empty if there are none."""

    def record_projection(self, projected: ProjectedCall, moment: Moment) -> None:
        """Record the change that removing the concepts made."""

    def guidance_term(self, predictions: Predictions, moment: Moment) -> Tensor:
        """Return γ, (N, …), in units of the denoiser's output."""

    def scale(self) -> float:
        """Return the factor of γ in a pipeline without classifier-free guidance.

        Raises ``ModelError`` if none was given.
        """

    def true_cfg_scale(self) -> float | None:
        """Return the guidance scale of a pipeline that calls its denoiser twice per step."""


@dataclass(frozen=True, slots=True)
class _FirstCall:
    """The first of the two denoiser calls of a step: the one for the prompt."""

    moment: Moment
    branches: Sequence[Sequence[Branch]]
    answer: DenoiserOutput


# The hook of each guided pipeline.
_HOOKS: WeakKeyDictionary[Any, Hook] = WeakKeyDictionary()


class Hook:
    """The hook of one pipeline, shared by all guidance that is attached to it.

    The pipeline holds a view of its denoiser until the last guidance is detached. Other pipelines with the
    same denoiser are not guided.
    """

    def __init__(self, denoiser: Denoiser, fixed_batch: bool) -> None:
        self._denoiser = denoiser
        self._network = denoiser.module
        self._scheduler = denoiser.pipe.scheduler
        self._batch = ConditioningBatch(self._denoiser, fixed_batch)
        self._attached: list[AttachedGuidance] = []
        self._first_call: _FirstCall | None = None
        self._last_timestep: float | None = None
        self._view = view_of(self._network, self._forward)
        self._stack = ExitStack()
        self._stack.enter_context(patched_method(self._scheduler, "set_timesteps", self._with_begin))
        _set_component(denoiser.pipe, denoiser.component, self._view)

    @classmethod
    def on(cls, pipe: Any, fixed_batch: bool = False) -> Hook:
        """Return the pipeline's hook. Raises ``ModelError`` for a pipeline that cannot be guided."""
        denoiser = denoiser_of(pipe)
        hook = _HOOKS.get(pipe)
        if hook is None:
            hook = _HOOKS[pipe] = cls(denoiser, fixed_batch)
        return hook

    def add(self, attached: AttachedGuidance) -> None:
        self._attached.append(attached)

    def remove(self, attached: AttachedGuidance) -> None:
        """Stop using ``attached``; the pipeline is restored after the last one."""
        if attached not in self._attached:
            return
        self._attached.remove(attached)
        if not self._attached:
            self._stack.close()
            pipe = self._denoiser.pipe
            if self._denoiser.module is self._view:
                _set_component(pipe, self._denoiser.component, self._network)
            del _HOOKS[pipe]

    def _with_begin(self, set_timesteps: Method) -> Method:
        """Detect the start of a call: every pipeline sets its timesteps once before it calls its denoiser."""

        def begin(*args: Any, **kwargs: Any) -> Any:
            if self._denoiser.module is not self._view:
                raise ModelError(
                    "the denoiser of the guided pipeline was replaced; attach the guidance again."
                )
            self._batch.clear_cache()
            self._first_call = self._last_timestep = None
            for each in self._attached:
                each.begin()
            return set_timesteps(*args, **kwargs)

        return begin

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        """Handle one call of the denoiser."""
        network = self._network
        call = self._denoiser.bind_arguments(args, kwargs)
        if self._scheduler is not self._denoiser.pipe.scheduler:
            raise ModelError("the scheduler of the guided pipeline was replaced; attach the guidance again.")
        if (
            call.get("skip_layers") is not None
        ):  # the skip-layer guidance of Stable Diffusion 3 has its own call
            moment = self._moment(call, len(self._denoiser.sample(call)))
            return network(**self._edit_conditioning(moment, call, slice(None), record=False))
        if self._denoiser.uses_cfg_batch:
            return self._in_one_call(network, call)
        if any(each.true_cfg_scale() for each in self._attached):
            return self._in_two_calls(network, call)
        return self._without_cfg(network, call)

    def _in_one_call(self, network: Method, call: Arguments) -> Any:
        """Turn the outputs [ε_0, ε_p] of one call into [ε_0, ε_p - γ]."""
        import torch

        rows = len(self._denoiser.sample(call))
        if rows % 2:
            raise ModelError(f"the pipeline calls its denoiser with {rows} rows, not with two per image.")
        moment = self._moment(call, rows // 2)
        prompts = slice(rows // 2, None)
        branches = self._branches(moment, call, prompts)
        edited = self._edit_conditioning(moment, call, prompts)
        answer = self._batch.predict(network, self._with_negative_prompt(edited, moment), _flat(branches))
        if not answer.branches:
            return answer.raw
        uncond, prompt = answer.rows.chunk(2)
        for _, term in self._guidance_terms(uncond, prompt, branches, answer.branches, moment):
            prompt = prompt - term
        return answer.to_pipeline_output(torch.cat([uncond, prompt]))

    def _without_cfg(self, network: Method, call: Arguments) -> Any:
        """Turn ε_p into ε_p - s γ, for which the unconditional prediction is computed as well."""
        moment = self._moment(call, len(self._denoiser.sample(call)))
        if moment.timestep == self._last_timestep and not self._repeats_timesteps():
            raise ModelError("the pipeline calls its denoiser twice per step; give its true_cfg_scale.")
        self._last_timestep = moment.timestep
        if self._negative_prompt():
            raise ModelError(
                "the pipeline has no classifier-free guidance, so a negative prompt has no effect; raise its "
                "guidance scale or use another guidance."
            )
        branches = self._branches(moment, call, slice(None))
        edited = self._edit_conditioning(moment, call, slice(None))
        if not _flat(branches):
            return network(**edited)
        unconditional = Branch("", tuple(range(moment.images)))
        answer = self._batch.predict(network, edited, [unconditional, *_flat(branches)])
        uncond, *concepts = answer.branches
        prompt = answer.rows
        for each, term in self._guidance_terms(uncond, prompt, branches, concepts, moment):
            prompt = prompt - each.scale() * term
        return answer.to_pipeline_output(prompt)

    def _in_two_calls(self, network: Method, call: Arguments) -> Any:
        """Keep ε_p of the first call, and turn ε_0 of the second into ε_0 + s / (s - 1) γ.

        From these the pipeline computes ε_0 + s (ε_p - γ - ε_0).
        """
        moment = self._moment(call, len(self._denoiser.sample(call)))
        first, self._first_call = self._first_call, None
        if first is None:
            branches = self._branches(moment, call, slice(None))
            edited = self._edit_conditioning(moment, call, slice(None))
            answer = self._batch.predict(network, edited, _flat(branches))
            self._first_call = _FirstCall(moment, branches, answer)
            return answer.to_pipeline_output(answer.rows)
        if first.moment.timestep != moment.timestep:
            raise ModelError(
                "the pipeline does not call its denoiser twice per step; do not give a true_cfg_scale."
            )
        answer = self._batch.predict(network, self._with_negative_prompt(call, moment), ())
        uncond = answer.rows
        terms = self._guidance_terms(
            answer.rows, first.answer.rows, first.branches, first.answer.branches, first.moment
        )
        for each, term in terms:
            if not (scale := each.true_cfg_scale()):
                raise ModelError("the pipeline calls its denoiser twice per step; give its true_cfg_scale.")
            uncond = uncond + scale / (scale - 1) * term
        return answer.to_pipeline_output(uncond)

    def _branches(self, moment: Moment, call: Arguments, prompts: slice) -> list[Sequence[Branch]]:
        similarity = partial(self._batch.similarity, call, prompts)
        return [each.branches(moment, similarity) for each in self._attached]

    def _edit_conditioning(
        self, moment: Moment, call: Arguments, prompts: slice, record: bool = True
    ) -> Arguments:
        """Return the call with the concepts removed from its prompt embeddings."""
        similarity = partial(self._batch.similarity, call, prompts)
        for each in self._attached:
            if any(texts := each.concepts_to_project_out(moment, similarity)):
                projected = self._batch.project_out(call, prompts, texts)
                if record:
                    each.record_projection(projected, moment)
                call = projected.call
        return call

    def _guidance_terms(
        self,
        uncond: Tensor,
        prompt: Tensor,
        branches: Sequence[Sequence[Branch]],
        outputs: Sequence[Tensor],
        moment: Moment,
    ) -> Iterator[tuple[AttachedGuidance, Tensor]]:
        """Yield γ of each guidance with concepts at this step, computed at least in single precision."""
        noise = noise_per_output(self._scheduler, moment.timestep).to(prompt.device)
        rest = iter(outputs)
        for each, own in zip(self._attached, branches, strict=True):
            if own:
                concepts = [(branch, next(rest).float()) for branch in own]
                predictions = Predictions(uncond.float(), prompt.float(), concepts, noise)
                yield each, each.guidance_term(predictions, moment).to(prompt.dtype)

    def _moment(self, call: Arguments, images: int) -> Moment:
        timestep = self._denoiser.timestep(call)
        noise = -log_signal_to_noise(self._scheduler, timestep)
        return Moment(float(timestep), float(noise), images)

    def _negative_prompt(self) -> AttachedGuidance | None:
        """Return the first guidance with a negative prompt, which is the one that is used."""
        return next((each for each in self._attached if each.negative_prompt()), None)

    def _with_negative_prompt(self, call: Arguments, moment: Moment) -> Arguments:
        used = self._negative_prompt()
        if used is None:
            return call
        used.record_negative_prompt(moment)
        return self._batch.with_text(call, used.negative_prompt() or "", moment.images)

    def _repeats_timesteps(self) -> bool:
        """Whether the scheduler uses a timestep more than once."""
        timesteps = self._scheduler.timesteps
        return len(timesteps.unique()) < len(timesteps)


def is_guided(pipe: Any) -> bool:
    """Return whether any guidance is attached to the pipeline."""
    try:
        return pipe in _HOOKS
    except TypeError:  # what cannot be weakly referenced cannot be guided
        return False


def _set_component(pipe: Any, component: str, network: Any) -> None:
    """Replace a component of the pipeline without changing what its configuration says of it."""
    if component in vars(pipe):
        vars(pipe)[component] = network
    else:
        setattr(pipe, component, network)


def _flat(branches: Sequence[Sequence[Branch]]) -> list[Branch]:
    return [each for own in branches for each in own]
