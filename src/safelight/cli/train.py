"""``safelight train``: everything that ships, trained again, and any model trained further."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.align.options import Resume
from safelight.cli.fine_tune import (
    Average,
    Batch,
    Batches,
    Checkpointing,
    Iterations,
    Precision,
    Rank,
    Rate,
    Resolution,
    Shown,
    fine_tune,
)
from safelight.cli.options import AsJson, Encoder, Share
from safelight.cli.pipeline import quiet_libraries
from safelight.errors import MissingExtraError, ModelError, RequestError


class Trained(StrEnum):
    STORYBOOK = "storybook"
    JUDGE = "judge"
    FILTER = "filter"
    CLIP = "clip"
    PROMPT_CLASSIFIER = "prompt-classifier"


What = Annotated[
    Trained | None,
    typer.Argument(help="The model, a detector, the CLIP, or the classifier.", show_default="storybook"),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the model, .onnx file of a detector, delta of --model.", show_default="in runs/"
    ),
]
Work = Annotated[Path, typer.Option(help="Where renders and checkpoints are kept.")]
Start = Annotated[
    Path | None, typer.Option(help="Folder of a storybook model to train further.", show_default="none")
]
Data = Annotated[
    Path | None,
    typer.Option(help="Cleaned data, for the storybook and --model; labelled prompts, for the classifier."),
]
Model = Annotated[
    str | None, typer.Option(help="Of diffusers: trained further on --data; the options below are for it.")
]


def train(
    what: What = None,
    out: Out = None,
    work: Work = Path("runs/work"),
    share: Share = 1.0,
    start: Start = None,
    data: Data = None,
    encoder: Encoder = None,
    model: Model = None,
    lora_rank: Rank = None,
    resolution: Resolution = None,
    iterations: Iterations = None,
    batch: Batch = None,
    accumulate: Batches = None,
    rate: Rate = None,
    average: Average = None,
    precision: Precision = None,
    checkpointing: Checkpointing = None,
    show: Shown = [],  # noqa: B006 - typer's way
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train the embedded model, a detector, the CLIP or the prompt classifier again, or any model further.

    What model and detectors need is drawn on the way; the prompt classifier takes --data. With --data the
    storybook's denoiser is trained from nothing on what stays of cleaned data, images with captions; the
    text encoder and the autoencoder are the storybook's. Hours on two cores, on a GPU less. A training that
    was stopped goes on from its last checkpoint when the same command is given again.

    With --model a model's own denoiser is trained further on cleaned data; what it learns is a delta, as
    those of `safelight align`. `accelerate launch -m safelight train …` spreads it over several GPUs.

    \b
    Examples:
      safelight train
      safelight train judge --out judge.onnx
      safelight train storybook --share 0.01   # only to see that it runs
      safelight train storybook --data cleaned --work runs/cleaned --out runs/safer
      safelight train prompt-classifier --data prompts.parquet
      safelight train --model ./stable-diffusion --data cleaned --lora-rank 16 --out safer.safetensors
    """
    quiet_libraries()
    given: dict[str, Any] = {"lora_rank": lora_rank, "resolution": resolution, "iterations": iterations}
    given |= {"batch": batch, "accumulate": accumulate, "rate": rate, "average": average}
    given |= {"precision": precision, "checkpointing": checkpointing}
    given = {name: value for name, value in given.items() if value is not None}
    if model:
        if what or start or encoder or share < 1:
            raise RequestError("--model is trained on --data alone; leave the other options out.")
        fine_tune(model, data, out, given, show, resume, as_json)
        return
    if foreign := [*given, *(["show"] if show else []), *(["resume"] if resume else [])]:
        raise RequestError(f"--{foreign[0].replace('_', '-')} is for --model; leave it out.")
    _train_own(what or Trained.STORYBOOK, out, work, share, start, data, encoder, as_json)


def _train_own(
    what: Trained,
    out: Path | None,
    work: Path,
    share: float,
    start: Path | None,
    data: Path | None,
    encoder: Path | None,
    as_json: bool,
) -> None:
    _check_options(what, start, data, encoder)
    detector = what in (Trained.JUDGE, Trained.FILTER)
    target = out or Path("runs") / (f"{what}.onnx" if detector else what.value)
    if what is Trained.PROMPT_CLASSIFIER:
        _train_prompt_classifier(data, encoder, target, work, share)
    elif data:
        _train_from_data(data, target, work, share)
    else:
        _train(what, target, work, share, start)
    if as_json:
        terminal.print_json({"trained": what.value, "out": str(target)})
    else:
        terminal.print_line(f"{what} is in {target}")


def _check_options(what: Trained, start: Path | None, data: Path | None, encoder: Path | None) -> None:
    if start and what is not Trained.STORYBOOK:
        raise RequestError("--start is for the storybook only; leave it out.")
    if start and not (start / "unet").is_dir():
        raise ModelError(f"there is no storybook model in {start}; give the folder of one.")
    if encoder and what is not Trained.PROMPT_CLASSIFIER:
        raise RequestError("--encoder is for the prompt classifier only; leave it out.")
    if data and what not in (Trained.PROMPT_CLASSIFIER, Trained.STORYBOOK):
        raise RequestError("--data is for the storybook and the prompt classifier only; leave it out.")
    if data and start:
        raise RequestError("--start and --data do not go together; leave one out.")


def _train(what: Trained, out: Path, work: Path, share: float, start: Path | None) -> None:
    try:
        from safelight.storybook.training.clip import train_clip
        from safelight.storybook.training.detector import train_detector
        from safelight.storybook.training.storybook import train_storybook
    except ImportError as error:
        raise MissingExtraError("Training", "generate,dev") from error
    if what is Trained.STORYBOOK:
        train_storybook(out, work, share, start)
    elif what is Trained.CLIP:
        train_clip(out, work, share)
    else:
        train_detector(what.value, out, work, share)


def _train_from_data(data: Path, out: Path, work: Path, share: float) -> None:
    try:
        from safelight.alignment.training_data import Cleaning
        from safelight.storybook.training.from_data import IMAGES, train_from_data
        from safelight.training.loop import scaled
    except ImportError as error:
        raise MissingExtraError("Training", "generate,dev") from error
    train_from_data(Cleaning.of(data).training(data), out, work, scaled(IMAGES, share))


def _train_prompt_classifier(
    data: Path | None, encoder: Path | None, out: Path, work: Path, share: float
) -> None:
    if not data:
        raise RequestError("the prompt classifier is trained on labelled prompts; give --data FILE.")
    try:
        from safelight.attacks.spelling import misspell_somehow
        from safelight.filters.text.training.classifier import train_prompt_classifier
        from safelight.filters.text.training.encoder import find_encoder
    except ImportError as error:
        raise MissingExtraError("Training", "generate,dev") from error
    train_prompt_classifier(data, find_encoder(encoder), out, work, misspell_somehow, share)
