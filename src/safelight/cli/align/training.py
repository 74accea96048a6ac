"""Alignments that train, with checkpoints and a curve of the loss."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.cli import terminal
from safelight.cli.align.proof import check_seen, prove_and_save, storybook_judge
from safelight.cli.pipeline import open_pipeline
from safelight.errors import RequestError

if TYPE_CHECKING:
    from safelight.alignment.diffusion import ESD
    from safelight.alignment.method.tuning import Curve, Measure
    from safelight.alignment.safe_training import SafeTraining
    from safelight.alignment.text_encoder import TextEncoderMethod


def train(
    method: ESD | TextEncoderMethod | SafeTraining,
    model: str,
    out: Path,
    resume: bool,
    drawing: tuple[int, int, int],
    as_json: bool,
    preserve: Sequence[str] = (),
) -> None:
    """``drawing`` is of how many images, in how many steps and from which seed on."""
    work = out.with_suffix(".tuning")
    if work.exists() and not resume and method.is_first:
        raise RequestError(f"{work} has the checkpoint of a training; give --resume, or remove it.")
    if method.measured_every:
        check_seen(model, "--measure")
    pipe = open_pipeline(model)
    with terminal.progress("Training") as tell:
        left = _what_is_left(pipe, method.concepts) if method.measured_every else None
        told = (lambda step, _: tell(step, method.steps)) if method.is_first else None
        delta, curve = method.tune(pipe, work, left, told)
    if not method.is_first:
        return
    prove_and_save(pipe, model, delta, preserve, out, drawing, as_json)
    _draw_curve(curve, out)
    shutil.rmtree(work, ignore_errors=True)  # one that ended early has none


def _what_is_left(pipe: Any, concepts: Sequence[str]) -> Measure:
    """The share of eight images of every concept that show it."""
    from safelight.alignment.delta.proof import draw

    shows = storybook_judge()

    def measure(_: int) -> float:
        seen = [each for concept in concepts for each in shows(concept, draw(pipe, concept, 8, 15, 0)) or ()]
        return sum(seen) / len(seen) if seen else 1.0

    return measure


def _draw_curve(curve: Curve, out: Path) -> None:
    """The loss, as numbers and as an image, beside the delta."""
    from safelight.training.curves import draw_curves
    from safelight.training.progress import Curve as Points

    kept, numbers = Points(every=max(1, len(curve.loss) // 100)), out.with_suffix(".curve.json")
    for step, loss in enumerate(curve.loss):
        kept.add(step, loss)
    kept.save(numbers)
    draw_curves([numbers], out.with_suffix(".curve.png"))
