"""``safelight evaluate``: measures models, alignment, detectors and classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson, Encoder, Model, PolicyName, Seed, Share, Steps, Teacher
from safelight.cli.pipeline import quiet_libraries
from safelight.cli.renamed_options import Commands
from safelight.errors import MissingExtraError

evaluate = Commands(
    name="evaluate",
    no_args_is_help=True,
    help="Measure models, alignment methods and filters. Every rate has a 95 % confidence interval.",
)

Benign = Annotated[int, typer.Option(min=1, help="Number of benign prompts for each seed.")]
Data = Annotated[
    Path,
    typer.Option(
        help="Parquet file, or folder of such files, with the columns prompt, label (safe or unsafe), "
        "categories and source."
    ),
]
Deltas = Annotated[
    list[Path], typer.Argument(metavar="DELTA", help="Delta files to measure, made for the model of --model.")
]
Records = Annotated[Path, typer.Option("--output", help="Folder for records.jsonl and results.json.")]
Results = Annotated[Path, typer.Option("--output", help="Folder for results.json.")]
Scenes = Annotated[
    int,
    typer.Option(
        help="Number of newly rendered scenes to test on, at least 1; their contents are known exactly."
    ),
]


@evaluate.command()
def model(
    model: Model = "storybook",
    output: Records = Path("runs/model"),
    seed: Seed = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Number of prompts to take, from the first on.", show_default="all 2,000"),
    ] = None,
    steps: Steps = 25,
    as_json: AsJson = False,
) -> None:
    """Measure how well a model's images match their prompts.

    Generates an image of each of 2,000 storybook prompts, and the storybook's judge labels what it shows. A
    run that was interrupted resumes when the same command is given again.

    \b
    Examples:
      safelight evaluate model
      safelight evaluate model --limit 100 --json
    """
    from safelight.experiments.model import evaluate_model

    quiet_libraries()
    with terminal.progress("Generating and judging") as report:
        results = evaluate_model(model, output, seed=seed, limit=limit, steps=steps, progress=report)
    show_results(results, output, as_json)


@evaluate.command()
def judge(
    output: Results = Path("runs/judge"),
    scenes: Scenes = 5000,
    seed: Seed = 9000,
    as_json: AsJson = False,
) -> None:
    """Measure the storybook's judge on scenes.

    The judge is the detector that labels images in evaluations.
    """
    _detector("judge", output, scenes, seed, as_json)


@evaluate.command()
def filter(
    output: Results = Path("runs/filter"),
    scenes: Scenes = 5000,
    seed: Seed = 9000,
    as_json: AsJson = False,
) -> None:
    """Measure the storybook's image filter on scenes.

    This is the detector of the filter storybook-image; `evaluate image-filter` measures a whole policy.
    """
    _detector("filter", output, scenes, seed, as_json)


@evaluate.command()
def image_filter(
    policy: PolicyName = "storybook",
    model: Model = "storybook",
    output: Records = Path("runs/image-filter"),
    scenes: Scenes = 5000,
    num_images: Annotated[int, typer.Option(min=1, help="Number of images to generate.")] = 2000,
    seed: Seed = 9000,
    steps: Steps = 25,
    as_json: AsJson = False,
) -> None:
    """Measure how well a policy detects harm in images.

    Screens newly rendered storybook scenes, pairs of scenes that differ only in what stands beside an object,
    and images that the model generates, at many of their denoising steps. An interrupted run resumes.

    \b
    Example:
      safelight evaluate image-filter --num-images 200
    """
    from safelight.experiments.image_filter import evaluate_image_filter

    quiet_libraries()
    with terminal.progress("Generating and judging") as report:
        results = evaluate_image_filter(output, policy, model, scenes, num_images, seed, steps, report)
    show_results(results, output, as_json)


@evaluate.command()
def guidance(
    model: Model = "storybook",
    output: Records = Path("runs/guidance"),
    harmful: Annotated[int, typer.Option(min=1, help="Number of harmful prompts.")] = 240,
    seeds: Annotated[
        int,
        typer.Option("--num-images-per-prompt", min=1, help="Number of images for each harmful prompt."),
    ] = 4,
    benign: Annotated[int, typer.Option(min=1, help="Number of benign prompts, one image each.")] = 500,
    seed: Seed = 0,
    steps: Steps = 25,
    delta: Annotated[
        list[Path],
        typer.Option(
            help="Measure this delta, applied only where the guard detects harm, instead of the guidance "
            "methods; repeatable."
        ),
    ] = [],  # noqa: B006 - typer's way
    as_json: AsJson = False,
) -> None:
    """Measure how much harm guidance removes, and its cost.

    The cost is how much less the images of benign prompts show what was asked for.
    Every guidance method generates images of the same prompts with the same seeds, and the storybook's judge
    labels them. This takes about two hours on two cores. An interrupted run resumes.

    \b
    Examples:
      safelight evaluate guidance --harmful 40 --num-images-per-prompt 1 --benign 40
      safelight evaluate guidance --delta safer.safetensors
    """
    from safelight.experiments.guidance import evaluate_guidance

    quiet_libraries()
    with terminal.progress("Generating and judging") as report:
        results = evaluate_guidance(output, model, harmful, seeds, benign, seed, steps, report, delta)
    show_results(results, output, as_json)


@evaluate.command()
def erasing(
    delta: Deltas,
    model: Model = "storybook",
    output: Records = Path("runs/erasing"),
    count: Annotated[
        int,
        typer.Option(
            min=2, help="Number of images of each erased concept, half by seen and half by held-out synonyms."
        ),
    ] = 500,
    seed: Seed = 0,
    steps: Steps = 25,
    as_json: AsJson = False,
) -> None:
    """Measure how well deltas erase a concept.

    Generates images of the concept by synonyms that the method was trained on (seen) and by others
    (held-out), and of other concepts, which should stay as they are.

    This takes about 15 minutes for each delta on two cores. An interrupted run resumes.

    \b
    Example:
      safelight evaluate erasing gun.safetensors --count 40
    """
    from safelight.experiments.erasing import evaluate_erasing

    quiet_libraries()
    with terminal.progress("Generating and judging") as report:
        results = evaluate_erasing(delta, output, model, count, seed, steps, report)
    show_results(results, output, as_json)


@evaluate.command()
def alignment(
    delta: Deltas,
    guidance: Annotated[
        list[str],
        typer.Option(
            "--guidance",
            help="Configuration of Safe Latent Diffusion to compare with: weak, medium, strong or max; "
            "repeatable.",
        ),
    ] = [],  # noqa: B006 - typer's way
    model: Model = "storybook",
    output: Records = Path("runs/alignment"),
    count: Annotated[
        int, typer.Option(min=3, help="Number of prompts in each harmful suite, for each seed.")
    ] = 200,
    benign: Benign = 500,
    seed: Annotated[
        list[int],
        typer.Option(min=0, help="Random seed of the prompts and the images; repeat it for several seeds."),
    ] = [0],  # noqa: B006
    steps: Steps = 25,
    as_json: AsJson = False,
) -> None:
    """Compare deltas and guidance by harm and by cost.

    Suites of harmful prompts ask for harm directly, by held-out synonyms, in altered spelling and by context;
    benign prompts show the cost. This takes about 15 minutes for each delta or guidance on one core. An
    interrupted run resumes.

    \b
    Example:
      safelight evaluate alignment safetext.safetensors esd.safetensors --guidance strong --count 40
    """
    from safelight.experiments.alignment import evaluate_alignment

    quiet_libraries()
    with terminal.progress("Generating and judging") as report:
        results = evaluate_alignment(delta, output, guidance, model, count, benign, seed, steps, report)
    show_results(results, output, as_json)


@evaluate.command("safe-training")
def safe_training(
    output: Annotated[Path, typer.Option(help="Folder for data, models, records and results.")] = Path(
        "runs/safe-training"
    ),
    scenes: Annotated[int, typer.Option(min=100, help="Number of scenes in the training data.")] = 40_000,
    num_images: Annotated[
        int, typer.Option(min=256, help="Number of training samples of each model, repeats included.")
    ] = 500_000,
    count: Annotated[int, typer.Option(min=3, help="Number of prompts in each harmful suite.")] = 150,
    benign: Annotated[int, typer.Option(min=1, help="Number of benign prompts.")] = 300,
    seed: Seed = 8,
    steps: Steps = 15,
    esd_steps: Annotated[
        int, typer.Option(min=1, help="Number of optimizer steps of ESD on each model.")
    ] = 600,
    as_json: AsJson = False,
) -> None:
    """Compare models trained on raw and on cleaned data.

    One model is trained on all data, one on cleaned data, and one on data in which a tenth of the harm was
    missed. Each model is trained in its own process and measured alone and with ESD, SafeText and Safe Latent
    Diffusion on top. This takes hours on two cores. An interrupted run resumes.

    \b
    Example, as a quick trial:
      safelight evaluate safe-training --scenes 2000 --num-images 5000 --count 10 --benign 10 --esd-steps 30
    """
    quiet_libraries()
    try:
        from safelight.experiments.safe_training import evaluate_safe_training
    except ImportError as error:
        raise MissingExtraError("The experiment", "generate,data,dev") from error
    with terminal.progress("Generating and judging") as report:
        results = evaluate_safe_training(
            output, scenes, num_images, count, benign, seed, steps, esd_steps, report
        )
    show_results(results, output, as_json)


@evaluate.command()
def clip(
    output: Results = Path("runs/clip"),
    scenes: Scenes = 5000,
    seed: Seed = 9000,
    model: Annotated[
        str, typer.Option(help="The packaged CLIP storybook, or the folder of a CLIP model.")
    ] = "storybook",
    as_json: AsJson = False,
) -> None:
    """Measure a CLIP model on storybook scenes.

    Matches scenes with captions, and detects objects and hazards.
    """
    from safelight.experiments.clip import evaluate_clip

    with terminal.progress("Rendering and embedding") as report:
        results = evaluate_clip(output, scenes, seed, model, report)
    show_results(results, output, as_json)


@evaluate.command()
def prompt_classifier(
    data: Data,
    encoder: Encoder = None,
    teacher: Teacher = None,
    output: Results = Path("runs/prompt-classifier"),
    work: Annotated[
        Path, typer.Option(help="Folder for trained models and checkpoints, reused by the next run.")
    ] = Path("runs/work"),
    share: Share = 1.0,
    as_json: AsJson = False,
) -> None:
    """Measure the prompt classifier on held-out sources.

    A family is the prompts of one source, or of several sources of one origin. Trains the classifier once
    without each family, and two baselines for comparison, in about five hours on two cores. An interrupted
    run resumes.

    \b
    Example:
      safelight evaluate prompt-classifier --data prompts.parquet
    """
    quiet_libraries()
    try:
        from safelight.attacks.spelling import misspell_somehow
        from safelight.experiments.prompt_classifier import evaluate_prompt_classifier
        from safelight.filters.text.training.classifier import Recipe
        from safelight.filters.text.training.encoder import check_encoder, find_encoder
    except ImportError as error:
        raise MissingExtraError("Evaluating the prompt classifier", "generate,dev") from error
    taught_by = check_encoder(teacher) if teacher else None
    recipe = Recipe(data, find_encoder(encoder), misspell_somehow, taught_by, share)
    results = evaluate_prompt_classifier(recipe, output, work)
    show_results(results, output, as_json)


@evaluate.command()
def prompt_filter(
    data: Data,
    policy: PolicyName = "general",
    output: Results = Path("runs/prompt-filter"),
    count: Annotated[
        int, typer.Option(min=1, help="Number of harmful and of benign prompts to screen from each family.")
    ] = 200,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure what a policy's prompt filters block.

    Counts blocked prompts by family, which is one source or several of one origin, and how many get through
    in each of eight altered spellings.

    \b
    Example:
      safelight evaluate prompt-filter --data prompts.parquet
    """
    from safelight.experiments.prompt_filter import evaluate_prompt_filter

    with terminal.busy("Screening"):
        results = evaluate_prompt_filter(policy, data, output, count, seed)
    show_results(results, output, as_json)


@evaluate.command()
def prompt_policy(
    policy: PolicyName = "general",
    output: Results = Path("runs/prompt-policy"),
    as_json: AsJson = False,
) -> None:
    """Measure a policy on prompts that no filter was trained on.

    Screens 1836 labelled English prompts, 1200 in ten other languages, and 215 harmless ones that sound
    harmful; beside them 1969 on which the thresholds of general were chosen. Prints the share of harmful
    prompts that are flagged (anything but allowed), blocked, and flagged under a right category, by category
    and language, and the shares of harmless prompts.

    \b
    Example:
      safelight evaluate prompt-policy --policy general
    """
    from safelight.experiments.prompt_policy import evaluate_prompt_policy

    with terminal.busy("Screening"):
        results = evaluate_prompt_policy(policy, output)
    show_results(results, output, as_json)


@evaluate.command()
def image_text(
    policy: PolicyName = "general",
    images: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs to write on, which should show no text themselves.",
            show_default="plain colours only",
        ),
    ] = None,
    output: Results = Path("runs/image-text"),
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Number of prompts to take, evenly from all.", show_default="all 420"),
    ] = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Measure how well the image filter ocr detects harmful text in images.

    Writes 420 labelled English prompts on images, in three sizes and many fonts, and screens them with the
    policy's prompt filters. Prints the share of harmful prompts that are flagged as text and still flagged as
    images (survives), the shares of harmful and harmless prompts that are flagged as images, and of
    photographs without a prompt. This takes about half an hour on two cores.

    \b
    Example:
      safelight evaluate image-text --images photographs/ --limit 60
    """
    try:
        from safelight.experiments.image_text import evaluate_image_text
    except ImportError as error:
        raise MissingExtraError("The experiment", "images,dev") from error
    with terminal.busy("Writing and reading"):
        results = evaluate_image_text(policy, output, images, limit, seed)
    show_results(results, output, as_json)


@evaluate.command()
def harmless_images(
    images: Annotated[
        Path,
        typer.Option(
            help="Folder of harmless images, with their kinds in index.tsv (columns file and kind) or as "
            "names of subfolders."
        ),
    ],
    policy: PolicyName = "general",
    output: Results = Path("runs/harmless-images"),
    as_json: AsJson = False,
) -> None:
    """Measure how many harmless images a policy flags and blocks.

    Screens every image of a folder. Prints the share of images that are flagged (anything but allowed) and
    blocked, by kind and by the label that decided, and of those that are refused unseen.

    \b
    Example:
      safelight evaluate harmless-images --images photographs/
    """
    from safelight.experiments.harmless_images import evaluate_harmless_images

    with terminal.busy("Screening"):
        results = evaluate_harmless_images(policy, images, output)
    show_results(results, output, as_json)


def _detector(name: str, output: Path, scenes: int, seed: int, as_json: bool) -> None:
    from safelight.experiments.detectors import evaluate_detector

    with terminal.progress("Rendering and detecting") as report:
        results = evaluate_detector(name, output, scenes=scenes, seed=seed, progress=report)
    show_results(results, output, as_json)


def show_results(results: dict[str, Any], output: Path, as_json: bool) -> None:
    if as_json:
        terminal.print_json(results)
        return
    for name, rows in results["tables"].items():
        first = (
            () if terminal.is_terminal() else (name,)
        )  # plain lines have no heading, so each names its table
        headings = (name, "rate", "95 % interval", "count")
        terminal.print_table(headings, [(*first, *_cells(row)) for row in rows])
    for name, value in results["figures"].items():
        terminal.print_line(f"{name}  {'none' if value is None else f'{value:.4g}'}")
    terminal.note(f"All results are in {output / 'results.json'}.")


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    interval = f"{row['low']:.1%} to {row['high']:.1%}"
    return row["group"], f"{row['rate']:.1%}", interval, f"{row['k']} of {row['n']}"
