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
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from safelight.errors import FilterError
from safelight.types import AlignmentResult, AlignmentRun, Answer, Finding, Judgement

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
