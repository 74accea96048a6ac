"""``safelight train --model``: a model of diffusers trained further on cleaned data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli.align.proof import check_out
from safelight.errors import MissingExtraError, RequestError, no_such
from safelight.models.pipelines import best_device

if TYPE_CHECKING:
    from accelerate import Accelerator

# As accelerate calls them.
_PRECISIONS = {"fp32": "no", "bf16": "bf16"}

Rank = Annotated[
    int | None,
    typer.Option(min=1, help="Train a change of this rank; nothing is copied.", show_default="whole weights"),
]
Resolution = Annotated[
    int | None, typer.Option(min=8, help="Of images, in pixels.", show_default="what the model draws")
]
Iterations = Annotated[int | None, typer.Option(min=1, help="Steps.", show_default="1000")]
Batch = Annotated[int | None, typer.Option(min=1, help="Images at once, in a process.", show_default="4")]
Batches = Annotated[int | None, typer.Option(min=1, help="Batches in a step.", show_default="1")]
Rate = Annotated[float | None, typer.Option(help="Of learning.", show_default="1e-5")]
Average = Annotated[
    float | None,
    typer.Option(help="The decay of the weights' moving average; 0 for none.", show_default="0.9999"),
]
Precision = Annotated[
    str | None, typer.Option(help="fp32 or bf16.", show_default="bf16 on GPUs that have it")
]
Checkpointing = Annotated[
    bool | None,
    typer.Option(
        "--checkpointing", help="Work out again, backwards, what else would be kept.", show_default=False
    ),
]
Shown = Annotated[list[str], typer.Option(help="A prompt to draw before and after; repeatable.")]

_NUM_IMAGES, _STEPS, _SEED = 4, 25, 0


def fine_tune(
    model: str,
    data: Path | None,
    out: Path | None,
    given: Mapping[str, Any],
    show: Sequence[str],
    resume: bool,
    as_json: bool,
) -> None:
    if not data:
        raise RequestError("a model is trained further on cleaned data; give --data FOLDER.")
    if not out:
        raise RequestError("what is learnt needs a file; give --out safer.safetensors.")
    check_out(out)
    settings = {"steps" if name == "iterations" else name: value for name, value in given.items()}
    accelerator = _accelerator(settings.pop("precision", None))
    from safelight.alignment.safe_training import SafeTraining
    from safelight.alignment.training_data import Cleaning
    from safelight.cli.align.training import train

    training = SafeTraining(Cleaning.of(data).training(data), accelerator=accelerator, **settings)
    train(training, model, out, resume, (_NUM_IMAGES, _STEPS, _SEED), as_json, show)


def _accelerator(precision: str | None) -> Accelerator:
    """Of as many processes as `accelerate launch` began."""
    if precision and precision not in _PRECISIONS:
        raise RequestError(no_such("precision", precision, _PRECISIONS))
    try:
        import torch
        from accelerate import Accelerator
    except ImportError as error:
        raise MissingExtraError("Training", "generate") from error
    device = best_device()
    able = device == "cuda" and torch.cuda.is_bf16_supported()
    mixed = _PRECISIONS[precision or ("bf16" if able else "fp32")]
    return Accelerator(cpu=device == "cpu", mixed_precision=mixed)
