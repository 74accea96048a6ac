"""``safelight train``: everything that ships with the storybook, trained again."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson
from safelight.cli.pipeline import hush
from safelight.errors import MissingExtraError, ModelError, RequestError


class Trained(StrEnum):
    STORYBOOK = "storybook"
    JUDGE = "judge"
    FILTER = "filter"


def train(
    what: Annotated[Trained, typer.Argument(help="The model, or a detector.")] = Trained.STORYBOOK,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the model, or .onnx file.", show_default="in runs/")
    ] = None,
    work: Annotated[Path, typer.Option(help="Where renders and checkpoints are kept.")] = Path("runs/work"),
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How much of the full training to do.")
    ] = 1.0,
    start: Annotated[
        Path | None, typer.Option(help="Folder of a storybook model to train further.", show_default="none")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train the embedded model or a detector again.

    Everything it needs is drawn on the way. Hours on two cores, on a GPU less. A training that was stopped
    goes on from its last checkpoint when the same command is given again.

    \b
    Examples:
      safelight train
      safelight train judge --out judge.onnx
      safelight train storybook --share 0.01   # only to see that it runs
    """
    hush()
    target = out or Path("runs") / ("storybook" if what is Trained.STORYBOOK else f"{what}.onnx")
    _train(what, target, work, share, start)
    if as_json:
        terminal.print_json({"trained": what.value, "out": str(target)})
    else:
        terminal.print_line(f"{what} is in {target}")


def _train(what: Trained, out: Path, work: Path, share: float, start: Path | None) -> None:
    if start and what is not Trained.STORYBOOK:
        raise RequestError("--start is for the storybook only; leave it out.")
    if start and not (start / "unet").is_dir():
        raise ModelError(f"there is no storybook model in {start}; give the folder of one.")
    try:
        from safelight.storybook.training.detector import train_detector
        from safelight.storybook.training.storybook import train_storybook
    except ImportError as error:
        raise MissingExtraError("Training", "generate,dev") from error
    if what is Trained.STORYBOOK:
        train_storybook(out, work, share, start)
    else:
        train_detector(what.value, out, work, share)
