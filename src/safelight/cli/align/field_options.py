"""Command-line options made from the fields of a dataclass: their names, types, defaults and help texts.

The metadata of a field may have "help", the help text; "option", the name of the option if it differs from
the field's; "shown", the text that the help shows for the default; "min", the smallest value; "files",
true if the option names prompt files that are read into the field; and "metavar", how the help writes the
value.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer

from safelight.errors import RegistryError, RequestError, unknown_name

# Distinguishes the parameters of fields from those of the shared options.
PREFIX = "field_"

_PLAIN = (str, int, float, bool, Path)

Parse = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class FieldOption:
    """An option: its ``parameter`` for Typer, and ``parse``, which converts the given value to the field's.

    If it ``is_files``, the option names files, and the prompts in them are the value.
    """

    parameter: Parameter
    parse: Parse
    is_files: bool = False


def options_of(cls: type, skipped: Sequence[str] = ()) -> dict[str, FieldOption]:
    """Return an option for each field of the dataclass ``cls`` that the command line can express.

    Raises ``RegistryError`` for a required field whose type it cannot express.
    """
    hints = _hints(cls)
    made: dict[str, FieldOption] = {}
    for each in fields(cls):
        # A field with an explicit option name does not take the value of a shared option.
        about = metadata_of(cls, each.name)
        if (each.name in skipped and "option" not in about) or not each.init:
            continue
        if option := _option(each, hints[each.name], about):
            made[each.name] = option
        elif each.default is MISSING and each.default_factory is MISSING:
            raise RegistryError(f'the field "{each.name}" of {cls.__name__} cannot be an option.')
    return made


def metadata_of(cls: type, name: str) -> Mapping[str, Any]:
    """Return a field's metadata; a class that only changes the default inherits its base class's metadata."""
    for base in cls.__mro__:
        mine = base.__dict__.get("__dataclass_fields__", {}).get(name)
        if mine is not None and mine.metadata:
            found: Mapping[str, Any] = mine.metadata
            return found
    return {}


def default_of(cls: type, name: str, otherwise: Any) -> Any:
    """Return the default of a field, or ``otherwise`` if there is no such field or it has none."""
    for each in fields(cls):
        if each.name == name and each.default is not MISSING:
            return each.default
    return otherwise


def _hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls)
    except NameError as error:
        raise RegistryError(f"the types of the fields of {cls.__name__} cannot be read: {error}.") from error


def _option(field: Field[Any], hint: Any, about: Mapping[str, Any]) -> FieldOption | None:
    hint = _without_none(hint)
    if about.get("files"):
        return _made(field, list[Path], about, lambda value: value)
    if hint in _PLAIN:
        return _made(field, hint, about, lambda value: value)
    if get_origin(hint) is Literal:
        return _made(field, str, about, _choice(field.name, get_args(hint)), metavar="|".join(get_args(hint)))
    if get_origin(hint) in (Sequence, list, tuple):
        item = get_args(hint)[0]
        if get_origin(item) is Literal:
            check = _choice(field.name, get_args(item))
            return _made(field, list[str], about, lambda values: [check(each) for each in values])
        if item in _PLAIN:
            return _made(field, list[item], about, list)  # type: ignore[valid-type]
    if get_origin(hint) in (Mapping, dict) and get_args(hint) == (str, float):
        return _made(field, list[str], about, _mapping, metavar=about.get("metavar", "NAME=NUMBER"))
    return None


def _made(field: Field[Any], kind: Any, about: Mapping[str, Any], parse: Parse, **extra: Any) -> FieldOption:
    name = about.get("option", f"--{field.name.replace('_', '-')}")
    is_list, required = (
        get_origin(kind) is list,
        field.default is MISSING and field.default_factory is MISSING,
    )
    default = Parameter.empty if required else _default(field, is_list)
    shown = about.get("shown", default not in ([], "", Parameter.empty))
    option = typer.Option(name, help=about.get("help"), min=about.get("min"), show_default=shown, **extra)
    annotation = Annotated[kind, option]
    parameter = Parameter(PREFIX + field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    return FieldOption(parameter, parse, bool(about.get("files")))


def _default(field: Field[Any], is_list: bool) -> Any:
    factory = field.default_factory
    value: Any = field.default if factory is MISSING else factory()
    if isinstance(value, Mapping):
        return [f"{name}={number}" for name, number in value.items()]
    return list(value) if is_list else value


def _choice(name: str, choices: Sequence[str]) -> Parse:
    def check(value: str) -> str:
        if value not in choices:
            raise RequestError(unknown_name(name, value, choices))
        return value

    return check


def _mapping(values: Sequence[str]) -> dict[str, float]:
    """Parse NAME=NUMBER texts to numbers by name; a name without a number has 1."""
    return dict(map(_pair, values))


def _pair(said: str) -> tuple[str, float]:
    name, _, number = said.partition("=")
    try:
        return name.strip(), float(number or 1)
    except ValueError:
        raise RequestError(f'"{number}" is not a number for "{name}".') from None


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [each for each in get_args(hint) if each is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def is_method(cls: object) -> bool:
    """Return whether ``cls`` is a dataclass with a method ``align``."""
    return isinstance(cls, type) and dataclasses.is_dataclass(cls) and callable(getattr(cls, "align", None))
