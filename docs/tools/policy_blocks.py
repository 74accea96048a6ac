"""The tables of the policy reference: keys, actions, categories and options of filters, as Markdown."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from safelight import policy, registry
from safelight.policy.taxonomy import load_taxonomy
from safelight.types import Action

EXAMPLES = Path(__file__).parents[2] / "examples" / "policies"

# The models of a policy's tables, by the heading of each.
TABLES: Mapping[str, type[BaseModel]] = {
    "top": policy.Policy,
    "filters": policy.Filters,
    "category": policy.CategoryRule,
    "thresholds": policy.Thresholds,
    "context": policy.ContextRule,
    "early-stop": policy.EarlyStop,
    "guidance": policy.GuidanceRule,
    "hiding": policy.Hiding,
    "log": policy.Log,
}
FILTERS = ("prompt_filter", "image_filter", "pair_filter")
_ROLE = re.compile(r":\w+:(`[^`]+`)")
_TYPES = {str: "text", float: "number", int: "whole number", bool: "`true` or `false`"}


def blocks() -> dict[str, str]:
    """Return every block of the policy reference by its name."""
    return {
        **{f"{name}-keys": _keys(model) for name, model in TABLES.items()},
        "actions": _actions(),
        "categories": _categories(),
        "other-taxonomies": _other_taxonomies(),
        "filter-options": _filter_options(),
        **{f"example-{path.stem}": _example(path) for path in sorted(EXAMPLES.glob("*.toml"))},
    }


def docstrings(owner: type[Any]) -> dict[str, str]:
    """Return the docstring below each field of a class, by the field's name."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            for target in _targets(field):
                found[target] = _sentence(str(below.value.value))
    return found


def _sentence(docstring: str) -> str:
    """A paragraph on one line, or a list, with code marked as in Markdown."""
    text = docstring if docstring.startswith("- ") else " ".join(docstring.split())
    return _ROLE.sub(r"\1", text).replace("``", "`")


def _targets(field: ast.stmt) -> Iterator[str]:
    targets = [field.target] if isinstance(field, ast.AnnAssign) else getattr(field, "targets", [])
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def _keys(model: type[BaseModel]) -> str:
    said = docstrings(model)
    rows = [
        (f"`{name}`", _type(field), _default(field), said[name]) for name, field in model.model_fields.items()
    ]
    return _table(("key", "value", "default", "meaning"), rows)


def _type(field: FieldInfo) -> str:
    """Return the type of a key's value in the terms of TOML."""
    return _type_of(field.annotation)


def _type_of(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if _is_table(annotation):
        return "table"
    if origin is tuple:
        return "list of tables" if _is_table(parts[0]) else f"list of {_plural(_type_of(parts[0]))}"
    if origin is dict:
        return f"table of {_plural(_type_of(parts[1]))}"
    if origin is Literal:
        return _either([f'`"{part}"`' for part in parts])
    if parts:  # Annotated, or a type that may be left out
        return _type_of(next(part for part in parts if part is not type(None)))
    return _TYPES.get(annotation, "value")


def _either(said: list[str]) -> str:
    return " or ".join(filter(None, (", ".join(said[:-1]), said[-1])))


def _is_table(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def _plural(said: str) -> str:
    head, space, rest = said.partition(" ")
    return said if said.startswith("`") else f"{head}s{space}{rest}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is PydanticUndefined or value is None or isinstance(value, BaseModel) or value == ():
        return "none"
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


def _actions() -> str:
    said = docstrings(Action)
    return _table(("action", "what happens"), [(f"`{each}`", said[each.name]) for each in Action])


def _categories() -> str:
    rows = [(f"`{id}`", category.meaning) for id, category in load_taxonomy().categories.items()]
    return _table(("category", "meaning"), rows)


def _other_taxonomies() -> str:
    categories = load_taxonomy().categories
    others = list(next(iter(categories.values())).names)
    rows = [
        (f"`{id}`", *(", ".join(category.names[other]) or "–" for other in others))
        for id, category in categories.items()
    ]
    return _table(("category", *others), rows)


def _filter_options() -> str:
    sections = [
        f"### {kind.replace('_', ' ').capitalize()} `{name}`\n\n{_options(kind, name)}"
        for kind in FILTERS
        for name in registry.names(kind)
        if registry.factory_of(kind, name).__module__.startswith("safelight.")
    ]
    return "\n\n".join(sections)


def _options(kind: str, name: str) -> str:
    factory = registry.factory_of(kind, name)
    rows = [
        (f"`{each.name}`", f"`{_annotation(each)}`", _option_default(each))
        for each in inspect.signature(factory).parameters.values()
        if each.name not in ("name", "version")
    ]
    said = _description(factory)
    return f"{said}\n\n{_table(('option', 'type', 'default'), rows) if rows else 'It has no options.'}"


def _description(factory: object) -> str:
    """The docstrings of a component and of its bases, without what it raises."""
    classes = inspect.getmro(factory) if inspect.isclass(factory) else (factory,)
    said = [each.__doc__ or "" for each in classes if each.__module__.startswith("safelight.")]
    paragraphs = [paragraph for each in said for paragraph in inspect.cleandoc(each).split("\n\n")]
    return "\n\n".join(_sentence(each) for each in paragraphs if each and not each.startswith("Raises"))


def _annotation(parameter: inspect.Parameter) -> str:
    return re.sub(r"\s*\|\s*", " or ", str(parameter.annotation).removesuffix(" | None"))


def _option_default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    empty = parameter.default is None or parameter.default in ("", (), frozenset())
    return "none" if empty else f"`{_toml(parameter.default)}`"


def _example(path: Path) -> str:
    return f"```toml\n{path.read_text('utf-8').strip()}\n```"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
