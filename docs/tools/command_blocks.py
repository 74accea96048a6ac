"""The output of ``--help`` of every command, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

from safelight.cli import app

_PROGRAM = "safelight"
# As wide as help is at most, so that the page does not depend on the terminal.
_TERMINAL = {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}


def blocks() -> dict[str, str]:
    """Return one block with the help of the program and of every command below it."""
    return {"commands": "\n\n".join(map(_section, _commands(typer.main.get_command(app), ())))}


def help_of(path: tuple[str, ...]) -> str:
    """Return what ``safelight PATH --help`` prints. Raises ``RuntimeError`` if it fails."""
    done = CliRunner().invoke(app, [*path, "--help"], prog_name=_PROGRAM, env=_TERMINAL)
    if done.exit_code:
        raise RuntimeError(f"safelight {' '.join(path)} --help failed: {done.output}")
    return done.stdout.strip()


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The command and those below it, each by its names, without hidden ones."""
    yield path
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        if not (each := command.get_command(None, name)).hidden:
            yield from _commands(each, (*path, name))


def _section(path: tuple[str, ...]) -> str:
    level = "#" * min(2 + len(path), 4) if path else "##"
    return f"{level} {' '.join((_PROGRAM, *path))}\n\n```text\n{help_of(path)}\n```"
