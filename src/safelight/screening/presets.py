"""Ready-made options for public models: a policy that lists one by its name needs no options of its own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from safelight.storage.packaged_files import read_text
from safelight.types import Stage

_FILE = Path(__file__).with_name("presets.toml")


def preset_names(stage: Stage) -> tuple[str, ...]:
    """Return the names that a policy can list at a stage, in the order of the file."""
    return tuple(_presets().get(stage, {}))


def with_preset(stage: Stage, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the preset ``name`` changed by ``options``; only the options if there is none, or if they say
    with ``use`` which component it is."""
    preset = {} if "use" in options else _presets().get(stage, {}).get(name, {})
    return {**preset, **options}


@cache
def _presets() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    return tomllib.loads(read_text(_FILE))
