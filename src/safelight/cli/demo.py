"""``safelight demo``: what a newcomer sees first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safelight.cli import terminal
from safelight.cli.options import AsJson, Seed, Steps

if TYPE_CHECKING:
    from safelight.demo import Exhibit


def demo(
    out: Annotated[Path, typer.Option(help="Folder for index.html and demo.png.")] = Path("demo"),
    steps: Steps = 25,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Show a guarded generator at work, and where it fails.

    Draws some prompts with the embedded model, screens prompts and pictures, and asks the judge what the
    pictures show in truth. Writes a page and a contact sheet of all pairs.

    \b
    Examples:
      safelight demo
      safelight demo --out tour --seed 100
    """
    from safelight.cli.album import Album
    from safelight.cli.pipeline import open_pipeline
    from safelight.demo import make_demo
    from safelight.guard.guard import Guard
    from safelight.storybook.detector import Judge

    folder, guard, judge = Album.at(out).folder, Guard.from_policy("storybook"), Judge.load()
    pipe = open_pipeline("storybook")
    rows = terminal.Rows({"": 12, "prompt": 31, "guard": 16, "truth": 40}, silent=as_json)
    exhibits = make_demo(
        pipe, guard, judge, folder, seed=seed, steps=steps, show=lambda exhibit: rows.add(_row(exhibit))
    )
    _show(exhibits, folder, as_json)


def _row(exhibit: Exhibit) -> tuple[str, str, str, str]:
    harms = " and ".join(exhibit.truth.harms) or "harmless"
    stage = "prompt" if exhibit.deciding.stage == "prompt" else "picture"
    said = "allow" if exhibit.action == "allow" else f"{exhibit.action} at {stage}"
    return exhibit.outcome.value, exhibit.prompt.text, said, f"{exhibit.truth}: {harms}"


def _show(exhibits: list[Exhibit], folder: Path, as_json: bool) -> None:
    from safelight.demo import PAGE, SHEET, counts

    count = {outcome.value: n for outcome, n in counts(exhibits).items()}
    if as_json:
        files = {"page": str(folder / PAGE), "sheet": str(folder / SHEET)}
        terminal.print_json({"counts": count, **files, "exhibits": [_to_dict(e) for e in exhibits]})
        return
    terminal.print_line("")
    terminal.print_line(", ".join(f"{n} {outcome}" for outcome, n in count.items()) + ".")
    terminal.print_line(f"Every pair, with scores and the truth: {folder / PAGE} and {folder / SHEET}")


def _to_dict(exhibit: Exhibit) -> dict[str, Any]:
    return {
        "prompt": exhibit.prompt.text,
        "seed": exhibit.seed,
        "outcome": exhibit.outcome.value,
        "verdicts": [verdict.to_dict() for verdict in exhibit.verdicts],
        "truth": {"objects": exhibit.truth.objects, "harms": exhibit.truth.harms},
        "leaked": exhibit.leaked,
        "led_away_from": exhibit.led,
    }
