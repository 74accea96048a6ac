"""The interfaces of all components: filters, judges, systems, suites, attacks, guidance, alignment methods.

A filter reports findings, the policy decides what follows from them, and the guard runs both around a
pipeline. Evaluations and attacks work on a ``System``, and use a ``Judge`` to label its images.

A filter returns one list of findings per item, in order; the list is empty if nothing was found. In place of
a list it may return a ``FilterError`` for an item that it could not screen, which blocks this item alone. If
``find`` raises an error, it is called again for each item of the batch separately. It may be called from
several threads at the same time. Changing an image that it receives does not affect other filters.

A filter that knows all labels it can report lists them in the attribute ``labels``; a policy that uses a
label which no filter reports is then rejected.

The requirements of a filter are checked at start-up, before it is built. Its class may have a static method
``requires(options)``, which returns the modules that it imports, each with the extra that installs it, and an
attribute ``packaged``, the names that it accepts in place of paths. An option whose type annotation contains
``Path`` is a path relative to the policy file. A filter that runs another one has an attribute ``wraps``: the
names of the option that names the other filter and of the option that holds its options.

Filters are built by ``registry.build(kind, name, name=instance_name, **options)``; the keyword ``name`` is
the name of the instance, which distinguishes two filters of one class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from safelight.errors import FilterError
from safelight.types import (
    AlignmentResult,
    AlignmentRun,
    Answer,
    Finding,
    Judgement,
    Suite,
    TraceStep,
)

if TYPE_CHECKING:
    from PIL.Image import Image


class Named(Protocol):
    """A component whose name and version are written to records."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


@runtime_checkable
class PromptFilter(Named, Protocol):
    def find(self, prompts: Sequence[str]) -> Sequence[Sequence[Finding] | FilterError]:
        """Return the findings in each prompt, in order."""
        ...


@runtime_checkable
class ImageFilter(Named, Protocol):
    def find(self, images: Sequence[Image]) -> Sequence[Sequence[Finding] | FilterError]:
        """Return the findings in each image, in order."""
        ...


@runtime_checkable
class PairFilter(Named, Protocol):
    def find(self, pairs: Sequence[tuple[str, Image]]) -> Sequence[Sequence[Finding] | FilterError]:
        """Return the findings in each pair of a prompt and its image, in order."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Labels images in evaluations: what an image shows, and whether it is harmful.

    A judge should not use the same network as a filter under test. ``settings`` identify its configuration,
    such as the hash of its weights and its thresholds; only records with equal settings share a file.
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    def judge(self, images: Sequence[Image]) -> Sequence[Judgement]:
        """Return one judgement per image, in order."""
        ...


@runtime_checkable
class System(Protocol):
    """The subject of an evaluation, which generates images: a bare pipeline, an aligned model, a guard.

    ``settings`` identify its configuration, such as the hash of the weights and the arguments of each call;
    only records with equal settings share a file.
    """

    def with_arguments(self, **arguments: Any) -> System:
        """Return the same system with additional call arguments, such as ``guidance_scale``.

        Raises ``RequestError`` for arguments that it does not take.
        """
        ...

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    def answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Answer]:
        """Return one answer per prompt, in order; ``prompts`` and ``seeds`` have the same length."""
        ...


class SuiteMaker(Protocol):
    """The factory of a suite, as it is registered under the kind "suite".

    The same seed always gives the same cases; with ``count``, only the first ``count`` of them are returned.
    Raises ``RequestError`` for a negative seed and for a count below 1.
    """

    def __call__(self, seed: int = 0, count: int | None = None) -> Suite: ...


class Attack(Protocol):
    """Turns a system into the same system under attack.

    The attacked system receives the original prompts and sends adversarial prompts with the same meaning to
    the system. An attack may query the system several times, use ``judge`` to check whether it has succeeded,
    and access the pipeline of a system that exposes one as ``system.pipe`` (white-box attacks).
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    def against(self, system: System, judge: Judge) -> System:
        """Return the attacked system. Raises ``RequestError`` for a system that it cannot attack."""
        ...


class GuidanceTrace(Protocol):
    """The effect of a guidance on one image at each denoising step."""

    @property
    def steps(self) -> tuple[TraceStep, ...]: ...
    @property
    def acted(self) -> bool:
        """Whether anything was changed at any step."""
        ...


class GuidanceAttachment(Protocol):
    """A guidance that is attached to a pipeline; detaching it restores the pipeline bit for bit.

    It can be used as a context manager.
    """

    @property
    def traces(self) -> Sequence[GuidanceTrace]:
        """One trace for each image of the pipeline's last call, in order; empty if nothing was traced."""
        ...

    def guides(self, image: int) -> bool:
        """Whether the guidance applied to this image of the last call and recorded a trace of it."""
        ...

    def detach(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


@runtime_checkable
class Guidance(Protocol):
    """Steers images away from concepts during generation; ``alignment.guidance.Guidance`` is a base class.

    The guard builds it by ``registry.build("guidance", name, **options)`` with these options: ``concepts``
    (for each image a mapping from concepts to weights, or None for an image that is not guided), ``bounded``
    (whether an image may move no further from its unconditional prediction than its prompt alone would move
    it), and, where it applies, the ``scale`` of classifier-free guidance or the ``true_cfg_scale`` of the
    call. A guidance that edits the conditioning also takes ``when``, which decides which images are at risk.
    """

    @property
    def name(self) -> str: ...
    @property
    def concepts(self) -> Sequence[Mapping[str, float]]:
        """The weight of each concept: one mapping for each image, or a single one for all images."""
        ...

    @property
    def cost(self) -> int:
        """The time that a guided image takes relative to an image without guidance; it limits batch sizes."""
        ...

    @property
    def concept_per_image(self) -> bool:
        """Whether every image of a call may have its own concepts, or none.

        If False, the guard generates each guided image in a call of its own.
        """
        ...

    @property
    def edits_conditioning(self) -> bool:
        """Whether the guidance removes the concepts from the prompt embeddings.

        The guard combines any other guidance with ``prompt-projection``, which does.
        """
        ...

    def attach(self, pipe: Any, fixed_batch: bool = False) -> GuidanceAttachment:
        """Guide ``pipe`` until the attachment is detached.

        With ``fixed_batch`` the denoiser is always called with the batch size that the pipeline uses, so that
        no image depends on how many others are guided. Raises ``ModelError`` for a pipeline that cannot be
        guided.
        """
        ...


@runtime_checkable
class AlignmentMethod(Protocol):
    """Changes the weights of a model, usually to remove concepts.

    It is a dataclass. ``safelight align`` makes a command of it: the options from the fields, their help
    texts from the metadata "help" (``cli/align/field_options.py`` lists further keys), and the help text of
    the command from the first paragraph of the docstring. A field ``seed`` takes the value of the shared
    option ``--seed``.
    """

    @property
    def name(self) -> str: ...
    def align(self, pipe: Any, run: AlignmentRun = ...) -> AlignmentResult[Any]:
        """Compute the change to ``pipe``, whose weights are restored bit for bit before it returns.

        Raises ``RequestError`` for settings or concepts that are invalid for this model, and ``ModelError``
        if nothing was changed or the change is not finite.
        """
        ...


class Pipeline(Protocol):
    """A diffusers text-to-image pipeline: called with a prompt, gives an object with ``images``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
