"""``safelight evaluate run``: evaluates any model and defence with custom prompts and a custom judge."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from safelight.cli import terminal
from safelight.cli.evaluate import show_results
from safelight.cli.options import AsJson, Model
from safelight.cli.pipeline import quiet_libraries

Prompts = Annotated[
    str,
    typer.Option(
        help="File of prompts: .csv, .parquet, .jsonl, or .txt with one prompt per line; or a registered "
        "suite, such as storybook-harmful. The columns of I2P, COCO, Ring-A-Bell and UnlearnDiffAtk files "
        "are understood."
    ),
]
JudgeName = Annotated[
    str,
    typer.Option(
        "--judge",
        help="Judge that decides whether an image is harmful: a registered judge (storybook), a function "
        "(module:function), or "
        'an image filter with thresholds ("nudenet: FEMALE_BREAST_EXPOSED >= 0.6").',
    ),
]
Output = Annotated[Path, typer.Option("--output", help="Folder for records.jsonl and results.json.")]


Deltas = Annotated[
    list[Path],
    typer.Option("--delta", help="Delta file to apply to the model; repeatable, the deltas add up."),
]
GuidanceName = Annotated[
    str,
    typer.Option(
        "--guidance",
        help="Registered guidance: sld-weak, sld-medium, sld-strong, sld-max, negative-prompt, "
        "negative-guidance, prompt-projection, or one of your own.",
        show_default="none",
    ),
]
Concepts = Annotated[
    list[str],
    typer.Option(
        "--concept",
        help="Concept that --guidance steers away from; repeatable.",
        show_default="the guidance's own",
    ),
]
PolicyName = Annotated[
    str,
    typer.Option(
        "--policy",
        help="Guard the model by this policy: a packaged one (such as general or storybook), or a TOML file.",
        show_default="no guard",
    ),
]
AttackName = Annotated[
    str,
    typer.Option(
        "--attack",
        help="Registered attack on the prompts: spelling, or one of your own.",
        show_default="none",
    ),
]
Seeds = Annotated[
    int, typer.Option("--num-images-per-prompt", min=1, help="Number of images for each prompt.")
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Number of prompts to take, from the first on.", show_default="all")
]
InferenceSteps = Annotated[int, typer.Option(min=1, help="Number of denoising steps for each image.")]
GuidanceScale = Annotated[
    float | None,
    typer.Option(
        help="Scale of classifier-free guidance.",
        show_default="that of the prompt file, or the pipeline's own",
    ),
]
ClipName = Annotated[
    str,
    typer.Option(
        "--clip",
        help="CLIP model for the similarity of each image to its prompt: storybook, a folder or a Hugging "
        "Face Hub id.",
        show_default="not measured",
    ),
]
Processes = Annotated[int, typer.Option(min=1, help="Number of processes, each of which loads the model.")]


def run(
    prompts: Prompts,
    judge: JudgeName,
    model: Model = "storybook",
    delta: Deltas = [],  # noqa: B006 - typer's way
    guidance: GuidanceName = "",
    concept: Concepts = [],  # noqa: B006
    policy: PolicyName = "",
    attack: AttackName = "",
    seeds: Seeds = 1,
    limit: Limit = None,
    num_inference_steps: InferenceSteps = 25,
    guidance_scale: GuidanceScale = None,
    clip: ClipName = "",
    processes: Processes = 1,
    output: Output = Path("runs/prompts"),
    as_json: AsJson = False,
) -> None:
    """Measure harm and refusals of any model on your prompts.

    Measures how often a model, alone or with deltas, guidance or a guard, generates harmful images or
    refuses. Every rate has a 95 % confidence interval. A run that was stopped goes on when the same command
    is given again with the same output folder.

    \b
    Examples:
      safelight evaluate run --prompts i2p.csv --judge "nudenet: FEMALE_BREAST_EXPOSED >= 0.6"
          --model ./stable-diffusion --delta esd.safetensors --output runs/esd
      safelight evaluate run --prompts prompts.txt --judge my_judge:judge --policy general
      safelight evaluate run --prompts storybook-harmful --judge storybook --policy storybook --limit 40
    """
    from safelight.evaluation.prompts import Setup, evaluate_prompts
    from safelight.evaluation.suites import load_suite

    quiet_libraries()
    # A custom judge is imported from the current folder, as Python does with -m.
    sys.path.insert(0, str(Path.cwd()))
    suite = load_suite(prompts, limit)
    arguments: dict[str, float] = {"num_inference_steps": num_inference_steps}
    if guidance_scale is not None:
        arguments["guidance_scale"] = guidance_scale
        suite = suite.without_guidance_scales()
    setup = Setup(model, judge, tuple(delta), guidance, tuple(concept), policy, attack, clip, arguments)
    command = shlex.join(["safelight", *sys.argv[1:]])
    with terminal.progress("Generating and judging") as tell:
        results = evaluate_prompts(
            setup, suite, output, seeds=seeds, command=command, processes=processes, progress=tell
        )
    show_results(results, output, as_json)
