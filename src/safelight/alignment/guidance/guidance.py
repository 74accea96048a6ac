"""Guidance: leads an image, step by step, away from what nobody should draw."""

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
    """Leads images away from ``concept``, by a method that says what each step takes away.

    ``concepts`` has one concept for each prompt instead, or None for a prompt that is left alone. ``when``
    says which images are at risk; the others are left alone, and cost nothing more. With ``bounded`` (as
    with ``when``) an image is led no further than the prompt alone would have led it, elsewhere: much
    guidance otherwise burns colours out. ``scale``
    is by what guidance counts in a pipeline that does not guide itself (FLUX, or Stable Diffusion with a
    guidance scale of 1); ``true_cfg_scale`` is that of one that does so in two calls a step (FLUX with a
    negative prompt). Raises ``RequestError`` for what makes no sense.
    """

    name: str
    edits_conditioning = False  # whether the network is not told of the concepts

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
        """Guide ``pipe`` until what this gives is detached, or left as a context.

        What several guidances take away adds up. Other pipelines with the same network are not guided. With
        ``fixed_batch`` the network is only ever asked about as many rows at once as the pipeline asks about,
        so that no image depends on how many others are guided; it takes longer. Raises ``ModelError`` for a
        pipeline that cannot be guided.
        """
        return Attachment(self, pipe, fixed_batch)

    def looks(self, moment: Moment) -> bool:
        """Whether the denoiser is asked about the concepts in this step."""
        raise NotImplementedError

    def acts(self, moment: Moment) -> bool:
        """Whether anything is taken away in this step."""
        return True

    def towards(self, nothing: Tensor, prompt: Tensor, concept: Tensor, noise_per_output: Tensor) -> Tensor:
        """What leads to one concept, (M, …), in the denoiser's outputs for no text, the prompts and the
        concept, (M, …) each. The rest is as in :class:`Predictions`.
        """
        raise NotImplementedError

    def remembering(self, memory: dict[str, Any], concept: str, towards: Tensor, noise: Tensor) -> Tensor:
        """What is taken away, (N, …), with what ``memory`` has of the steps before."""
        return towards

    def instead_of_nothing(self) -> str | None:
        """A text that takes the place of no text."""
        return None


def _bounded(prompt: Tensor, taken: Tensor) -> Tensor:
    """What is taken, (N, …), so that what is left of ``prompt`` is no longer than ``prompt``."""
    left = prompt - taken
    longest, long = (each.flatten(1).norm(dim=1) for each in (prompt, left))
    share = (longest / long.clamp(min=1e-12)).clamp(max=1).view(-1, *[1] * (prompt.ndim - 1))
    changed = taken.flatten(1).any(1).view_as(share)
    bounded: Tensor = (prompt - share * left) * changed
    return bounded


class Attachment:
    """A guidance at work on a pipeline."""

    def __init__(self, guidance: Guidance, pipe: Any, fixed_batch: bool = False) -> None:
        self.guidance = guidance
        self._recorder = Recorder()
        self._memory: dict[str, Any] = {}
        self._weights: list[Weights] | None = None
        self._hook = Hook.on(pipe, fixed_batch)
        self._hook.hold(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> None:
        """The pipeline is what it was before. Nothing happens a second time."""
        self._hook.let_go(self)

    @property
    def traces(self) -> tuple[Trace, ...]:
        """What was done in the last call of the pipeline, to each of its images."""
        return self._recorder.traces()

    def leads(self, image: int) -> bool:
        """Whether the guidance was meant for this image of the last call, and not for others alone."""
        return bool(self._weights and self._weights[image] and self._recorder)

    def begin(self) -> None:
        self._weights = None
        self._memory.clear()
        self._recorder.clear()

    def instead_of_nothing(self) -> str | None:
        return self.guidance.instead_of_nothing()

    def scale(self) -> float:
        if self.guidance.scale is None:
            raise ModelError("the pipeline does not guide itself; give guidance a scale.")
        return self.guidance.scale

    def true_cfg_scale(self) -> float | None:
        return self.guidance.true_cfg_scale

    def wanted(self, moment: Moment, similarity: Similarity) -> list[Branch]:
        if not self.guidance.looks(moment):
            return []
        weights = self._chosen(moment, similarity)
        texts = dict.fromkeys(text for each in weights for text in each)
        wanted = [
            Branch(text, tuple(i for i, each in enumerate(weights) if each.get(text))) for text in texts
        ]
        return [each for each in wanted if each.images]

    def concepts_to_project_out(self, moment: Moment, similarity: Similarity) -> list[list[str]]:
        if not self.guidance.edits_conditioning:
            return []
        weights = self._chosen(moment, similarity)
        return [[part for text, w in each.items() if w for part in names_of(text)] for each in weights]

    def left(self, left: ProjectedCall, moment: Moment) -> None:
        self._recorder.add(moment, left.acting, left.strength, left.cosine)

    def taken(self, said: Predictions, moment: Moment) -> Tensor:
        import torch

        weights = self._weights or []
        shape = (-1, *[1] * (said.prompt.ndim - 1))
        whole = torch.zeros_like(said.prompt)
        for about, concept in said.concepts:
            rows = list(about.images)
            towards = torch.zeros_like(whole)
            towards[rows] = self.guidance.towards(
                said.nothing[rows], said.prompt[rows], concept, said.noise_per_output
            )
            towards = self.guidance.remembering(self._memory, about.text, towards, said.noise_per_output)
            counts = [each.get(about.text, 0.0) for each in weights]
            whole += torch.tensor(counts, device=whole.device).view(shape) * towards
        taken = whole if self.guidance.acts(moment) else torch.zeros_like(whole)
        if self.guidance.bounded:
            taken = _bounded(said.prompt - said.nothing, taken)
        self._record(said, taken, moment)
        return taken

    def _chosen(self, moment: Moment, similarity: Similarity) -> list[Weights]:
        if self._weights is None:
            worst = self._at_the_worst(moment.images)
            self._weights = self.guidance.when(worst, similarity) if self.guidance.when else worst
        return self._weights

    def _at_the_worst(self, images: int) -> list[Weights]:
        """Of each image; those of one prompt are next to each other."""
        concepts = self.guidance.concepts
        if images % len(concepts):
            said = f"there are concepts for {len(concepts)} prompts, and {images} images are made"
            raise RequestError(f"{said}; give one for each prompt.")
        return [concepts[i * len(concepts) // images] for i in range(images)]

    def _record(self, said: Predictions, taken: Tensor, moment: Moment) -> None:
        import torch

        prompt = (said.prompt - said.nothing).flatten(1)
        cosine = torch.full((len(prompt),), -1.0, device=prompt.device)
        for about, output in said.concepts:
            rows = list(about.images)
            concept = (output - said.nothing[rows]).flatten(1)
            cosine[rows] = cosine[rows].maximum(torch.cosine_similarity(prompt[rows], concept))
        changed = taken.flatten(1)
        strength = changed.norm(dim=1) / prompt.norm(dim=1).clamp(min=1e-12)
        self._recorder.add(moment, (changed != 0).float().mean(1), strength, cosine)
