"""``safelight evaluate``: how well the model draws, and how well the detectors see."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson, Model, Seed, Steps
from safelight.cli.pipeline import hush

evaluate = typer.Typer(
    name="evaluate",
    no_args_is_help=True,
    help="Measure a model or a detector, with intervals.",
)

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
    from safelight.evaluation import evaluate_model

    hush()
    with terminal.progress("Drawing and judging") as tell:
        results = evaluate_model(model, out, seed=seed, limit=limit, steps=steps, progress=tell)
    _show(results, out, as_json)


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


def _detector(name: str, out: Path, scenes: int, seed: int, as_json: bool) -> None:
    from safelight.evaluation import evaluate_detector

    with terminal.progress("Drawing and looking") as tell:
        results = evaluate_detector(name, out, scenes=scenes, seed=seed, progress=tell)
    _show(results, out, as_json)


def _show(results: dict[str, Any], out: Path, as_json: bool) -> None:
    if as_json:
        terminal.print_json(results)
        return
    for name, rows in results["tables"].items():
        terminal.print_table((name, "rate", "95 % interval", "count"), [_cells(row) for row in rows])
    for name, value in results["figures"].items():
        terminal.print_line(f"{name}  {'none' if value is None else f'{value:.4g}'}")
    terminal.note(f"All of it is in {out / 'results.json'}.")


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    interval = f"{row['low']:.1%} to {row['high']:.1%}"
    return row["group"], f"{row['rate']:.1%}", interval, f"{row['k']} of {row['n']}"
