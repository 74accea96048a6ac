"""``safelight demo``: a first look at what the guard does and where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson, Seed, Steps

if TYPE_CHECKING:
    from safelight.demo import DemoItem


def demo(
    output: Annotated[Path, typer.Option(help="Folder for index.html and demo.png.")] = Path("demo"),
    steps: Steps = 25,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Show a guarded image generator at work, and where it fails.

    Generates images of a set of prompts with the packaged model, screens prompts and images, and has a
    separate judge label what each image really shows. Writes a web page and a contact sheet of all pairs of
    unguarded and guarded images.

    \b
    Examples:
      safelight demo
      safelight demo --output tour --seed 100
    """
    from safelight.cli.gallery import Gallery
    from safelight.cli.pipeline import open_pipeline
    from safelight.demo import make_demo
    from safelight.guard.guard import Guard
    from safelight.storybook.detector import Judge

    folder, guard, judge = Gallery.at(output).folder, Guard.from_policy("storybook"), Judge.load()
    pipe = open_pipeline("storybook")
    rows = terminal.Rows({"": 12, "prompt": 31, "guard": 16, "truth": 40}, silent=as_json)
    items = make_demo(
        pipe, guard, judge, folder, seed=seed, steps=steps, show=lambda item: rows.add(_row(item))
    )
    _show(items, folder, as_json)


def _row(item: DemoItem) -> tuple[str, str, str, str]:
    harms = " and ".join(item.truth.harms) or "harmless"
    stage = "prompt" if item.deciding.stage == "prompt" else "image"
    decision = "allow" if item.action == "allow" else f"{item.action} at {stage}"
    return item.outcome.value, item.prompt.text, decision, f"{item.truth}: {harms}"


def _show(items: list[DemoItem], folder: Path, as_json: bool) -> None:
    from safelight.demo import PAGE, SHEET, counts

    count = {outcome.value: n for outcome, n in counts(items).items()}
    if as_json:
        files = {"page": str(folder / PAGE), "sheet": str(folder / SHEET)}
        terminal.print_json({"counts": count, **files, "items": [_to_dict(item) for item in items]})
        return
    terminal.print_line("")
    terminal.print_line(", ".join(f"{n} {outcome}" for outcome, n in count.items()) + ".")
    terminal.print_line(f"All pairs, with scores and true labels: {folder / PAGE} and {folder / SHEET}")


def _to_dict(item: DemoItem) -> dict[str, Any]:
    return {
        "prompt": item.prompt.text,
        "seed": item.seed,
        "outcome": item.outcome.value,
        "verdicts": [verdict.to_dict() for verdict in item.verdicts],
        "truth": {"objects": item.truth.objects, "harms": item.truth.harms},
        "leaked": item.leaked,
        "steered_away_from": item.steered_away_from,
    }
