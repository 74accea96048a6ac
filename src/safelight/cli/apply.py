"""``safelight apply``: writes a model with deltas applied, or a delta as a LoRA, for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson, Model
from safelight.cli.pipeline import open_pipeline
from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.alignment.delta.delta import Delta


class Form(StrEnum):
    """The form of the output."""

    FOLDER = "folder"
    PARAMETERS = "parameters"
    LORA = "lora"


def apply(
    delta: Annotated[
        list[Path], typer.Option("--delta", help="Delta file to apply; repeatable, the deltas add up.")
    ],
    output: Annotated[
        Path, typer.Option(help="Folder for the model or the LoRA, or .safetensors file for the parameters.")
    ],
    model: Model = "storybook",
    scale: Annotated[
        list[float],
        typer.Option(
            "--scale",
            help="Strength of each delta, in the order of --delta: 1 applies it as it is, 0 not at all; "
            "repeatable.",
            show_default="1 for each",
        ),
    ] = [],  # noqa: B006 - typer's way
    form: Annotated[
        Form,
        typer.Option(
            "--as",
            help="Form of the output: the whole model in diffusers' format (folder), its changed parameters, "
            "or one delta as a LoRA for load_lora_weights of diffusers.",
        ),
    ] = Form.FOLDER,
    rank: Annotated[
        int,
        typer.Option(min=1, help="Rank of the LoRA, which leaves out what exceeds it; only with --as lora."),
    ] = 8,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Apply a delta even if it was made for another model, as long as the parameter shapes are "
            "the same.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Apply deltas to a model and save it, or save a delta as a LoRA.

    A delta is a file of weight differences, which `safelight align` and `safelight train --model` write.

    \b
    Examples:
      safelight apply --delta gun.safetensors --output safer
      safelight apply --delta gun.safetensors --delta knife.safetensors --scale 1 --scale 0.8 --output safer
      safelight apply --delta gun.safetensors --as lora --rank 4 --output gun-lora
    """
    from safelight.alignment.delta.delta import Delta
    from safelight.alignment.delta.export import save_folder, save_lora, save_parameters

    scales = scale or [1.0] * len(delta)
    if len(scales) != len(delta):
        raise RequestError(
            f"there are {len(delta)} deltas and {len(scales)} scales; give one scale for each."
        )
    deltas = [Delta.load(path) for path in delta]
    written = f"the model is in {output}"
    pipe = open_pipeline(model)
    with ExitStack() as stack:
        for each, factor in zip(deltas, scales, strict=True):
            stack.enter_context(each.attach(pipe, factor, force))
        if form is Form.FOLDER:
            save_folder(pipe, output)
        elif form is Form.PARAMETERS:
            save_parameters(pipe, _parameter_names(deltas), output)
            written = f"the changed parameters are in {output}"
        else:
            lost = save_lora(_single(deltas), output, rank, scales[0])
            written = f"the LoRA is in {output}; it leaves out {100 * lost:.2f} % of the change"
    if as_json:
        left_out = {"left_out": lost} if form is Form.LORA else {}
        terminal.print_json({"out": str(output), "as": form.value, **left_out})
    else:
        terminal.print_line(written)


def _parameter_names(deltas: Sequence[Delta]) -> list[str]:
    return list(dict.fromkeys(name for delta in deltas for name in delta.tensors))


def _single(deltas: Sequence[Delta]) -> Delta:
    if len(deltas) > 1:
        raise RequestError(
            "a LoRA is made of one delta; write one for each delta and load them together, where they add up."
        )
    return deltas[0]
