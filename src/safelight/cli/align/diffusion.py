"""``safelight align uce``, ``debias`` and ``esd``: the diffusion model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.align.options import (
    Accumulate,
    Checkpoint,
    Concepts,
    LoraRank,
    Measured,
    NumImages,
    Out,
    Resume,
)
from safelight.cli.align.prompt_files import Column, read_prompts
from safelight.cli.align.proof import check_out, check_seen, prove_and_save, storybook_judge
from safelight.cli.align.training import train
from safelight.cli.options import AsJson, Model, Seed, Steps
from safelight.cli.pipeline import open_pipeline
from safelight.errors import RequestError

Preserve = Annotated[
    list[str], typer.Option("--preserve", help="What must stay, and other names for it; repeatable.")
]
Selection = Annotated[
    str, typer.Option(help="What is trained: esd-x, esd-x-strict, esd-u, esd-self or esd-all.")
]
EraseFrom = Annotated[
    str, typer.Option(help="Take the concept out of this text alone.", show_default="itself")
]
Part = Annotated[
    float,
    typer.Option(help="Of each walk, from the noise on, where it is decided what an image will show."),
]
Checkpointing = Annotated[
    bool, typer.Option("--checkpointing", help="Work out again, backwards, what else would be kept.")
]
Attributes = Annotated[
    list[str],
    typer.Option("--attribute", help="What its images may show, and with = its share; repeatable."),
]


Templates = Annotated[list[str], typer.Option("--template", help="A text with {} for each name; repeatable.")]
Captions = Annotated[
    list[Path],
    typer.Option("--captions", help="Files of prompts that must be drawn as before, one a line or in CSV."),
]


def uce(
    concept: Concepts,
    out: Out,
    model: Model = "storybook",
    target: Annotated[str, typer.Option(help="What it is to mean.", show_default="nothing")] = "",
    preserve: Preserve = [],  # noqa: B006 - typer's way
    template: Annotated[
        list[str], typer.Option("--template", help="A text with {} for each name.", show_default="six")
    ] = [],  # noqa: B006
    tokens: Annotated[
        list[str], typer.Option("--tokens", help="Which are edited: last, words, end; repeatable.")
    ] = ["last"],  # noqa: B006
    erase_weight: Annotated[float, typer.Option(help="w_e of the paper.")] = 1.0,
    preserve_weight: Annotated[float, typer.Option(help="w_p of the paper.")] = 1.0,
    ridge: Annotated[float, typer.Option(help="λ of the paper: how little other texts may change.")] = 0.5,
    num_images: NumImages = 8,
    steps: Steps = 25,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Edit what a concept means in closed form (Unified Concept Editing), in seconds.

    \b
    Examples:
      safelight align uce --concept "gun, pistol" --target flower --preserve "dog, cat" --out gun.safetensors
      safelight align uce --model ./stable-diffusion --concept "Van Gogh" --out gogh.safetensors
    """
    from safelight.alignment.diffusion.uce import TEMPLATES, UCE

    method = UCE(
        concept,
        target,
        preserve,
        template or TEMPLATES,
        tokens,  # type: ignore[arg-type]  # checked there
        erase_weight,
        preserve_weight,
        ridge,
    )
    check_out(out)
    pipe = open_pipeline(model)
    with terminal.busy("Solving"):
        delta = method.edit(pipe)
    prove_and_save(pipe, model, delta, preserve, out, (num_images, steps, seed), as_json)


def debias(
    concept: Annotated[str, typer.Option(help="The word, and between commas other names for it.")],
    attribute: Attributes,
    out: Out,
    model: Model = "storybook",
    preserve: Preserve = [],  # noqa: B006 - typer's way
    rounds: Annotated[int, typer.Option(min=1, help="Edits that are tried, at most.")] = 10,
    num_images: Annotated[int, typer.Option(min=1, help="Looked at after each.")] = 64,
    tolerance: Annotated[float, typer.Option(help="How far off a share may be.")] = 0.05,
    steps: Steps = 15,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Even out what a word brings along by itself (Unified Concept Editing), in minutes.

    \b
    Example:
      safelight align debias --concept "a pet" --attribute dog=1 --attribute cat=1 --out pet.safetensors
    """
    from safelight.alignment.diffusion.debias import Debias

    method = Debias(
        concept,
        dict(map(_share, attribute)),
        preserve,
        rounds=rounds,
        num_images=num_images,
        tolerance=tolerance,
        steps=steps,
        seed=seed,
    )
    check_out(out)
    check_seen(model, "debias")
    pipe = open_pipeline(model)
    with terminal.progress("Evening out") as tell:
        delta, history = method.edit(pipe, storybook_judge(), lambda done: tell(done, rounds))
    prove_and_save(pipe, model, delta, preserve, out, (8, steps, seed), as_json)
    if not as_json:
        headings = ("attribute", "share before", *(f"after edit {i}" for i in range(1, len(history))))
        rows = [(name, *(f"{100 * each[name]:.0f} %" for each in history)) for name in history[0]]
        terminal.print_table(headings, rows)


def esd(
    concept: Concepts,
    out: Out,
    model: Model = "storybook",
    selection: Selection = "esd-x",
    eta: Annotated[float, typer.Option(help="η of the paper: how far away; below 0 towards it.")] = 1.0,
    anchor: Annotated[str, typer.Option(help="What to go to instead.", show_default="no text")] = "",
    erase_from: EraseFrom = "",
    preserve: Preserve = [],  # noqa: B006 - typer's way
    preserve_weight: Annotated[float, typer.Option(min=0, help="How much what must stay counts.")] = 1.0,
    captions: Captions = [],  # noqa: B006
    column: Column = "prompt",
    template: Templates = ["{}"],  # noqa: B006
    iterations: Annotated[int, typer.Option(min=1, help="Steps of the training.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Points in a batch.")] = 8,
    accumulate: Accumulate = 1,
    rate: Annotated[float, typer.Option(help="Of learning; small models take 1e-3.")] = 1e-4,
    falling: Annotated[
        bool, typer.Option("--falling", help="The rate falls to nothing along half a cosine.")
    ] = False,
    sampling: Annotated[str, typer.Option(help="Who draws up to each point: frozen or edited.")] = "frozen",
    walks: Annotated[int, typer.Option(min=1, help="Generations of each name; each step is a point.")] = 4,
    jitter: Annotated[bool, typer.Option("--jitter", help="Timesteps between those of a walk.")] = False,
    part: Part = 1.0,
    refresh: Annotated[int, typer.Option(min=1, help="Steps between walks of the edited network.")] = 50,
    measure: Measured = 0,
    lora_rank: LoraRank = 0,
    checkpointing: Checkpointing = False,
    checkpoint: Checkpoint = 50,
    resume: Resume = False,
    num_images: NumImages = 8,
    steps: Steps = 25,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a model to draw away from a concept (Erasing Concepts from Diffusion Models).

    \b
    Examples:
      safelight align esd --concept "gun, a gun, pistol" --rate 1e-3 --out gun.safetensors
      safelight align esd --model ./stable-diffusion --concept nudity --selection esd-u --out n.safetensors
    """
    from safelight.alignment.diffusion.esd import ESD

    aim: dict[str, Any] = {"eta": eta, "anchor": anchor, "erase_from": erase_from}
    keep: dict[str, Any] = {"preserve": preserve, "preserve_weight": preserve_weight}
    keep |= {
        "templates": template,
        "captions": [text for path in captions for text in read_prompts(path, column)],
    }
    pace: dict[str, Any] = {"steps": iterations, "batch": batch, "rate": rate, "accumulate": accumulate}
    pace |= {"falling": falling}
    walk: dict[str, Any] = {"sampling": sampling, "walks": walks, "jitter": jitter, "part": part}
    memory: dict[str, Any] = {"lora_rank": lora_rank, "checkpointing": checkpointing}
    often: dict[str, Any] = {"refresh": refresh, "checkpoint_every": checkpoint, "measured_every": measure}
    method = ESD(concept, selection, **aim, **keep, **pace, **walk, **memory, **often, seed=seed)
    check_out(out)
    train(method, model, out, resume, (num_images, steps, seed), as_json, preserve)


def _share(said: str) -> tuple[str, float]:
    """``dog`` or ``dog=0.5``."""
    name, _, share = said.partition("=")
    try:
        return name.strip(), float(share or 1)
    except ValueError:
        raise RequestError(f'"{share}" is no share of "{name}"; give a number.') from None
