"""A registry of components by kind and name: ``build("prompt_filter", "lexicon", words="general")``.

Built-in components are registered with the decorator ``register`` where they are defined; other packages
declare a factory as an entry point of the group ``safelight.<kind>``. Both are imported on first use.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from safelight.errors import RegistryError, first_line, unknown_name

Factory = Callable[..., Any]
F = TypeVar("F", bound=Factory)

# The packages of the built-in components; all of their modules are imported on first use.
_HOMES: dict[str, tuple[str, ...]] = {
    "prompt_filter": ("safelight.filters.constant", "safelight.filters.text"),
    "image_filter": ("safelight.filters.constant", "safelight.filters.image"),
    "pair_filter": ("safelight.filters.constant", "safelight.filters.text_image"),
    "attack": ("safelight.attacks",),
    "guidance": ("safelight.alignment.guidance",),
    "alignment_method": ("safelight.alignment.diffusion", "safelight.alignment.text_encoder"),
    "judge": ("safelight.storybook.judging",),
    "suite": ("safelight.evaluation.borderline", "safelight.storybook.suites"),
}
KINDS = tuple(_HOMES)

_PATH = re.compile(r"\bPath\b")

_factories: dict[tuple[str, str], Factory] = {}


def register(kind: str, name: str) -> Callable[[F], F]:
    """Register the decorated class or function; raises ``RegistryError`` if the name is taken."""
    _check_kind(kind)

    def add(factory: F) -> F:
        if (kind, name) in _factories:
            raise RegistryError(f'there is a {kind} "{name}" already; register this one under another name.')
        _factories[kind, name] = factory
        return factory

    return add


def names(kind: str) -> tuple[str, ...]:
    """Return the sorted names of all components of ``kind``, including installed plug-ins."""
    _discover(kind)
    built_in = {name for of, name in _factories if of == kind}
    return tuple(sorted(built_in | _plugins(kind).keys()))


def bind(kind: str, name: str, /, **options: Any) -> Callable[[], Any]:
    """Return a function that builds a component, after checking name and options.

    Raises ``RegistryError`` for an unknown name or an option that the component does not take.
    """
    factory = factory_of(kind, name)
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        takes = ", ".join(inspect.signature(factory).parameters) or "none"
        raise RegistryError(f'the {kind} "{name}" takes the options {takes}: {error}.') from error
    return partial(factory, **options)


def path_options(kind: str, name: str) -> frozenset[str]:
    """Return the options of a component that are paths: those whose annotation contains ``Path``."""
    parameters = inspect.signature(factory_of(kind, name)).parameters.values()
    return frozenset(each.name for each in parameters if _PATH.search(str(each.annotation)))


def build(kind: str, name: str, /, **options: Any) -> Any:
    """Build a component with ``options``; raises the same errors as ``bind``."""
    make = bind(kind, name, **options)
    try:
        return make()
    except TypeError as error:
        # The signature of a class that passes ``**options`` to its base accepts any; its base then raises.
        if "unexpected keyword argument" not in str(error):
            raise
        raise RegistryError(f'the {kind} "{name}" does not take such an option: {error}.') from error


def factory_of(kind: str, name: str) -> Factory:
    """Return the factory of a component.

    Raises ``RegistryError`` if there is none of that name, or if it cannot be imported.
    """
    if name not in names(kind):
        raise RegistryError(unknown_name(kind, name, names(kind)))
    plugin = _plugins(kind).get(name)
    if plugin is None:
        return _factories[kind, name]
    try:
        factory: Factory = plugin.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        where = f'the {kind} "{name}" cannot be imported from {plugin.value}'
        raise RegistryError(f"{where} ({reason}).") from error
    if _factories.setdefault((kind, name), factory) is not factory:
        raise RegistryError(f'two packages provide a {kind} "{name}"; uninstall one of them.')
    return factory


@cache
def _discover(kind: str) -> None:
    _check_kind(kind)
    for home in _HOMES[kind]:
        package = importlib.import_module(home)
        for module in pkgutil.iter_modules(getattr(package, "__path__", []), f"{home}."):
            importlib.import_module(module.name)


@cache
def _plugins(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"safelight.{kind}")}


def _check_kind(kind: str) -> None:
    if kind not in _HOMES:
        raise RegistryError(unknown_name("kind of component", kind, KINDS))
