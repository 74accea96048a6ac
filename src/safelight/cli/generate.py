"""``safelight generate``: guarded generation or, to compare, generation without a guard."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safelight.cli import terminal
from safelight.cli.exit_codes import FailOn, exit_code
from safelight.cli.options import AsJson, Model, Steps
from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.cli.generation_job import GenerationJob, GenerationOutput
    from safelight.guard.guard import Guard

_RANDOM_SEEDS = 2**31


def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT", help="What to draw.")],
    model: Model = "storybook",
    policy: Annotated[
        str | None, typer.Option(help="A packaged policy or a TOML file.", show_default="the model's")
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Images for each prompt.")] = 1,
    seed: Annotated[
        int | None, typer.Option(help="Image i is drawn with seed + i.", show_default="random")
    ] = None,
    steps: Steps = 25,
    guidance_scale: Annotated[
        float | None, typer.Option(help="How closely to follow the prompt.", show_default="the model's")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("images"),
    unguarded: Annotated[bool, typer.Option("--unguarded", help="Without any guard, to compare.")] = False,
    without_image_filter: Annotated[
        bool, typer.Option("--without-image-filter", help="Screen the prompts only.")
    ] = False,
    fail_on: FailOn = "block",
    as_json: AsJson = False,
) -> None:
    """Draw prompts, and keep back what the policy does not allow.

    Exits with 0 if every image could be drawn and judged, with 2 if anything could not, with 3 if the policy
    said what --fail-on names or something severer. That is "block" unless you say otherwise: an image that
    was asked for is not there. With --fail-on never, the table or the JSON alone says so.

    \b
    Examples:
      safelight generate "a chef with a knife and bread" --seed 7
      safelight generate "a dog" "a cat in the park" -n 4 --out pets
      safelight generate "a red fox" --model ./stable-diffusion --policy general
    """
    if unguarded and (policy or without_image_filter):
        raise RequestError("--unguarded leaves out the whole guard; leave out its other options too.")
    guard = None if unguarded else _guard(model, policy, without_image_filter)
    order = _order(prompts, n, seed, steps, guidance_scale, out)
    delivery = _deliver(order, model, guard)
    _show(delivery, as_json)
    if code := exit_code(delivery.failed, delivery.actions, fail_on):
        raise typer.Exit(code)


def _guard(model: str, policy: str | None, without_image_filter: bool) -> Guard:
    from safelight.guard.guard import Guard

    own = "storybook" if model == "storybook" else "general"
    return Guard.from_policy(policy or own, without_image_filter=without_image_filter)


def _order(
    prompts: list[str], n: int, seed: int | None, steps: int, guidance_scale: float | None, out: Path
) -> GenerationJob:
    from safelight.cli.gallery import Gallery
    from safelight.cli.generation_job import GenerationJob
    from safelight.guard.request import Request

    first = secrets.randbelow(_RANDOM_SEEDS) if seed is None else seed
    request = Request.of(prompts, n, first)
    arguments: dict[str, float] = {"num_inference_steps": steps}
    if guidance_scale is not None:
        arguments["guidance_scale"] = guidance_scale
    return GenerationJob(request.prompts, n, first, arguments, Gallery.at(out))


def _deliver(order: GenerationJob, model: str, guard: Guard | None) -> GenerationOutput:
    from safelight.cli.pipeline import open_pipeline

    pipe = open_pipeline(model)
    return order.draw_guarded(pipe, guard) if guard else order.draw(pipe)


def _show(delivery: GenerationOutput, as_json: bool) -> None:
    if as_json:
        terminal.print_json(delivery.to_dict())
        return
    rows = [(p.action or "drawn", p.prompt, f"seed {p.seed}", p.path or p.why) for p in delivery.images]
    terminal.print_table(("", "prompt", "seed", "image, or why there is none"), rows)
    for sentence in delivery.details.get("notes", ()):
        terminal.note(sentence)
