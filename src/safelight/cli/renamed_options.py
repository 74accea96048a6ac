"""Options that had another name before 0.2; the old names work until 0.3 and are not shown in any help."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

RENAMED = {
    "--picture": "--image",
    "--pictures": "--num-images",
}


class Command(TyperCommand):
    """Understands the old names of its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {name for each in self.params if isinstance(each, TyperOption) for name in each.opts}
        return super().parse_args(ctx, list(_renamed(args, known)))


class Commands(typer.Typer):
    """A group whose commands understand the old names of their options."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        return super().command(name, **{"cls": Command, **settings})


def _renamed(args: Sequence[str], known: set[str]) -> Iterator[str]:
    """Only an option that this command has under its new name, and not under the old one, is renamed."""
    options = True
    for arg in args:
        options = options and arg != "--"
        name, equals, value = arg.partition("=")
        new = RENAMED.get(name)
        if options and new in known and name not in known:
            yield f"{new}{equals}{value}"
        else:
            yield arg
