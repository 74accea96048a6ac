"""``safelight train``: retrains the packaged models, or trains any model further."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.fine_tune import (
    BatchSize,
    EmaDecay,
    GradientAccumulation,
    GradientCheckpointing,
    LearningRate,
    Precision,
    ProofPrompt,
    Rank,
    Resolution,
    TrainSteps,
    fine_tune,
)
from safelight.cli.options import AsJson, Encoder, Share, Teacher
from safelight.cli.pipeline import quiet_libraries
from safelight.errors import MissingExtraError, ModelError, RequestError


class Trained(StrEnum):
    STORYBOOK = "storybook"
    JUDGE = "judge"
    FILTER = "filter"
    CLIP = "clip"
    PROMPT_CLASSIFIER = "prompt-classifier"
    TEXT_GATE = "text-gate"


What = Annotated[
    Trained | None,
    typer.Argument(
        metavar="WHAT",
        help="Model to train without --model: the packaged generator (storybook), the detector of its judge "
        "or of its filter, its CLIP, the prompt classifier, or the text gate of the image filter ocr.",
        show_default="storybook",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the trained model, .onnx file for judge, filter and text-gate, or .safetensors "
        "delta of --model, for which it is required.",
        show_default="a name in runs/",
    ),
]
Work = Annotated[Path, typer.Option(help="Folder for rendered images and checkpoints; not for --model.")]
Start = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a storybook model to train further; for storybook only.",
        show_default="random weights",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="For storybook and --model: folder that `safelight clean` wrote. For prompt-classifier: Parquet "
        "file, or folder of such files, with the columns prompt, label (safe or unsafe), categories and "
        "source. For text-gate: folder of photographs that show no text."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Diffusers folder, .safetensors checkpoint or Hugging Face Hub id to train further on --data; "
        "the options from --rank to --resume are for it."
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Resume from the checkpoint that the same command left when it was interrupted; without it, "
        "such a checkpoint is an error.",
    ),
]


def train(
    what: What = None,
    output: Output = None,
    work: Work = Path("runs/work"),
    share: Share = 1.0,
    start: Start = None,
    data: Data = None,
    encoder: Encoder = None,
    teacher: Teacher = None,
    model: Model = None,
    rank: Rank = None,
    resolution: Resolution = None,
    train_steps: TrainSteps = None,
    batch_size: BatchSize = None,
    gradient_accumulation: GradientAccumulation = None,
    learning_rate: LearningRate = None,
    ema_decay: EmaDecay = None,
    precision: Precision = None,
    gradient_checkpointing: GradientCheckpointing = None,
    proof_prompt: ProofPrompt = [],  # noqa: B006 - typer's way
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train a diffusers model on cleaned data, or a packaged model.

    With --model the denoiser of a diffusers model is trained further on cleaned images with captions. The
    result is a delta, a file of weight differences, as of `safelight align`. A training that was interrupted
    resumes with --resume. `accelerate launch -m safelight train …` uses several GPUs.

    Without --model a model that ships with Safelight is trained again. The model storybook, its CLIP and its
    detectors are trained on images that the command renders first; the prompt classifier and the text gate
    need --data. With --data the denoiser of storybook is trained from random weights on cleaned images with
    captions instead, and its text encoder and autoencoder stay as they are. This takes hours on two CPU cores
    and less on a GPU. A training that was interrupted always resumes when the same command is given again.

    \b
    Examples:
      safelight train
      safelight train judge --output judge.onnx
      safelight train storybook --share 0.01   # only to see that it runs
      safelight train storybook --data cleaned --work runs/cleaned --output runs/safer
      safelight train prompt-classifier --data prompts.parquet
      safelight train text-gate --data photographs/
      safelight train --model ./stable-diffusion --data cleaned --rank 16 --output safer.safetensors
    """
    quiet_libraries()
    given: dict[str, Any] = {"rank": rank, "resolution": resolution, "train_steps": train_steps}
    given |= {"batch_size": batch_size, "gradient_accumulation": gradient_accumulation}
    given |= {"learning_rate": learning_rate, "ema_decay": ema_decay, "precision": precision}
    given |= {"gradient_checkpointing": gradient_checkpointing}
    given = {name: value for name, value in given.items() if value is not None}
    if model:
        if what or start or encoder or teacher or share < 1:
            raise RequestError("--model is trained on --data alone; leave the other options out.")
        fine_tune(model, data, output, given, proof_prompt, resume, as_json)
        return
    others = [*given, *(["proof_prompt"] if proof_prompt else []), *(["resume"] if resume else [])]
    if others:
        raise RequestError(f"--{others[0].replace('_', '-')} is for --model; leave it out.")
    _train_own(what or Trained.STORYBOOK, output, work, share, start, data, encoder, teacher, as_json)


def _train_own(
    what: Trained,
    out: Path | None,
    work: Path,
    share: float,
    start: Path | None,
    data: Path | None,
    encoder: Path | None,
    teacher: Path | None,
    as_json: bool,
) -> None:
    _check_options(what, start, data, {"encoder": encoder, "teacher": teacher})
    single_file = what in (Trained.JUDGE, Trained.FILTER, Trained.TEXT_GATE)
    target = out or Path("runs") / (f"{what}.onnx" if single_file else what.value)
    if what is Trained.TEXT_GATE:
        _train_text_gate(data, target, work, share)
    elif what is Trained.PROMPT_CLASSIFIER:
        _train_prompt_classifier(data, encoder, teacher, target, work, share)
    elif data:
        _train_from_data(data, target, work, share)
    else:
        _train(what, target, work, share, start)
    if as_json:
        terminal.print_json({"trained": what.value, "out": str(target)})
    else:
        terminal.print_line(f"{what} is in {target}")


def _check_options(
    what: Trained, start: Path | None, data: Path | None, folders: Mapping[str, Path | None]
) -> None:
    if start and what is not Trained.STORYBOOK:
        raise RequestError("--start is for the storybook only; leave it out.")
    if start and not (start / "unet").is_dir():
        raise ModelError(f"there is no storybook model in {start}; give the folder of one.")
    for name, folder in folders.items():
        if folder and what is not Trained.PROMPT_CLASSIFIER:
            raise RequestError(f"--{name} is for the prompt classifier only; leave it out.")
    if data and what not in (Trained.PROMPT_CLASSIFIER, Trained.STORYBOOK, Trained.TEXT_GATE):
        raise RequestError("--data is for storybook, prompt-classifier and text-gate only; leave it out.")
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
        from safelight.safe_training.cleaning import Cleaning
        from safelight.storybook.training.from_data import IMAGES, train_from_data
        from safelight.training.fit import scaled
    except ImportError as error:
        raise MissingExtraError("Training", "generate,dev") from error
    train_from_data(Cleaning.of(data).training(data), out, work, scaled(IMAGES, share))


def _train_prompt_classifier(
    data: Path | None, encoder: Path | None, teacher: Path | None, out: Path, work: Path, share: float
) -> None:
    if not data:
        raise RequestError("the prompt classifier is trained on labelled prompts; give --data FILE.")
    try:
        from safelight.attacks.spelling import misspell_somehow
        from safelight.filters.text.training.classifier import Recipe, train_prompt_classifier
        from safelight.filters.text.training.encoder import check_encoder, find_encoder
    except ImportError as error:
        raise MissingExtraError("Training", "generate,dev") from error
    taught_by = check_encoder(teacher) if teacher else None
    recipe = Recipe(data, find_encoder(encoder), misspell_somehow, taught_by, share)
    train_prompt_classifier(recipe, out, work)


def _train_text_gate(data: Path | None, out: Path, work: Path, share: float) -> None:
    if not data:
        raise RequestError("the text gate is trained on photographs without text; give --data FOLDER.")
    try:
        from safelight.filters.image.training.text_gate import train_text_gate
    except ImportError as error:
        raise MissingExtraError("Training", "generate,dev") from error
    train_text_gate(data, out, work, share)
