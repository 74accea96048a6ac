"""The base class of guidance, which steers an image away from concepts at every denoising step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from safelight.alignment.guidance.concepts import DEFAULT_CONCEPT, Concept, weights_of
from safelight.alignment.guidance.hook import Hook, Moment, Predictions
from safelight.alignment.guidance.risk import Risk, Similarity, Weights
from safelight.alignment.guidance.trace import Recorder, Trace
from safelight.alignment.method.concept_names import names_of
from safelight.errors import ModelError, RequestError
from safelight.models.conditioning import Branch, ProjectedCall

if TYPE_CHECKING:
    from torch import Tensor


class Guidance:
    """Steers images away from ``concept``; a subclass computes the term that is subtracted at each step.

    ``concepts`` gives a concept for each prompt instead, or None for a prompt that is not guided. ``when``
    decides which images are at risk; other images are not guided, and take no additional time. With
    ``bounded`` (the default with ``when``) an image is moved no further from its unconditional prediction
    than its prompt alone would move it; otherwise strong guidance oversaturates the colours. ``scale`` is the
    factor of the term in a pipeline without classifier-free guidance (FLUX, or Stable Diffusion with a
    guidance scale of 1); ``true_cfg_scale`` is the guidance scale of a pipeline that calls its denoiser twice
    per step (FLUX with a negative prompt). Raises ``RequestError`` for invalid concepts and scales.
    """

    name: str
    cost = 2  # relative to an unguided image: rows for two concepts besides the unconditional and the prompt
    concept_per_image = True
    edits_conditioning = False

    def __init__(
        self,
        concept: Concept = DEFAULT_CONCEPT,
        *,
        concepts: Sequence[Concept | None] | None = None,
        when: Risk | None = None,
        bounded: bool | None = None,
        scale: float | None = None,
        true_cfg_scale: float | None = None,
    ) -> None:
        self.when = when
        self.bounded = when is not None if bounded is None else bounded
        self.concepts = [weights_of(each) for each in ([concept] if concepts is None else concepts)]
        if not self.concepts:
            raise RequestError("there is no concept for any prompt; give one for each.")
        if true_cfg_scale is not None and not true_cfg_scale > 1:
            raise RequestError(f"true_cfg_scale is {true_cfg_scale}; it must be above 1.")
        self.scale = scale
        self.true_cfg_scale = true_cfg_scale

    def attach(self, pipe: Any, fixed_batch: bool = False) -> Attachment:
        """Guide ``pipe`` until the attachment is detached, or its context ends.

        The terms of several attached guidance methods add up. Other pipelines with the same denoiser are not
        guided. With ``fixed_batch`` the denoiser is always called with the batch size that the pipeline uses,
        so that no image depends on how many others are guided; this takes longer. Raises ``ModelError`` for a
        pipeline that cannot be guided.
        """
        return Attachment(self, pipe, fixed_batch)

    def predicts_concepts(self, moment: Moment) -> bool:
        """Return whether the denoiser's outputs for the concepts are needed at this step."""
        raise NotImplementedError

    def acts(self, moment: Moment) -> bool:
        """Return whether the term is subtracted at this step."""
        return True

    def concept_term(
        self, uncond: Tensor, prompt: Tensor, concept: Tensor, noise_per_output: Tensor
    ) -> Tensor:
        """Return the term of one concept, (M, …).

        ``uncond``, ``prompt`` and ``concept`` are the denoiser's unconditional outputs, those for the prompts
        and those for the concept, (M, …) each. ``noise_per_output`` is explained in :class:`Predictions`.
        """
        raise NotImplementedError

    def with_momentum(self, memory: dict[str, Any], concept: str, term: Tensor, noise: Tensor) -> Tensor:
        """Return ``term``, (N, …), with momentum from previous steps, which is kept in ``memory``."""
        return term

    def negative_prompt(self) -> str | None:
        """Return a text that replaces the empty prompt of the unconditional prediction, or None."""
        return None


def _bounded(prompt: Tensor, term: Tensor) -> Tensor:
    """Return ``term``, (N, …), scaled down so that the norm of ``prompt`` - ``term`` is at most that of
    ``prompt``."""
    rest = prompt - term
    longest, length = (each.flatten(1).norm(dim=1) for each in (prompt, rest))
    share = (longest / length.clamp(min=1e-12)).clamp(max=1).view(-1, *[1] * (prompt.ndim - 1))
    changed = term.flatten(1).any(1).view_as(share)
    bounded: Tensor = (prompt - share * rest) * changed
    return bounded


class Attachment:
    """A guidance that is attached to a pipeline."""

    def __init__(self, guidance: Guidance, pipe: Any, fixed_batch: bool = False) -> None:
        self.guidance = guidance
        self._recorder = Recorder()
        self._memory: dict[str, Any] = {}
        self._weights: list[Weights] | None = None
        self._hook = Hook.on(pipe, fixed_batch)
        self._hook.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> None:
        """Restore the pipeline. A second call does nothing."""
        self._hook.remove(self)

    @property
    def traces(self) -> tuple[Trace, ...]:
        """The effect of the guidance in the pipeline's last call: one trace for each image."""
        return self._recorder.traces()

    def guides(self, image: int) -> bool:
        """Return whether the guidance applied to this image of the last call, not only to others."""
        return bool(self._weights and self._weights[image] and self._recorder)

    def begin(self) -> None:
        self._weights = None
        self._memory.clear()
        self._recorder.clear()

    def negative_prompt(self) -> str | None:
        return self.guidance.negative_prompt()

    def record_negative_prompt(self, moment: Moment) -> None:
        import torch

        self._weights = self._all_weights(moment.images)
        every, none = torch.ones(moment.images), torch.zeros(moment.images)
        self._recorder.add(moment, every, none, -every)

    def scale(self) -> float:
        if self.guidance.scale is None:
            raise ModelError("the pipeline has no classifier-free guidance; give the guidance a scale.")
        return self.guidance.scale

    def true_cfg_scale(self) -> float | None:
        return self.guidance.true_cfg_scale

    def branches(self, moment: Moment, similarity: Similarity) -> list[Branch]:
        if not self.guidance.predicts_concepts(moment):
            return []
        weights = self._weights_of_images(moment, similarity)
        texts = dict.fromkeys(text for each in weights for text in each)
        branches = [
            Branch(text, tuple(i for i, each in enumerate(weights) if each.get(text))) for text in texts
        ]
        return [each for each in branches if each.images]

    def concepts_to_project_out(self, moment: Moment, similarity: Similarity) -> list[list[str]]:
        if not self.guidance.edits_conditioning:
            return []
        weights = self._weights_of_images(moment, similarity)
        return [[part for text, w in each.items() if w for part in names_of(text)] for each in weights]

    def record_projection(self, projected: ProjectedCall, moment: Moment) -> None:
        self._recorder.add(moment, projected.acting, projected.strength, projected.cosine)

    def guidance_term(self, predictions: Predictions, moment: Moment) -> Tensor:
        import torch

        term = torch.zeros_like(predictions.prompt)
        for branch, concept in predictions.concepts:
            term += self._weighted_term(branch, concept, predictions)
        if not self.guidance.acts(moment):
            term = torch.zeros_like(term)
        if self.guidance.bounded:
            term = _bounded(predictions.prompt - predictions.uncond, term)
        self._record(predictions, term, moment)
        return term

    def _weighted_term(self, branch: Branch, concept: Tensor, predictions: Predictions) -> Tensor:
        """Return the term of one concept times its weight for each image, (N, …)."""
        import torch

        uncond, prompt, noise = predictions.uncond, predictions.prompt, predictions.noise_per_output
        rows = list(branch.images)
        term = torch.zeros_like(prompt)
        term[rows] = self.guidance.concept_term(uncond[rows], prompt[rows], concept, noise)
        term = self.guidance.with_momentum(self._memory, branch.text, term, noise)
        weights = torch.tensor([each.get(branch.text, 0.0) for each in self._weights or []])
        return weights.to(term.device).view(-1, *[1] * (prompt.ndim - 1)) * term

    def _weights_of_images(self, moment: Moment, similarity: Similarity) -> list[Weights]:
        """Return the weight of each concept for each image; none for an image that is not at risk."""
        if self._weights is None:
            weights = self._all_weights(moment.images)
            self._weights = self.guidance.when(weights, similarity) if self.guidance.when else weights
        return self._weights

    def _all_weights(self, images: int) -> list[Weights]:
        """Return the weights for each image, as if it were at risk. Images of one prompt are adjacent."""
        concepts = self.guidance.concepts
        if images % len(concepts):
            counts = f"there are concepts for {len(concepts)} prompts, but {images} images are generated"
            raise RequestError(f"{counts}; give one for each prompt.")
        return [concepts[i * len(concepts) // images] for i in range(images)]

    def _record(self, predictions: Predictions, term: Tensor, moment: Moment) -> None:
        import torch

        prompt = (predictions.prompt - predictions.uncond).flatten(1)
        cosine = torch.full((len(prompt),), -1.0, device=prompt.device)
        for branch, output in predictions.concepts:
            rows = list(branch.images)
            concept = (output - predictions.uncond[rows]).flatten(1)
            cosine[rows] = cosine[rows].maximum(torch.cosine_similarity(prompt[rows], concept))
        changed = term.flatten(1)
        strength = changed.norm(dim=1) / prompt.norm(dim=1).clamp(min=1e-12)
        self._recorder.add(moment, (changed != 0).float().mean(1), strength, cosine)
