"""What every alignment ends with: a proof, the delta, and its card."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.cli import terminal
from safelight.errors import RequestError
from safelight.models.pipelines import MODELS

if TYPE_CHECKING:
    from safelight.alignment.delta.delta import Delta
    from safelight.alignment.delta.proof import Change, Shows


def check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise RequestError(f"{out} is to be a delta; give it a name that ends with .safetensors.")


def check_seen(model: str, what: str) -> None:
    if model not in MODELS:
        raise RequestError(f"nobody can say what this model draws, so {what} is for packaged models only.")


def prove_and_save(
    pipe: Any,
    model: str,
    delta: Delta,
    preserve: Sequence[str],
    out: Path,
    drawing: tuple[int, int, int],
    as_json: bool,
) -> None:
    """Draws what proves the edit, writes the delta and its card, and says so; nothing if it is no edit."""
    from dataclasses import replace

    from safelight.alignment.delta.card import write_card
    from safelight.alignment.delta.proof import prove

    packaged = model in MODELS
    with terminal.busy("Drawing before and after"):
        proof, drawn = prove(pipe, delta, preserve, *drawing, storybook_judge() if packaged else None)
    about = replace(delta.about, base=model if packaged else delta.about.base, proof=asdict(proof))
    replace(delta, about=about).save(out)
    # Of other models' images before an edit nobody knows what they show.
    shown = drawn if packaged else {concept: pair for concept, pair in drawn.items() if concept in preserve}
    card = write_card(out, about, proof, shlex.join(["safelight", *sys.argv[1:]]), shown)
    if as_json:
        terminal.print_json({"delta": str(out), "card": str(card), **asdict(proof)})
        return
    changes = {**proof.concepts, **proof.preserved}
    headings = ("concept", "largest change", "mean", "shown before", "after")
    terminal.print_table(headings, [_row(name, change) for name, change in changes.items()])
    terminal.print_line(f"{proof.values:,} values in {proof.tensors} tensors are in {out}")


def _row(concept: str, change: Change) -> tuple[str, ...]:
    shares = ("" if share is None else f"{100 * share:.0f} %" for share in (change.before, change.after))
    return (concept, f"{change.largest:.3f}", f"{change.mean:.3f}", *shares)


def storybook_judge() -> Shows:
    """Whether the storybook's judge sees what goes by one of a concept's names."""
    from safelight.alignment.method.concept_names import names_of
    from safelight.storybook import judging
    from safelight.storybook.detector import Judge
    from safelight.storybook.vocabulary import entry_of

    judge = Judge.load()

    def shows(concept: str, images: Sequence[Any]) -> list[bool] | None:
        entry = next(filter(None, map(entry_of, names_of(concept))), None)
        return [judging.shows(each, entry.label) for each in judge.detect(images)] if entry else None

    return shows
