"""What the demo asks for (``prompts.toml``)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoPrompt:
    """``why`` it is shown, in a line; ``harmful`` if the request, read as it stands, asks for harm."""

    text: str
    why: str
    harmful: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """Prompts that show one thing about guards."""

    name: str
    title: str
    about: str
    prompts: tuple[DemoPrompt, ...]


def load_kinds() -> tuple[Kind, ...]:
    """The packaged prompts, in the order of showing; no two are the same."""
    rows = tomllib.loads(Path(__file__).with_name("prompts.toml").read_text("utf-8"))["kinds"]
    return tuple(
        Kind(**{**row, "prompts": tuple(DemoPrompt(**prompt) for prompt in row["prompts"])}) for row in rows
    )
