"""``safelight align``: a command for each registered alignment method."""

from __future__ import annotations

from functools import cache
from typing import Any

from typer.core import TyperCommand, TyperGroup

from safelight import registry
from safelight.cli.align.command import command_of
from safelight.cli.renamed_options import Commands
from safelight.errors import RegistryError

# Before 0.2 one command trained text encoders, with an option for the method.
_TEXT_ENCODER, _METHOD = "text-encoder", "--method"


class _Methods(TyperGroup):
    """A command group that builds the command of a method on first use, from the fields of its dataclass."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(registry.names("alignment_method"))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        try:
            return _command(cmd_name)
        except RegistryError:
            return None  # a method that cannot be imported is left out of the help

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        args = _as_before(args)
        if args and not args[0].startswith("-"):
            _command(args[0])  # raises the error that explains why there is no such command
        return super().resolve_command(ctx, args)


def _as_before(args: list[str]) -> list[str]:
    if not args or args[0] != _TEXT_ENCODER:
        return args
    rest, method = args[1:], "safetext"
    if _METHOD in rest[:-1]:
        at = rest.index(_METHOD)
        method, rest = rest[at + 1], rest[:at] + rest[at + 2 :]
    return [method, *rest]


@cache
def _command(name: str) -> TyperCommand:
    return command_of(name)


align = Commands(
    name="align",
    cls=_Methods,
    help="Remove concepts from a model. The result is a delta, a file of weight differences.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@align.callback()
def about() -> None:
    """Remove concepts from a model. The result is a delta, a file of weight differences.

    Each command is a registered alignment method; packages add more with the entry point group
    safelight.alignment_method.
    """
