"""``safelight generate``: guarded image generation, or generation without a guard for comparison."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli import terminal
from safelight.cli.exit_codes import FailOn, exit_code
from safelight.cli.options import POLICY_HELP, AsJson, Model, Steps
from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.cli.generation_job import GenerationJob, GenerationOutput
    from safelight.guard.guard import Guard

_RANDOM_SEEDS = 2**31


def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT", help="One or more prompts.")],
    model: Model = "storybook",
    policy: Annotated[
        str | None,
        typer.Option(
            help=POLICY_HELP,
            show_default="storybook for the packaged model, general for others",
        ),
    ] = None,
    num_images_per_prompt: Annotated[
        int,
        typer.Option("--num-images-per-prompt", "-n", help="Number of images for each prompt, at least 1."),
    ] = 1,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the first image, at least 0; image i of the run, counted from 0, uses seed + i.",
            show_default="random",
        ),
    ] = None,
    steps: Steps = 25,
    guidance_scale: Annotated[
        float | None,
        typer.Option(
            help="Scale of classifier-free guidance: higher values follow the prompt more closely.",
            show_default="the pipeline's own",
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("images"),
    unguarded: Annotated[
        bool,
        typer.Option("--unguarded", help="Generate without any guard, for comparison; nothing is screened."),
    ] = False,
    without_image_filter: Annotated[
        bool, typer.Option("--without-image-filter", help="Screen the prompts only, not the images.")
    ] = False,
    fail_on: FailOn = "block",
    as_json: AsJson = False,
) -> None:
    """Generate images, and withhold those that the policy blocks.

    Exits with 0 if every image was generated and screened, with 2 if one could not be, and with 3 if the
    policy's action for any image is that of --fail-on or a more severe one. By default that is "block", so a
    missing image shows in the exit code. With --fail-on never, only the table or the JSON reports it.

    \b
    Examples:
      safelight generate "a chef with a knife and bread" --seed 7
      safelight generate "a dog" "a cat in the park" -n 4 --output pets
      safelight generate "a red fox" --model ./stable-diffusion --policy general
    """
    if unguarded and (policy or without_image_filter):
        raise RequestError("--unguarded leaves out the whole guard; leave out its other options too.")
    guard = None if unguarded else _guard(model, policy, without_image_filter)
    job = _job(prompts, num_images_per_prompt, seed, steps, guidance_scale, output)
    generated = _run(job, model, guard)
    _show(generated, as_json)
    if code := exit_code(generated.failed, generated.actions, fail_on):
        raise typer.Exit(code)


def _guard(model: str, policy: str | None, without_image_filter: bool) -> Guard:
    from safelight.guard.guard import Guard

    own = "storybook" if model == "storybook" else "general"
    return Guard.from_policy(policy or own, without_image_filter=without_image_filter)


def _job(
    prompts: list[str],
    num_images_per_prompt: int,
    seed: int | None,
    steps: int,
    guidance_scale: float | None,
    output: Path,
) -> GenerationJob:
    from safelight.cli.gallery import Gallery
    from safelight.cli.generation_job import GenerationJob
    from safelight.guard.request import Request

    first = secrets.randbelow(_RANDOM_SEEDS) if seed is None else seed
    request = Request.of(prompts, num_images_per_prompt, first)
    arguments: dict[str, float] = {"num_inference_steps": steps}
    if guidance_scale is not None:
        arguments["guidance_scale"] = guidance_scale
    gallery = Gallery.at(output)
    return GenerationJob(request.prompts, num_images_per_prompt, first, arguments, gallery)


def _run(job: GenerationJob, model: str, guard: Guard | None) -> GenerationOutput:
    from safelight.cli.pipeline import open_pipeline

    pipe = open_pipeline(model)
    return job.generate_guarded(pipe, guard) if guard else job.generate(pipe)


def _show(generated: GenerationOutput, as_json: bool) -> None:
    if as_json:
        terminal.print_json(generated.to_dict())
        return
    rows = [
        (image.action or "generated", image.prompt, f"seed {image.seed}", image.path or image.why)
        for image in generated.images
    ]
    terminal.print_table(("", "prompt", "seed", "image, or why there is none"), rows)
    for sentence in generated.details.get("notes", ()):
        terminal.note(sentence)
