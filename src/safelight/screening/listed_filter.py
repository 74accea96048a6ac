"""A filter as a policy lists it: checked at start-up without being loaded, made when it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from safelight import registry
from safelight.errors import FilterError, MissingExtraError, PolicyError, RegistryError, SafelightError
from safelight.models.source import HUB_ID
from safelight.policy import Policy
from safelight.policy.source import exists
from safelight.screening.isolation import IsolatedFilter
from safelight.storage.toml_file import KeyPath
from safelight.types import Stage


@dataclass(frozen=True, slots=True)
class ListedFilter:
    """The filter called ``name`` at a stage of a policy, which is ``component`` with ``options``.

    Paths in the options are relative to the file of the policy in which they stand; ``paths`` are all of
    them. What is neither packaged nor, with a ``revision``, on a hub is such a path, unless it is one word.
    """

    policy: Policy
    stage: Stage
    name: str
    component: str
    options: Mapping[str, Any]
    paths: Mapping[KeyPath, Path] = field(default_factory=dict)
    isolated: bool = False

    @classmethod
    def of(cls, policy: Policy, stage: Stage, name: str) -> Self:
        """Raises ``PolicyError`` for options ``use`` and ``name`` that make no sense, ``RegistryError`` for a
        component that is unknown or does not take the options."""
        where: KeyPath = ("filters", "options", name)
        options = dict(policy.filters.options.get(name, {}))
        component = options.pop("use", name)
        if not isinstance(component, str) or "name" in options:
            said = f'in the options of "{name}", use must be text, and name cannot be set.'
            raise PolicyError(policy.at(where, said))
        isolated = options.pop("isolation", "thread") == "process"
        kind = f"{stage}_filter"
        try:
            registry.bind(kind, component, name=name, **options)
        except RegistryError as error:
            raise RegistryError(policy.at(where, str(error))) from error
        paths: dict[KeyPath, Path] = {}
        resolver = _Resolver(policy, getattr(registry.factory_of(kind, component), "packaged", ()), paths)
        is_on_hub = bool(options.get("revision"))
        for option in registry.path_options(kind, component) & options.keys():
            options[option] = resolver.resolve((*where, option), options[option], is_on_hub)
        return cls(policy, stage, name, component, options, paths, isolated)

    def check(self) -> None:
        """Whether its files and the optional parts that it needs are there; loads nothing.

        Raises ``PolicyError`` for a file or folder that is missing, ``MissingExtraError`` for a part.
        """
        for where, path in self.paths.items():
            if not exists(path):
                said = f"there is no file or folder {path}; a model on a hub needs the option revision."
                raise PolicyError(self.policy.at(where, said))
        for module, extra in self._requires().items():
            if not _is_installed(module):
                otherwise = f", or ask for stages other than {self.stage}"
                raise MissingExtraError(f'the {self.stage} filter "{self.name}"', extra, otherwise)

    def build(self) -> Any:
        """The filter itself, in a process of its own if it is ``isolated``.

        Raises ``FilterError`` for options that it cannot be made with.
        """
        kind = f"{self.stage}_filter"
        try:
            if self.isolated:
                return IsolatedFilter(kind, self.component, self.name, self.options)
            return registry.build(kind, self.component, name=self.name, **self.options)
        except SafelightError:
            raise
        except Exception as error:  # whatever a constructor makes of odd options
            raise FilterError(
                f'the filter "{self.name}" cannot be made with its options: {type(error).__name__}: {error}.'
            ) from error

    def _requires(self) -> Mapping[str, str]:
        """Modules that it imports, and the extra that each comes with."""
        requires = getattr(registry.factory_of(f"{self.stage}_filter", self.component), "requires", None)
        return requires(self.options) if requires else {}


@dataclass(frozen=True, slots=True)
class _Resolver:
    """Notes in ``paths`` what it takes for a path."""

    policy: Policy
    packaged: Any
    paths: dict[KeyPath, Path]

    def resolve(self, where: KeyPath, value: Any, is_on_hub: bool) -> Any:
        """``value`` with every path in it made to lead somewhere from any folder.

        In lists every item is a path; in tables that of ``file`` is or, where there is none, every key.
        """
        if isinstance(value, str):
            return self._path(where, value, is_on_hub)
        if isinstance(value, list):
            return [self.resolve(where, each, is_on_hub) for each in value]
        if isinstance(value, dict) and isinstance(value.get("file"), str):
            return {**value, "file": self._path((*where, "file"), value["file"], False)}
        if isinstance(value, dict):
            return {self._path((*where, key), key, False): each for key, each in value.items()}
        return value

    def _path(self, where: KeyPath, value: str, is_on_hub: bool) -> str:
        path = self.policy.folder_of(where).absolute() / value
        if value in self.packaged or (is_on_hub and HUB_ID.fullmatch(value) and not exists(path)):
            return value
        if value.replace("-", "_").isidentifier() and not exists(path):
            return value  # the name of something that the filter knows, or that it will say it does not
        self.paths[where] = path
        return str(path)


def listed_filters(policy: Policy, stage: Stage) -> Iterator[ListedFilter]:
    """The filters of a stage, cheapest first; errors as ``ListedFilter.of``."""
    return (ListedFilter.of(policy, stage, name) for name in policy.filters.of(stage))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # of a module that is imported and does not say from where
        return True
