"""``safelight align text-encoder``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from safelight.cli.align.proof import check_out
from safelight.cli.align.training import train
from safelight.cli.options import AsJson, Model, Seed, Steps
from safelight.errors import RequestError, no_such

if TYPE_CHECKING:
    from safelight.alignment.text_encoder import Prompts

_OWN = "the method's"
# Of `safelight evaluate alignment`: some to choose settings by, others to measure with.
_SEEDS = 12

Method = Annotated[str, typer.Option(help="safetext, des, safe-clip or adversarial.")]
Unsafe = Annotated[
    list[Path],
    typer.Option("--unsafe", help="Unsafe prompts: CSV, Parquet, JSONL, or one a line; repeatable."),
]
Safe = Annotated[list[Path], typer.Option("--safe", help="Safe prompts, likewise.")]
Pairs = Annotated[
    list[Path], typer.Option("--pairs", help='Tables with the columns "unsafe" and "safe"; repeatable.')
]
Apart = Annotated[
    list[Path],
    typer.Option("--apart", help="Prompts to measure with: an error if they are trained on; repeatable."),
]
Encoders = Annotated[
    list[str],
    typer.Option("--encoder", help="text_encoder, text_encoder_2 …; repeatable.", show_default="all"),
]
Own = Annotated[
    int, typer.Option(min=1, help="Without files: so many of the storybook's safe ones and pairs.")
]
Layers = Annotated[int, typer.Option(min=0, help="Train the last so many; 0 is all.")]
Tokens = Annotated[int, typer.Option(min=0, help="Read so many of each text; 0 is all.")]
Rate = Annotated[float | None, typer.Option(help="Of learning.", show_default=_OWN)]
AwayFrom = Annotated[
    str | None,
    typer.Option(help="safetext, adversarial: counterpart, or cosine, the paper's.", show_default=_OWN),
]
Alpha = Annotated[float | None, typer.Option(help="des: how far from harm.", show_default=_OWN)]
Bank = Annotated[
    int | None, typer.Option(help="des: safe prompts to lead unsafe ones to.", show_default=_OWN)
]
Prefix = Annotated[
    int | None, typer.Option(help="adversarial: what attackers put in front.", show_default=_OWN)
]
InnerSteps = Annotated[int | None, typer.Option(help="adversarial: of each attack.", show_default=_OWN)]
Weight = Annotated[
    float | None,
    typer.Option(help="How much unsafe prompts count beside safe ones.", show_default=_OWN),
]


def text_encoder(
    concept: Concepts,
    out: Out,
    method: Method = "safetext",
    model: Model = "storybook",
    unsafe: Unsafe = [],  # noqa: B006 - typer's way
    safe: Safe = [],  # noqa: B006
    pairs: Pairs = [],  # noqa: B006
    apart: Apart = [],  # noqa: B006
    column: Column = "prompt",
    own: Own = 20_000,
    encoder: Encoders = [],  # noqa: B006
    layers: Layers = 0,
    tokens: Tokens = 0,
    lora_rank: LoraRank = 0,
    iterations: Annotated[int | None, typer.Option(min=1, help="Steps.", show_default=_OWN)] = None,
    rate: Rate = None,
    weight: Weight = None,
    away: AwayFrom = None,
    alpha: Alpha = None,
    bank: Bank = None,
    prefix: Prefix = None,
    inner_steps: InnerSteps = None,
    unsafe_batch: Annotated[int | None, typer.Option(min=1, help="Unsafe ones.", show_default=_OWN)] = None,
    safe_batch: Annotated[int | None, typer.Option(min=1, help="Safe ones.", show_default=_OWN)] = None,
    accumulate: Accumulate = 1,
    measure: Measured = 0,
    checkpoint: Checkpoint = 100,
    resume: Resume = False,
    num_images: NumImages = 8,
    steps: Steps = 25,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train a text encoder not to understand unsafe prompts; drawing images costs no more than before.

    Without files of prompts, the storybook's own are trained on.

    \b
    Examples:
      safelight align text-encoder --concept "a gun, a bomb" --out safer.safetensors
      safelight align text-encoder --model ./stable-diffusion --method safe-clip --concept nudity
          --pairs pairs.csv --safe captions.csv --out safer.safetensors
    """
    from safelight.alignment.text_encoder import METHODS

    if method not in METHODS:
        raise RequestError(no_such("method", method, METHODS))
    check_out(out)
    given: dict[str, Any] = {"steps": iterations, "rate": rate, "weight": weight, "alpha": alpha}
    given |= {"away": away, "bank": bank, "prefix": prefix, "inner_steps": inner_steps}
    given |= {"unsafe": unsafe_batch, "safe": safe_batch}
    which: dict[str, Any] = {"encoders": encoder, "layers": layers, "tokens": tokens, "lora_rank": lora_rank}
    often: dict[str, Any] = {"checkpoint_every": checkpoint, "measured_every": measure}
    settings = _settings_of(method, given)
    prompts = _prompts(model, (unsafe, safe, pairs), column, own, seed)
    for path in apart:
        prompts.check_apart(list(read_prompts(path, column)))
    made = METHODS[method](concept, prompts, **which, **often, **settings, accumulate=accumulate, seed=seed)
    train(made, model, out, resume, (num_images, steps, seed), as_json)


def _settings_of(method: str, given: dict[str, Any]) -> dict[str, Any]:
    """Those that were given. Raises ``RequestError`` for one that is for other methods."""
    from safelight.alignment.text_encoder import METHODS

    own = {name: value for name, value in given.items() if value is not None}
    if foreign := own.keys() - {each.name for each in fields(METHODS[method])}:
        option = foreign.pop().replace("_", "-")
        raise RequestError(f"--{option} is not for {method}; leave it out.")
    return own


def _prompts(
    model: str,
    files: tuple[Sequence[Path], Sequence[Path], Sequence[Path]],
    column: str,
    count: int,
    seed: int,
) -> Prompts:
    """Of the files; without any, of the storybook's own grammar, apart from those that are measured with."""
    from safelight.alignment.text_encoder import Prompts

    if any(files):
        unsafe, safe, pairs = files
        return Prompts(
            tuple(prompt for path in unsafe for prompt in read_prompts(path, column)),
            tuple(prompt for path in safe for prompt in read_prompts(path, column)),
            tuple(
                pair
                for path in pairs
                for pair in zip(read_prompts(path, "unsafe"), read_prompts(path, "safe"), strict=True)
            ),
        )
    if model != "storybook":
        raise RequestError("there are no prompts to train on; give --unsafe and --safe, or --pairs.")
    from safelight.attacks.spelling import misspell_somehow
    from safelight.storybook.prompts import training_prompts

    own = training_prompts(count, seed, apart=_measured_prompts(), misspell=misspell_somehow)
    return Prompts((), own.safe, own.pairs)


@cache  # they take seconds to make
def _measured_prompts() -> tuple[str, ...]:
    """Return the prompts that the storybook model is measured with, of every seed in use."""
    from safelight.experiments.alignment import questions
    from safelight.experiments.storybook_suites import suite

    asked = [each for seed in range(_SEEDS) for each in questions(seed=seed).values()]
    return tuple(case.prompt for each in (suite("model"), *asked) for case in each.cases)
