"""``safelight train --model``: training a diffusers model further on cleaned data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli.align.proof import check_output
from safelight.errors import MissingExtraError, ModelError, RequestError, unknown_name
from safelight.models.pipelines import best_device

if TYPE_CHECKING:
    from accelerate import Accelerator

# The precisions, and their names in accelerate.
_PRECISIONS = {"fp32": "no", "bf16": "bf16"}

Rank = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Rank of the LoRA to train.",
        show_default="0, which trains the weights themselves",
    ),
]
Resolution = Annotated[
    int | None,
    typer.Option(
        min=8,
        help="Width and height to which images are cropped, in pixels.",
        show_default="the size that the model generates",
    ),
]
TrainSteps = Annotated[
    int | None, typer.Option(min=1, help="Number of optimizer steps.", show_default="1000")
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Number of images in a batch, for each process.", show_default="4")
]
GradientAccumulation = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of batches whose gradients are accumulated for one optimizer step.",
        show_default="1",
    ),
]
LearningRate = Annotated[
    float | None, typer.Option(help="Learning rate of AdamW, above 0; it is constant.", show_default="1e-5")
]
EmaDecay = Annotated[
    float | None,
    typer.Option(
        help="Decay of the exponential moving average (EMA) of the weights, below 1; 0 turns it off.",
        show_default="0.9999",
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="fp32|bf16",
        help="Mixed precision: number format of the activations; weights are trained in fp32.",
        show_default="bf16 on GPUs that support it, fp32 elsewhere",
    ),
]
GradientCheckpointing = Annotated[
    bool | None,
    typer.Option(
        "--gradient-checkpointing",
        help="Recompute activations in the backward pass to save memory.",
        show_default=False,
    ),
]
ProofPrompt = Annotated[
    list[str],
    typer.Option(
        help="Validation prompt: images of it before and after training are shown on the delta's card; "
        "repeatable."
    ),
]

_NUM_IMAGES, _STEPS, _SEED = 4, 25, 0


def fine_tune(
    model: str,
    data: Path | None,
    output: Path | None,
    given: Mapping[str, Any],
    proof_prompts: Sequence[str],
    resume: bool,
    as_json: bool,
) -> None:
    """Train ``model`` further on cleaned ``data``, with the ``given`` settings."""
    if not data:
        raise RequestError("a model is trained further on cleaned data; give --data FOLDER.")
    if not output:
        raise RequestError("the trained change needs a file; give --output safer.safetensors.")
    check_output(output)
    settings = dict(given)
    with _accelerator(settings.pop("precision", None)) as accelerator:
        from safelight.cli.align.command import align_model
        from safelight.safe_training import SafeTraining
        from safelight.safe_training.cleaning import Cleaning

        training = SafeTraining(Cleaning.of(data).training(data), accelerator=accelerator, **settings)
        generation = (_NUM_IMAGES, _STEPS, _SEED)
        align_model(training, model, output, resume, generation, as_json, proof_prompts)


@contextmanager
def _accelerator(precision: str | None) -> Iterator[Accelerator]:
    """Yield the accelerator for the processes that `accelerate launch` started, or for this one alone.

    The process group is destroyed however the command ends, because Python aborts if the group outlives the
    interpreter: gloo's threads free tensors after the last step, and Python terminates a thread that needs
    the interpreter during its shutdown, in the middle of a C++ destructor. There is no barrier, because all
    other processes would wait in it if one of them fails. The first process, which may host the store, ends
    last in any case, as it generates images when the others are done.
    """
    if precision and precision not in _PRECISIONS:
        raise RequestError(unknown_name("precision", precision, _PRECISIONS))
    try:
        import torch
        from accelerate import Accelerator
    except ImportError as error:
        raise MissingExtraError("Training", "generate") from error
    device = best_device()
    able = device == "cuda" and torch.cuda.is_bf16_supported()
    mixed = _PRECISIONS[precision or ("bf16" if able else "fp32")]
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed)
    try:
        yield accelerator
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
            raise ModelError("another process ended early; see its error message.") from error
        raise
    finally:
        accelerator.end_training()
