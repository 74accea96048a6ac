"""Options that several ways of aligning share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Accumulate = Annotated[int, typer.Option(min=1, help="Batches in a step.")]
Checkpoint = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
Concepts = Annotated[
    list[str],
    typer.Option("--concept", help="What to take out, and between commas other names for it; repeatable."),
]
Out = Annotated[Path, typer.Option(help="The delta, a .safetensors file; its card is written beside it.")]
Measured = Annotated[
    int, typer.Option(min=0, help="Look every so many steps what is left, and end where nothing changes.")
]
LoraRank = Annotated[
    int,
    typer.Option(min=0, help="Train a change of this rank; nothing is copied.", show_default="whole weights"),
]
NumImages = Annotated[int, typer.Option(min=1, help="Drawn of each concept before and after, as a proof.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the same command stopped.")]
