"""Output of an alignment: proof by images before and after, the delta, its card and the loss curve."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.cli import terminal
from safelight.errors import RequestError
from safelight.models.pipelines import MODELS
from safelight.types import AlignmentResult

if TYPE_CHECKING:
    from safelight.alignment.delta.delta import Delta
    from safelight.alignment.delta.proof import Change, Shows
    from safelight.storybook.detector import Judge


def check_output(output: Path) -> None:
    if output.suffix != ".safetensors":
        raise RequestError(f"{output} should be a delta; give it a name that ends with .safetensors.")


def judge_of(model: str) -> Shows | None:
    """Return the judge for images of a packaged model; None for other models."""
    return _storybook_shows if model in MODELS else None


def prove_and_save(
    pipe: Any,
    model: str,
    result: AlignmentResult[Delta],
    output: Path,
    generation: tuple[int, int, int],
    as_json: bool,
) -> None:
    """Generate images as proof, write the delta and its card, and print a summary.

    Raises ``ModelError`` and writes nothing if the images of a concept did not change.
    """
    from safelight.alignment.delta.card import write_card
    from safelight.alignment.delta.proof import prove

    packaged, delta = model in MODELS, result.delta
    with terminal.busy("Generating images before and after"):
        proof, pairs = prove(pipe, delta, result.preserved, *generation, judge_of(model))
    about = replace(delta.about, base=model if packaged else delta.about.base, proof=asdict(proof))
    replace(delta, about=about).save(output)
    # It is unknown what other models' images of a removed concept show, so they are left off the card.
    shown = pairs if packaged else {name: pair for name, pair in pairs.items() if name in result.preserved}
    card = write_card(output, about, proof, shlex.join(["safelight", *sys.argv[1:]]), shown)
    if as_json:
        terminal.print_json({"delta": str(output), "card": str(card), **asdict(proof)})
        return
    changes = {**proof.concepts, **proof.preserved}
    headings = ("concept", "largest change", "mean change", "shown before", "shown after")
    terminal.print_table(headings, [_row(name, change) for name, change in changes.items()])
    _print_measured(result.measured)
    terminal.print_line(f"{proof.values:,} values in {proof.tensors} tensors are in {output}")


def draw_curve(loss: Sequence[float], output: Path) -> None:
    """Write the loss beside the delta, as numbers and as a plot."""
    from safelight.training.curve import Curve
    from safelight.training.curve_plot import draw_curves

    numbers = output.with_suffix(".curve.json")
    Curve(list(loss)).save(numbers)
    draw_curves([numbers], output.with_suffix(".curve.png"))


def _row(concept: str, change: Change) -> tuple[str, ...]:
    shares = ("" if share is None else f"{100 * share:.0f} %" for share in (change.before, change.after))
    return (concept, f"{change.largest:.3f}", f"{change.mean:.3f}", *shares)


def _print_measured(measured: Mapping[int, Mapping[str, float]]) -> None:
    """Print the measured shares: a row for each name, a column for each number of steps or edits."""
    if not measured:
        return
    names = next(iter(measured.values()))
    rows = [(name, *(f"{100 * each[name]:.0f} %" for each in measured.values())) for name in names]
    terminal.print_table(("measured", *(f"after {done}" for done in measured)), rows)


def _storybook_shows(concept: str, images: Sequence[Any]) -> list[bool] | None:
    """Return which images show the concept, by the storybook's judge.

    Returns None if the judge knows none of the concept's synonyms.
    """
    from safelight.alignment.method.concept_names import names_of
    from safelight.storybook import judging
    from safelight.storybook.vocabulary import entry_of

    entry = next(filter(None, map(entry_of, names_of(concept))), None)
    if entry is None:
        return None
    return [judging.shows(each, entry.label) for each in _judge().detect(images)]


@cache
def _judge() -> Judge:
    from safelight.storybook.detector import Judge

    return Judge.load()
