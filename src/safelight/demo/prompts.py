"""The demo's prompts, read from ``prompts.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """One prompt; ``why`` says what it shows, ``harmful`` whether it asks for harm if taken literally."""

    text: str
    why: str
    harmful: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A group of prompts that illustrate one point about guards."""

    name: str
    title: str
    about: str
    prompts: tuple[DemoPrompt, ...]


def load_kinds() -> tuple[Kind, ...]:
    """Return the packaged prompts in their order on the page; no two are the same."""
    rows = tomllib.loads(Path(__file__).with_name("prompts.toml").read_text("utf-8"))["kinds"]
    return tuple(
        Kind(**{**row, "prompts": tuple(DemoPrompt(**prompt) for prompt in row["prompts"])}) for row in rows
    )
