"""``safelight evaluate``: how well the model draws, the detectors see and the classifier reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson, Encoder, Model, Seed, Share, Steps
from safelight.cli.pipeline import quiet_libraries
from safelight.cli.renamed_options import Commands
from safelight.errors import MissingExtraError

evaluate = Commands(
    name="evaluate",
    no_args_is_help=True,
    help="Measure a model, a detector or a classifier, with intervals.",
)

Data = Annotated[Path, typer.Option(help="Labelled prompts (Parquet).")]
Scenes = Annotated[int, typer.Option(help="How many fresh scenes to show it.")]


@evaluate.command()
def model(
    model: Model = "storybook",
    out: Annotated[Path, typer.Option(help="Folder for records and results.")] = Path("runs/model"),
    seed: Seed = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    steps: Steps = 25,
    as_json: AsJson = False,
) -> None:
    """What a model draws of what it is asked for: 2,000 prompts, marked by the judge.

    A run that was stopped goes on where it was when the same command is given again.

    \b
    Examples:
      safelight evaluate model
      safelight evaluate model --limit 100 --json
    """
    from safelight.experiments.model import evaluate_model

    quiet_libraries()
    with terminal.progress("Drawing and judging") as tell:
        results = evaluate_model(model, out, seed=seed, limit=limit, steps=steps, progress=tell)
    show_results(results, out, as_json)


@evaluate.command()
def judge(
    out: Annotated[Path, typer.Option(help="Folder for results.json.")] = Path("runs/judge"),
    scenes: Scenes = 5000,
    seed: Seed = 9000,
    as_json: AsJson = False,
) -> None:
    """How often the judge is right on scenes whose truth is exact."""
    _detector("judge", out, scenes, seed, as_json)


@evaluate.command()
def filter(
    out: Annotated[Path, typer.Option(help="Folder for results.json.")] = Path("runs/filter"),
    scenes: Scenes = 5000,
    seed: Seed = 9000,
    as_json: AsJson = False,
) -> None:
    """How often the guard's image filter is right on scenes whose truth is exact."""
    _detector("filter", out, scenes, seed, as_json)


@evaluate.command()
def image_filter(
    policy: Annotated[str, typer.Option(help="A packaged policy or a TOML file.")] = "storybook",
    model: Model = "storybook",
    out: Annotated[Path, typer.Option(help="Folder for images' records and results.")] = Path(
        "runs/image-filter"
    ),
    scenes: Scenes = 5000,
    num_images: Annotated[int, typer.Option(min=1, help="How many images to generate.")] = 2000,
    seed: Seed = 9000,
    steps: Steps = 25,
    as_json: AsJson = False,
) -> None:
    """How well a policy tells harm in storybook images, in which context, and how early.

    Shows its guard fresh scenes, pairs of scenes that differ in context, and images that the model
    generates, at many of their steps. A run that was stopped goes on.

    \b
    Example:
      safelight evaluate image-filter --num-images 200
    """
    from safelight.experiments.image_filter import evaluate_image_filter

    quiet_libraries()
    with terminal.progress("Drawing and judging") as tell:
        results = evaluate_image_filter(out, policy, model, scenes, num_images, seed, steps, tell)
    show_results(results, out, as_json)


@evaluate.command()
def guidance(
    model: Model = "storybook",
    out: Annotated[Path, typer.Option(help="Folder for records and results.")] = Path("runs/guidance"),
    harmful: Annotated[int, typer.Option(min=1, help="How many harmful prompts.")] = 240,
    seeds: Annotated[int, typer.Option(min=1, help="How many images of each.")] = 4,
    benign: Annotated[int, typer.Option(min=1, help="How many harmless prompts.")] = 500,
    seed: Seed = 0,
    steps: Steps = 25,
    delta: Annotated[
        list[Path], typer.Option(help="Measure these instead, put on where harm is seen; repeatable.")
    ] = [],  # noqa: B006 - typer's way
    as_json: AsJson = False,
) -> None:
    """What guidance takes from harmful prompts' images, and what it costs harmless ones.

    Each way of guiding draws the same prompts with the same seeds, and the judge marks them: two hours on
    two cores. A run that was stopped goes on.

    \b
    Examples:
      safelight evaluate guidance --harmful 40 --seeds 1 --benign 40
      safelight evaluate guidance --delta safer.safetensors
    """
    from safelight.experiments.guidance import evaluate_guidance

    quiet_libraries()
    with terminal.progress("Drawing and judging") as tell:
        results = evaluate_guidance(out, model, harmful, seeds, benign, seed, steps, tell, delta)
    show_results(results, out, as_json)


@evaluate.command()
def erasing(
    delta: Annotated[list[Path], typer.Argument(metavar="DELTA", help="Deltas made for the storybook.")],
    model: Model = "storybook",
    out: Annotated[Path, typer.Option(help="Folder for records and results.")] = Path("runs/erasing"),
    count: Annotated[int, typer.Option(min=2, help="Images that ask for what was erased.")] = 500,
    seed: Seed = 0,
    steps: Steps = 25,
    as_json: AsJson = False,
) -> None:
    """What deltas erased, by the words that they were told and by others, and what they cost the rest.

    A quarter of an hour for each on two cores. A run that was stopped goes on.

    \b
    Example:
      safelight evaluate erasing gun.safetensors --count 40
    """
    from safelight.experiments.erasing import evaluate_erasing

    quiet_libraries()
    with terminal.progress("Drawing and judging") as tell:
        results = evaluate_erasing(delta, out, model, count, seed, steps, tell)
    show_results(results, out, as_json)


@evaluate.command()
def alignment(
    delta: Annotated[list[Path], typer.Argument(metavar="DELTA", help="Deltas made for the storybook.")],
    guidance: Annotated[
        list[str], typer.Option("--guidance", help="A configuration of Safe Latent Diffusion; repeatable.")
    ] = [],  # noqa: B006 - typer's way
    model: Model = "storybook",
    out: Annotated[Path, typer.Option(help="Folder for records and results.")] = Path("runs/alignment"),
    count: Annotated[int, typer.Option(min=3, help="Prompts of each kind of harm, for each seed.")] = 200,
    benign: Annotated[int, typer.Option(min=1, help="How many harmless prompts, for each seed.")] = 500,
    seed: Annotated[list[int], typer.Option(min=0, help="Of prompts and images; repeatable.")] = [0],  # noqa: B006
    steps: Steps = 25,
    as_json: AsJson = False,
) -> None:
    """Alignments side by side: what is left of harm, however it is asked for, and of everything else.

    A quarter of an hour for each on one core. A run that was stopped goes on.

    \b
    Example:
      safelight evaluate alignment safetext.safetensors esd.safetensors --guidance strong --count 40
    """
    from safelight.experiments.alignment import evaluate_alignment

    quiet_libraries()
    with terminal.progress("Drawing and judging") as tell:
        results = evaluate_alignment(delta, out, guidance, model, count, benign, seed, steps, tell)
    show_results(results, out, as_json)


@evaluate.command("safe-training")
def safe_training(
    out: Annotated[Path, typer.Option(help="Folder for data, models, records and results.")] = Path(
        "runs/safe-training"
    ),
    scenes: Annotated[int, typer.Option(min=100, help="In the data.")] = 40_000,
    num_images: Annotated[int, typer.Option(min=256, help="That each model sees.")] = 500_000,
    count: Annotated[int, typer.Option(min=3, help="Prompts of each kind of harm.")] = 150,
    benign: Annotated[int, typer.Option(min=1, help="How many harmless prompts.")] = 300,
    seed: Seed = 8,
    steps: Steps = 15,
    esd_steps: Annotated[int, typer.Option(min=1, help="Of ESD, on each model.")] = 600,
    as_json: AsJson = False,
) -> None:
    """What cleaning buys: models that saw everything, what was cleaned, and what was cleaned badly.

    Each in a process of its own, as it is and with ESD, SafeText and Safe Latent Diffusion on top. Hours on
    two cores. A run that was stopped goes on.

    \b
    Example, to see it run:
      safelight evaluate safe-training --scenes 2000 --num-images 5000 --count 10 --benign 10 --esd-steps 30
    """
    quiet_libraries()
    try:
        from safelight.experiments.safe_training import evaluate_safe_training
    except ImportError as error:
        raise MissingExtraError("The experiment", "generate,data,dev") from error
    with terminal.progress("Drawing and judging") as tell:
        results = evaluate_safe_training(out, scenes, num_images, count, benign, seed, steps, esd_steps, tell)
    show_results(results, out, as_json)


@evaluate.command()
def clip(
    out: Annotated[Path, typer.Option(help="Folder for results.json.")] = Path("runs/clip"),
    scenes: Scenes = 5000,
    seed: Seed = 9000,
    model: Annotated[str, typer.Option(help="A packaged CLIP or the folder of one.")] = "storybook",
    as_json: AsJson = False,
) -> None:
    """How well a CLIP tells the storybook's scenes, their objects, and hazards that no prompt named."""
    from safelight.experiments.clip import evaluate_clip

    with terminal.progress("Drawing and embedding") as tell:
        results = evaluate_clip(out, scenes, seed, model, tell)
    show_results(results, out, as_json)


@evaluate.command()
def prompt_classifier(
    data: Data,
    encoder: Encoder = None,
    out: Annotated[Path, typer.Option(help="Folder for results.json.")] = Path("runs/prompt-classifier"),
    work: Annotated[Path, typer.Option(help="Where trainings are kept.")] = Path("runs/work"),
    share: Share = 1.0,
    as_json: AsJson = False,
) -> None:
    """How well the prompt classifier does on families of prompts that it was never trained on.

    Trains it once without each family (an hour on two cores; a run that was stopped goes on), and two
    baselines beside it. `safelight train prompt-classifier` uses the same trainings.

    \b
    Example:
      safelight evaluate prompt-classifier --data prompts.parquet
    """
    quiet_libraries()
    try:
        from safelight.experiments.prompt_classifier import evaluate_prompt_classifier
        from safelight.filters.text.training.encoder import find_encoder
    except ImportError as error:
        raise MissingExtraError("Evaluating the prompt classifier", "generate,dev") from error
    results = evaluate_prompt_classifier(data, find_encoder(encoder), out, work, share)
    show_results(results, out, as_json)


@evaluate.command()
def prompt_filter(
    data: Data,
    policy: Annotated[str, typer.Option(help="A packaged policy or a TOML file.")] = "general",
    out: Annotated[Path, typer.Option(help="Folder for results.json.")] = Path("runs/prompt-filter"),
    count: Annotated[int, typer.Option(min=1, help="How many prompts of each family and side.")] = 200,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """What a policy's prompt filters block, by source, and in eight altered spellings.

    \b
    Example:
      safelight evaluate prompt-filter --data prompts.parquet
    """
    from safelight.experiments.prompt_filter import evaluate_prompt_filter

    with terminal.busy("Screening"):
        results = evaluate_prompt_filter(policy, data, out, count, seed)
    show_results(results, out, as_json)


def _detector(name: str, out: Path, scenes: int, seed: int, as_json: bool) -> None:
    from safelight.experiments.detectors import evaluate_detector

    with terminal.progress("Drawing and looking") as tell:
        results = evaluate_detector(name, out, scenes=scenes, seed=seed, progress=tell)
    show_results(results, out, as_json)


def show_results(results: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        terminal.print_json(results)
        return
    for name, rows in results["tables"].items():
        first = () if terminal.is_terminal() else (name,)  # lines have no heading
        headings = (name, "rate", "95 % interval", "count")
        terminal.print_table(headings, [(*first, *_cells(row)) for row in rows])
    for name, value in results["figures"].items():
        terminal.print_line(f"{name}  {'none' if value is None else f'{value:.4g}'}")
    terminal.note(f"All of it is in {out / 'results.json'}.")


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    interval = f"{row['low']:.1%} to {row['high']:.1%}"
    return row["group"], f"{row['rate']:.1%}", interval, f"{row['k']} of {row['n']}"
