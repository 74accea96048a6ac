"""``safelight evaluate naming-sheets`` and ``naming``: what readers recognise in a model's images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli import terminal
from safelight.cli.evaluate import show_results
from safelight.cli.options import AsJson, Model, Seed, Steps
from safelight.cli.pipeline import quiet_libraries


def naming_sheets(
    model: Model = "storybook",
    output: Annotated[Path, typer.Option(help="Folder for the sheets, answers.tsv and key.json.")] = Path(
        "runs/naming"
    ),
    seed: Seed = 0,
    steps: Steps = 25,
) -> None:
    """Draw numbered sheets of a model's images for readers who name what they see.

    Generates 144 images of single storybook objects and 60 of pairs, in random order and without captions. A
    reader who knows only the list of labels writes into answers.tsv which of them each image shows; key.json
    has what was asked for.

    \b
    Example:
      safelight evaluate naming-sheets --output runs/naming
    """
    from safelight.experiments.naming import draw_naming_sheets

    quiet_libraries()
    with terminal.busy("Generating and judging"):
        draw_naming_sheets(model, output, seed=seed, steps=steps)
    terminal.note(f"Sheets are in {output}; write the labels into {output / 'answers.tsv'}.")


def naming(
    folder: Annotated[Path, typer.Argument(help="Folder written by naming-sheets, with all answers.")],
    as_json: AsJson = False,
) -> None:
    """Measure how often a reader recognises what a model was asked to draw.

    Compares the answers to the sheets of naming-sheets with what was asked for, by label, and with what the
    storybook's judge sees. Writes results.json in the folder.

    \b
    Example:
      safelight evaluate naming runs/naming
    """
    from safelight.experiments.naming import evaluate_naming

    show_results(evaluate_naming(folder), folder, as_json)
