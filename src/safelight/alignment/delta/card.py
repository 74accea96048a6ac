"""The card beside a delta: what it is, how to make it again, and what was measured."""

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
    """Writes, in the format of Hugging Face, the card of the delta in ``file``, and a sheet of ``images``:
    of each concept a row before and a row after."""
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
    shown = [f"![Before, and below after]({sheet})", ""] if sheet else []
    lines = [
        "---",
        f"base_model: {json.dumps(about.base)}",
        "library_name: safelight",
        f"tags: [safelight, text-to-image{', concept-erasure' if concepts else ''}]",
        "---",
        "",
        f"# {about.method.upper()}{f': {concepts}' if concepts else ''}",
        "",
        f"A delta for {about.base}: {proof.values:,} values in {proof.tensors} tensors are changed.",
        "",
        *shown,
        "| | | images | largest change | mean change | shown before | shown after |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        "Changes are of values in [0, 1], of images from the same noise.",
        "",
        "Made with",
        "",
        f"    {command}",
        "",
        "and put on with",
        "",
        f"    safelight apply --model {about.base} --delta {file.name} --out edited",
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
