"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one machine-readable result.")]
Model = Annotated[
    str, typer.Option(help="A packaged model, a diffusers folder, a .safetensors file or a hub id.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
Steps = Annotated[int, typer.Option(min=1, help="Denoising steps for each picture.")]
