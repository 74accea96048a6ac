"""Deltas: the weight differences that an alignment method made, with their provenance."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self
from weakref import WeakKeyDictionary

from pydantic import ConfigDict, StringConstraints, TypeAdapter

from safelight.alignment.delta.file import read_delta
from safelight.errors import ModelError
from safelight.models.network_view import original_of
from safelight.models.weights import half_precision_sha256
from safelight.storage.tensor_file import write_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

_KIND, _FORMAT = "safelight", "1"

_Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of a delta: ``method`` removed ``concepts`` from the model ``base``.

    ``base_sha256`` has the hash of each component of the base model in half precision, ``settings`` the
    settings that reproduce the delta, and ``proof`` its measured effect.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    method: str
    concepts: tuple[str, ...]
    base: str
    base_sha256: Mapping[str, _Sha256]
    settings: Mapping[str, Any] = field(default_factory=dict)
    proof: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Delta:
    """Differences that are added to a model's parameters.

    ``tensors`` is keyed by parameter name, which starts with the pipeline's component: ``unet.mid_block.…``.
    """

    tensors: Mapping[str, Tensor]
    about: Provenance

    @classmethod
    def of(cls, differences: Mapping[str, Tensor], about: Provenance) -> Self:
        """Return a delta of the non-zero ``differences``.

        Raises ``ModelError`` if all are zero or any is not finite.
        """
        for name, difference in differences.items():
            if not difference.isfinite().all():
                raise ModelError(f'the edit makes "{name}" NaN or infinite; use a weaker edit.')
        changed = {name: each.cpu() for name, each in differences.items() if each.any()}
        if not changed:
            raise ModelError("nothing was changed in the model; check the concepts and the settings.")
        return cls(changed, about)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a delta. Raises ``ModelError`` if the file is missing, not a delta, or has NaN or infinity."""
        tensors, metadata = read_delta(path)
        try:
            if metadata["format"] != _FORMAT:
                raise ModelError(f"{path} is of another version of safelight; make it again.")
            about = TypeAdapter(Provenance).validate_json(metadata[_KIND], strict=True)
        except (KeyError, ValueError) as error:  # pydantic's own error is a ValueError
            raise ModelError(f"{path} is not a delta; give a file that `safelight align` wrote.") from error
        if not tensors:
            raise ModelError(f"{path} changes nothing; give a file that `safelight align` wrote.")
        return cls(tensors, about)

    def save(self, path: Path) -> None:
        """Write the file atomically. Raises ``ModelError`` if it cannot be written."""
        write_tensors(self.tensors, path, {"format": _FORMAT, _KIND: json.dumps(asdict(self.about))})

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The components of the pipeline that the delta changes, such as "unet"."""
        return tuple(dict.fromkeys(name.partition(".")[0] for name in self.tensors))

    def attach(self, pipe: Any, scale: float = 1.0, force: bool = False) -> AttachedDelta:
        """Add the delta, times ``scale``, to ``pipe``; several attached deltas add up.

        The returned object restores the model when it is detached or its context is left. Raises
        ``ModelError`` unless the model is the one that the delta was made for; with ``force`` it only needs
        parameters of the same names and shapes.
        """
        self.check(pipe, force)
        return AttachedDelta(self, pipe, scale)

    def check(self, pipe: Any, force: bool = False) -> None:
        """Raise ``ModelError`` unless the delta can be attached to ``pipe``."""
        unhashed = sorted(set(self.parts) - self.about.base_sha256.keys())
        if unhashed and not force:
            raise ModelError(
                f"the delta has no hash of the {unhashed[0]} that it was made for; use another, or force it."
            )
        for name, parameter in parameters_of(pipe, self.tensors).items():
            if parameter.shape != self.tensors[name].shape:
                raise ModelError(f'the model\'s "{name}" has another shape; the delta is for another model.')
        for part, expected in self.about.base_sha256.items():
            if not force and part in self.parts and part_sha256(pipe, part) != expected:
                raise ModelError(
                    f"the {part} is not that of {self.about.base}, for which the delta was made; use that "
                    "model, or force it."
                )


class AttachedDelta:
    """A delta that is applied to a model.

    Deltas can be detached in any order; without them the model is bit for bit what it was.
    """

    def __init__(self, delta: Delta, pipe: Any, scale: float) -> None:
        self.delta = delta
        self.scale = scale
        self._modules = [_patched_module(pipe, part) for part in delta.parts]
        try:
            for module in self._modules:
                module.apply(self)
        except BaseException:
            self.detach()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> None:
        """Restore the model; calling it again has no effect."""
        for module in self._modules:
            module.revert(self)


class _PatchedModule:
    """One component of a pipeline, with the deltas that are applied to it."""

    def __init__(self, part: str, module: nn.Module) -> None:
        self.part = part
        self._parameters = dict(module.named_parameters())
        self._before: dict[str, Tensor] = {}
        self._hashed: tuple[Any, str] | None = None
        self.applied: list[AttachedDelta] = []
        # One thread may check whether a delta fits this model while another generates with it.
        self._lock = threading.RLock()

    def is_of(self, module: nn.Module) -> bool:
        """Whether the module still has the same parameter objects."""
        now = dict(module.named_parameters())
        return now.keys() == self._parameters.keys() and all(now[n] is p for n, p in self._parameters.items())

    @property
    def sha256(self) -> str:
        """The hash of the component without deltas, in half precision; computed again only after a change."""
        with self._lock:
            if self._hashed is None or self._hashed[0] != self._state():
                self._hashed = (self._state(), half_precision_sha256({**self._parameters, **self._before}))
            return self._hashed[1]

    def apply(self, attached: AttachedDelta) -> None:
        with self._lock:
            for name in self._names(attached.delta):
                self._before.setdefault(name, self._parameters[name].detach().clone())
            self.applied.append(attached)
            self._set(self._names(attached.delta))

    def revert(self, attached: AttachedDelta) -> None:
        with self._lock:
            if attached not in self.applied:
                return
            self.applied.remove(attached)
            names = self._names(attached.delta)
            self._set(names)
            still = {name for each in self.applied for name in self._names(each.delta)}
            for name in names - still:
                del self._before[name]

    def _names(self, delta: Delta) -> set[str]:
        prefix = f"{self.part}."
        return {name.removeprefix(prefix) for name in delta.tensors if name.startswith(prefix)}

    def _set(self, names: Iterable[str]) -> None:
        """Recompute the parameters in place, as compiled or offloaded models keep pointers to them."""
        import torch

        ours = self._hashed is not None and self._hashed[0] == self._state()
        for name in names:
            parameter, value = self._parameters[name], self._before[name].to(self._parameters[name].device)
            applied = [each for each in self.applied if f"{self.part}.{name}" in each.delta.tensors]
            if applied:
                value = value.float()
                for each in applied:
                    value = value + each.scale * each.delta.tensors[f"{self.part}.{name}"].to(value)
            with torch.no_grad():
                parameter.copy_(value)
        if self._hashed and ours:
            self._hashed = (self._state(), self._hashed[1])

    def _state(self) -> list[tuple[int, int]]:
        """Return a state that differs after any parameter was written to."""
        return [(each.data_ptr(), each._version) for each in self._parameters.values()]


_PATCHED_MODULES: WeakKeyDictionary[nn.Module, _PatchedModule] = WeakKeyDictionary()
_PATCHED_LOCK = threading.Lock()


def json_sha256(value: object) -> str:
    """Return the hash of a value as JSON; it replaces prompts, which are personal data, in a provenance."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def part_sha256(pipe: Any, part: str) -> str:
    """Return the hash of a component of ``pipe`` in half precision, without the deltas applied to it."""
    return _patched_module(pipe, part).sha256


def module_of(pipe: Any, part: str) -> nn.Module:
    """Return a component of ``pipe`` as a module. Raises ``ModelError`` if there is no such component."""
    module: Any = getattr(pipe, part, None)
    if not hasattr(module, "named_parameters"):
        raise ModelError(f'a {type(pipe).__name__} has no "{part}"; the delta is for another model.')
    original: nn.Module = original_of(module)
    return original


def _patched_module(pipe: Any, part: str) -> _PatchedModule:
    module = module_of(pipe, part)
    with _PATCHED_LOCK:
        patched = _PATCHED_MODULES.get(module)
        if patched is None or not (patched.applied or patched.is_of(module)):
            patched = _PATCHED_MODULES[module] = _PatchedModule(part, module)
        return patched


def parameters_of(pipe: Any, names: Iterable[str]) -> dict[str, Tensor]:
    """Return the parameters with these names, which start with the component of the pipeline.

    Raises ``ModelError`` for a name that ``pipe`` does not have.
    """
    names = list(names)
    parts = dict.fromkeys(name.partition(".")[0] for name in names)
    known = {
        f"{part}.{name}": parameter
        for part in parts
        for name, parameter in module_of(pipe, part).named_parameters()
    }
    for name in names:
        if name not in known:
            raise ModelError(f'the model has no "{name}"; the delta is for another model.')
    return {name: known[name] for name in names}
