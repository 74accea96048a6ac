"""The model card of a delta: its description, how to reproduce it, and its measured effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from safelight.alignment.delta.delta import Provenance
    from safelight.alignment.delta.proof import Change, Pair, Proof

_SIDE_PX = 128


def write_card(file: Path, about: Provenance, proof: Proof, command: str, images: Mapping[str, Pair]) -> Path:
    """Write the card of the delta in ``file`` in the format of Hugging Face, and return its path.

    ``images`` are saved beside it as one contact sheet, with a row before and a row after for each concept.
    """
    sheet, card = file.with_suffix(".png"), file.with_suffix(".md")
    if images:
        _sheet(images).save(sheet, optimize=True)
    card.write_text(_text(file, about, proof, command, sheet.name if images else None), "utf-8")
    return card


def _text(file: Path, about: Provenance, proof: Proof, command: str, sheet: str | None) -> str:
    concepts = "; ".join(about.concepts)
    rows = [_row(name, "edited", change) for name, change in proof.concepts.items()]
    others = "preserved" if concepts else "drawn"
    rows += [_row(name, others, change) for name, change in proof.preserved.items()]
    shown = [f"![Before (upper rows) and after (lower rows)]({sheet})", ""] if sheet else []
    lines = [
        "---",
        f"base_model: {json.dumps(about.base)}",
        "library_name: safelight",
        f"tags: [safelight, text-to-image{', concept-erasure' if concepts else ''}]",
        "---",
        "",
        f"# {about.method.upper()}{f': {concepts}' if concepts else ''}",
        "",
        f"A delta for {about.base}. It changes {proof.values:,} values in {proof.tensors} tensors.",
        "",
        *shown,
        "| | | images | largest change | mean change | shown before | shown after |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Changes are absolute differences of pixel values in [0, 1] between images from the same noise.",
        "",
        "Made with:",
        "",
        f"    {command}",
        "",
        "Apply it with:",
        "",
        f"    safelight apply --model {about.base} --delta {file.name} --output edited",
        "",
        "Settings:",
        "",
        *(f"    {line}" for line in json.dumps(about.settings, indent=2).splitlines()),
        "",
    ]
    return "\n".join(lines)


def _row(concept: str, what: str, change: Change) -> str:
    shares = ("" if share is None else f"{100 * share:.0f} %" for share in (change.before, change.after))
    numbers = (str(change.num_images), f"{change.largest:.3f}", f"{change.mean:.3f}")
    return f"| {' | '.join((concept, what, *numbers, *shares))} |"


def _sheet(images: Mapping[str, Pair]) -> Image.Image:
    rows = [row for pair in images.values() for row in (pair.before, pair.after)]
    sheet = Image.new("RGB", (max(map(len, rows)) * _SIDE_PX, len(rows) * _SIDE_PX), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            small = image.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
            sheet.paste(small, (x * _SIDE_PX, y * _SIDE_PX))
    return sheet
