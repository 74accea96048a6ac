"""Options that were renamed in 0.2; the old names work until 0.3 and are not shown in any help.

``--out`` is not one of them: it remains as a hidden short form of ``--output``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

# The new names by old names; a new name may include the value that an old flag meant.
RENAMED = {
    "--accumulate": "--gradient-accumulation",
    "--apart": "--held-out",
    "--average": "--ema-decay",
    "--away": "--unsafe-objective",
    "--bank": "--safe-bank-size",
    "--batch": "--batch-size",
    "--caption": "--caption-column",
    "--checkpoint": "--checkpoint-every",
    "--checkpointing": "--gradient-checkpointing",
    "--falling": "--lr-scheduler=cosine",
    "--form": "--format",
    "--image": "--image-column",
    "--inner-steps": "--attack-steps",
    "--iterations": "--train-steps",
    "--jitter": "--jitter-timesteps",
    "--layers": "--num-layers",
    "--lora-rank": "--rank",
    "--measure": "--eval-every",
    "--n": "--num-images-per-prompt",
    "--out": "--output",
    "--own": "--num-prompts",
    "--part": "--trajectory-fraction",
    "--picture": "--image-column",
    "--pictures": "--num-images",
    "--prefix": "--prefix-length",
    "--rate": "--learning-rate",
    "--refresh": "--refresh-every",
    "--safe-batch": "--safe-batch-size",
    "--seeds": "--num-images-per-prompt",
    "--show": "--proof-prompt",
    "--steps": "--num-inference-steps",
    "--tokens": "--max-tokens",
    "--unsafe-batch": "--unsafe-batch-size",
    "--walks": "--trajectories",
    "--weight": "--unsafe-weight",
}


class Command(TyperCommand):
    """A command that accepts the old names of its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        options = [each for each in self.params if isinstance(each, TyperOption)]
        known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
        return super().parse_args(ctx, list(_renamed(args, known)))


class Commands(typer.Typer):
    """A group whose commands accept the old names of their options."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        return super().command(name, **{"cls": Command, **settings})


def _renamed(args: Sequence[str], known: set[str]) -> Iterator[str]:
    """Yield the arguments with old option names replaced by new ones.

    An option is renamed only if ``known``, the command's own options, has the new name and not the old one.
    Arguments after ``--`` are values and never renamed.
    """
    options = True
    for arg in args:
        options = options and arg != "--"
        name, equals, value = arg.partition("=")
        new = RENAMED.get(name, "")
        if options and name not in known and new.partition("=")[0] in known:
            yield f"{new}{equals}{value}"
        else:
            yield arg
