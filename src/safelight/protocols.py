"""The architecture on one page: what each part must be able to do, and nothing about how.

A filter reports what it sees, the policy decides, the guard runs both around a pipeline. Attacks and
evaluations see a ``System``; who needs to know what is in an image is handed a ``Judge``.

A filter answers with one list of findings per item, in order, empty where nothing was seen. In place of a
list it may give a ``FilterError`` for an item that it could not look at: that blocks this item alone. After
an error that it raises, it is asked about every item of the batch again by itself. It may be called from
several threads at the same time, and sees images that it cannot change for others.

A filter that knows every label it can report has them as ``labels``; then a policy with a label that no
filter reports is refused.

What a filter needs is checked at start-up, before it is built: its class may have ``requires(options)``, a
static method that gives the modules which it imports and the extra each comes with, and ``packaged``, the
names that it takes in place of paths. An option whose type has ``Path`` in it is a path, relative to the
policy's file.

Filters are built by ``registry.build(kind, name, name=instance_name, **options)``; ``name`` is the
instance's name, so that two filters of one class stay apart.
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
    """Everything whose name and version end up in a record."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


@runtime_checkable
class PromptFilter(Named, Protocol):
    def find(self, prompts: Sequence[str]) -> Sequence[Sequence[Finding] | FilterError]:
        """What is in each prompt."""
        ...


@runtime_checkable
class ImageFilter(Named, Protocol):
    def find(self, images: Sequence[Image]) -> Sequence[Sequence[Finding] | FilterError]:
        """What is in each image."""
        ...


@runtime_checkable
class PairFilter(Named, Protocol):
    def find(self, pairs: Sequence[tuple[str, Image]]) -> Sequence[Sequence[Finding] | FilterError]:
        """What each prompt and its image say together."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Says for evaluations what an image shows and whether it is harmful.

    A judge should not be the network that a filter under test uses. ``settings`` say everything that must be
    the same for records to be in one file: the hash of its weights, its thresholds.
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
    """Whatever answers prompts with images: a bare pipeline, an aligned model, a whole guard.

    ``settings`` say everything that must be the same for records to be in one file: the hash of the weights,
    the arguments of each call.
    """

    def with_arguments(self, **arguments: Any) -> System:
        """Return the same system whose calls have these arguments as well ("guidance_scale").

        Raises ``RequestError`` for arguments that it does not take.
        """
        ...

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    def answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Answer]:
        """One answer per prompt, in order; ``prompts`` and ``seeds`` have one length."""
        ...


class SuiteMaker(Protocol):
    """Makes a suite: what is registered as one.

    The same seed always gives the same cases, and ``count`` the first so many of them. Raises
    ``RequestError`` for a negative seed and for a count below 1.
    """

    def __call__(self, seed: int = 0, count: int | None = None) -> Suite: ...


class Attack(Protocol):
    """Turns a system into the same system under attack.

    The attacked system receives the original prompts and asks the system other ones that mean the same. An
    attack may ask several times, use ``judge`` to see how far it came, and look inside the pipeline of a
    system that has one (``system.pipe``).
    """

    @property
    def name(self) -> str: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...
    def against(self, system: System, judge: Judge) -> System:
        """Return the attacked system. Raises ``RequestError`` for a system that it cannot attack."""
        ...


class GuidanceTrace(Protocol):
    """What a guidance did to one image, denoising step by denoising step."""

    @property
    def steps(self) -> tuple[TraceStep, ...]: ...
    @property
    def acted(self) -> bool:
        """Whether anything was changed at any step."""
        ...


class GuidanceAttachment(Protocol):
    """A guidance that is attached to a pipeline, which is restored bit for bit when it is detached.

    It is used as a context as well.
    """

    @property
    def traces(self) -> Sequence[GuidanceTrace]:
        """One trace for each image of the pipeline's last call, in order; empty if nothing was traced."""
        ...

    def guides(self, image: int) -> bool:
        """Whether the guidance was meant for this image of the last call and left a trace of it."""
        ...

    def detach(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


@runtime_checkable
class Guidance(Protocol):
    """Steers images away from concepts while they are made. ``alignment.guidance.Guidance`` is a base class.

    The guard builds it by ``registry.build("guidance", name, **options)`` with these options: ``concepts``
    (for each image a mapping from concepts to weights, or None for an image that is not guided), ``bounded``
    (an image is moved no further from its unconditional prediction than its prompt alone would move it), and,
    where it applies, the ``scale`` of classifier-free guidance or the ``true_cfg_scale`` of the call. A
    guidance that edits the conditioning also takes ``when``: which images are at risk.
    """

    @property
    def name(self) -> str: ...
    @property
    def concepts(self) -> Sequence[Mapping[str, float]]:
        """The weight of each concept, for each image, or once for all images."""
        ...

    @property
    def cost(self) -> int:
        """The time that a guided image takes, in images that are not guided. Batches are filled by it."""
        ...

    @property
    def concept_per_image(self) -> bool:
        """Whether every image of a call may have its own concepts, or none.

        Otherwise the guard generates each guided image in a call of its own.
        """
        ...

    @property
    def edits_conditioning(self) -> bool:
        """Whether the concepts are removed from what the denoiser is told of the prompt.

        The guard combines any other guidance with the projection of the prompt.
        """
        ...

    def attach(self, pipe: Any, fixed_batch: bool = False) -> GuidanceAttachment:
        """Guide ``pipe`` until the attachment is detached.

        With ``fixed_batch`` the denoiser is called with as many rows as the pipeline asks for, so that no
        image depends on how many others are guided. Raises ``ModelError`` for a pipeline that cannot be
        guided.
        """
        ...


@runtime_checkable
class AlignmentMethod(Protocol):
    """Changes the weights of a model, mostly to remove concepts.

    It is a dataclass: ``safelight align`` makes the options of its command from the fields, with "help" and
    what else ``cli/align/field_options.py`` names from their metadata, and the help text from the first
    paragraph of the docstring. A field ``seed`` takes the value of the option that all methods share.
    """

    @property
    def name(self) -> str: ...
    def align(self, pipe: Any, run: AlignmentRun = ...) -> AlignmentResult[Any]:
        """Return the change to ``pipe``, which is afterwards bit for bit what it was.

        Raises ``RequestError`` for settings or concepts that make no sense for this model, and ``ModelError``
        if nothing was changed or the change is not finite.
        """
        ...


class Pipeline(Protocol):
    """A diffusers text-to-image pipeline: called with a prompt, gives an object with ``images``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
