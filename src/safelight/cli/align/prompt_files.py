"""Prompts from files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.items import read_items
from safelight.errors import RequestError

Column = Annotated[str, typer.Option(help="Where files have their prompts.")]


def read_prompts(path: Path, column: str) -> Iterator[str]:
    """Raises ``RequestError`` for a file that is missing, and for what is no prompt in it."""
    if not path.is_file():
        raise RequestError(f"there is no file {path}; give one that exists.")
    for item in read_items([str(path)], io.BytesIO(), "prompt", column):
        if item.kind == "problem" or not isinstance(item.value, str):
            reason = item.value if item.kind == "problem" else "a prompt is no text."
            raise RequestError(f"{path}: {reason}")
        yield item.value
