"""Problems with the keys and values of a policy, as sentences with file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from safelight.errors import closest_match
from safelight.policy.category import CSAE, CategoryRule, Thresholds
from safelight.policy.source import PolicySource
from safelight.policy.taxonomy import load_taxonomy
from safelight.storage.toml_file import KeyPath

# Longer values are not repeated in a message.
_LONGEST_VALUE = 60
_TYPES = re.compile(r"(tuple|dictionary)( or instance of \w+)?")
_IN_TOML = {"tuple": "list", "dictionary": "table"}
# Tables whose keys are names that may have dots in them.
_NAMED = (("categories",), ("labels",), ("guidance", "concepts"), ("guidance", "deltas"))


def validation_problems(
    source: PolicySource, error: ValidationError, model: type[BaseModel]
) -> Iterator[str]:
    """Return a sentence for each problem in ``error``; ``model`` is the Pydantic model that was validated."""
    for each in error.errors():
        where: KeyPath = each["loc"]
        named = ".".join(map(str, where))
        sentence = f"{named + ': ' if named else ''}{_sentence(each, where, model)}"
        yield source.at(where, sentence if sentence.endswith("?") else f"{sentence}.")


def _sentence(error: Any, where: KeyPath, model: type[BaseModel]) -> str:
    value, message = error["input"], _TYPES.sub(lambda match: _IN_TOML[match[1]], error["msg"])
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "missing":
        return "this key is missing; add it"
    if where[:2] == ("categories", CSAE):
        return "csae is always on; remove this table"
    if quoting := _quoting(where, value, model):
        return quoting
    if error["type"] == "extra_forbidden":
        return _unknown_key(where, model)
    if value is False:
        return f"{message}; false only removes what an extended policy has, so remove this line"
    return f"{message}, not {_shown(value)}"


def _unknown_key(where: KeyPath, model: type[BaseModel]) -> str:
    key, table = str(where[-1]), _table(where[:-1], model)
    if table is CategoryRule and key in Thresholds.model_fields:
        return f"a threshold belongs to a stage; write prompt, image or pair = {{ {key} = … }}"
    near = closest_match(key, table.model_fields)
    return f'unknown key; did you mean "{near}"?' if near else "unknown key; remove it"


def _quoting(where: KeyPath, value: object, model: type[BaseModel]) -> str | None:
    """Return how to quote a name with a dot, as in ``[categories.sexual.nudity]``; None if there is none."""
    table = next((table for table in _NAMED if where[: len(table)] == table), None)
    if table is None or not isinstance(value, Mapping) or where == table:
        return None
    parts = [str(part) for part in where[len(table) :]]
    if table != ("categories",):
        return f'a name with a dot is one key; quote it: "{".".join([*parts, *list(value)[:1]])}" = …'
    if len(parts) < 2:
        return None
    name, known = ".".join(parts), load_taxonomy().categories
    if name not in known and closest_match(parts[-1], _table(where[:-1], model).model_fields):
        return None
    return f'a name with a dot is one key; quote it: [categories."{closest_match(name, known) or name}"]'


def _table(where: KeyPath, model: type[BaseModel]) -> type[BaseModel]:
    """Return the model of the table at ``where``, skipping names and numbers on the way."""
    for key in where:
        field = model.model_fields.get(str(key))
        model = (field and _model_in(field.annotation)) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}…"
