"""``safelight apply``: deltas onto a model, for programs that load models only."""

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
    FOLDER = "folder"
    PARAMETERS = "parameters"
    LORA = "lora"


def apply(
    delta: Annotated[list[Path], typer.Option("--delta", help="A delta; repeatable, they add up.")],
    out: Annotated[Path, typer.Option(help="Folder of the model or the LoRA, or file of the parameters.")],
    model: Model = "storybook",
    scale: Annotated[
        list[float], typer.Option("--scale", help="How much of each delta, in order.", show_default="1")
    ] = [],  # noqa: B006 - typer's way
    form: Annotated[
        Form, typer.Option("--as", help="A whole model, what was changed of it, or a LoRA of one delta.")
    ] = Form.FOLDER,
    rank: Annotated[int, typer.Option(min=1, help="Of the LoRA.")] = 8,
    force: Annotated[bool, typer.Option("--force", help="Even onto another model of this kind.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put deltas onto a model and write it, or write a delta as a LoRA.

    \b
    Examples:
      safelight apply --delta gun.safetensors --out safer
      safelight apply --delta gun.safetensors --delta knife.safetensors --scale 1 --scale 0.8 --out safer
      safelight apply --delta gun.safetensors --as lora --rank 4 --out gun-lora
    """
    from safelight.alignment.delta.delta import Delta
    from safelight.alignment.delta.export import save_folder, save_lora, save_parameters

    scales = scale or [1.0] * len(delta)
    if len(scales) != len(delta):
        raise RequestError(
            f"there are {len(delta)} deltas and {len(scales)} scales; give one scale for each."
        )
    deltas = [Delta.load(path) for path in delta]
    said = f"the model is in {out}"
    pipe = open_pipeline(model)
    with ExitStack() as stack:
        for each, much in zip(deltas, scales, strict=True):
            stack.enter_context(each.attach(pipe, much, force))
        if form is Form.FOLDER:
            save_folder(pipe, out)
        elif form is Form.PARAMETERS:
            save_parameters(pipe, _names(deltas), out)
            said = f"the parameters that were changed are in {out}"
        else:
            lost = save_lora(_only(deltas), out, rank, scales[0])
            said = f"the LoRA is in {out}; it leaves out {100 * lost:.2f} % of the change"
    if as_json:
        left_out = {"left_out": lost} if form is Form.LORA else {}
        terminal.print_json({"out": str(out), "as": form.value, **left_out})
    else:
        terminal.print_line(said)


def _names(deltas: Sequence[Delta]) -> list[str]:
    return list(dict.fromkeys(name for delta in deltas for name in delta.tensors))


def _only(deltas: Sequence[Delta]) -> Delta:
    if len(deltas) > 1:
        raise RequestError(
            "a LoRA is made of one delta; make one of each, they add up where they are loaded."
        )
    return deltas[0]
