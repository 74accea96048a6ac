"""Filters as listed in a policy: they are checked at start-up without loading, and built on first use."""

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
from safelight.screening.presets import with_preset
from safelight.storage.toml_file import KeyPath
from safelight.types import Stage


@dataclass(frozen=True, slots=True)
class ListedFilter:
    """The filter ``name`` of a stage of a policy: the component ``component`` with ``options``.

    Paths in the options are relative to the policy file in which they are written; ``paths`` lists all of
    them. A value is a path unless it is the name of something packaged, a hub id with a ``revision``, or a
    single word that is not an existing path.
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
        """Return a filter that a policy lists.

        Raises ``PolicyError`` for invalid options ``use`` and ``name``, and ``RegistryError`` for a component
        that is unknown or does not take the options; the options of a filter within it are checked as well.
        """
        where: KeyPath = ("filters", "options", name)
        options = with_preset(stage, name, policy.filters.options.get(name, {}))
        component = options.pop("use", name)
        if not isinstance(component, str) or "name" in options:
            problem = f'in the options of "{name}", use must be text, and name cannot be set.'
            raise PolicyError(policy.at(where, problem))
        isolated = options.pop("isolation", "thread") == "process"
        paths: dict[KeyPath, Path] = {}
        options = _checked_options(
            policy, f"{stage}_filter", component, {**options, "name": name}, where, paths
        )
        del options["name"]
        return cls(policy, stage, name, component, options, paths, isolated)

    def check(self) -> None:
        """Check, without loading anything, that the files and optional dependencies of the filter exist.

        Raises ``PolicyError`` for a missing file or folder, and ``MissingExtraError`` for dependencies.
        """
        for where, path in self.paths.items():
            if not exists(path):
                problem = f"there is no file or folder {path}; a model on a hub needs the option revision."
                raise PolicyError(self.policy.at(where, problem))
        for module, extra in self._requires().items():
            if not _is_installed(module):
                otherwise = f", or ask for stages other than {self.stage}"
                raise MissingExtraError(f'the {self.stage} filter "{self.name}"', extra, otherwise)

    def build(self) -> Any:
        """Build the filter, in its own process if it is ``isolated``.

        Raises ``FilterError`` for options that it cannot be built with.
        """
        kind = f"{self.stage}_filter"
        try:
            if self.isolated:
                return IsolatedFilter(kind, self.component, self.name, self.options)
            return registry.build(kind, self.component, name=self.name, **self.options)
        except SafelightError:
            raise
        except Exception as error:  # constructors may raise anything for invalid options
            raise FilterError(
                f'the filter "{self.name}" cannot be built with its options: {type(error).__name__}: {error}.'
            ) from error

    def _requires(self) -> Mapping[str, str]:
        """Return the modules that the filter imports, and the extra that installs each."""
        requires = getattr(registry.factory_of(f"{self.stage}_filter", self.component), "requires", None)
        return requires(self.options) if requires else {}


def _checked_options(
    policy: Policy,
    kind: str,
    component: str,
    options: Mapping[str, Any],
    where: KeyPath,
    paths: dict[KeyPath, Path],
) -> dict[str, Any]:
    """Return the options of a component with absolute paths, which are added to ``paths``.

    A component with the attribute ``wraps`` builds another one; it names the options that hold the other's
    name and its options, which are checked in the same way. Raises ``RegistryError`` for a component that is
    unknown or does not take the options.
    """
    try:
        registry.bind(kind, component, **options)
    except RegistryError as error:
        raise RegistryError(policy.at(where, str(error))) from error
    factory = registry.factory_of(kind, component)
    resolver = _Resolver(policy, getattr(factory, "packaged", ()), paths)
    checked = dict(options)
    is_on_hub = bool(options.get("revision"))
    for option in registry.path_options(kind, component) & options.keys():
        checked[option] = resolver.resolve((*where, option), options[option], is_on_hub)
    if wraps := getattr(factory, "wraps", None):
        other, key = wraps
        inner = options.get(key, {})
        if not isinstance(inner, Mapping):
            raise PolicyError(
                policy.at((*where, key), f"the options of the filter in {key} are not a table.")
            )
        checked[key] = _checked_options(policy, kind, options[other], inner, (*where, key), paths)
    return checked


@dataclass(frozen=True, slots=True)
class _Resolver:
    """Resolves the paths in options, and collects them in ``paths``."""

    policy: Policy
    packaged: Any
    paths: dict[KeyPath, Path]

    def resolve(self, where: KeyPath, value: Any, is_on_hub: bool) -> Any:
        """Return ``value`` with every path in it made absolute.

        In lists every item is a path; in tables the value of ``file`` is one or, without it, every key.
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
            return value  # a name that the filter knows, or for which it raises an error
        self.paths[where] = path
        return str(path)


def listed_filters(policy: Policy, stage: Stage) -> Iterator[ListedFilter]:
    """Yield the filters of a stage, cheapest first; raises the errors of ``ListedFilter.of``."""
    return (ListedFilter.of(policy, stage, name) for name in policy.filters.of(stage))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ValueError:  # for an imported module whose ``__spec__`` is None
        return True
