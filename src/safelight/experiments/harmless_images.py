"""Evaluation of a policy's image filters on harmless images: how many are flagged and blocked, by kind."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from safelight.errors import RequestError
from safelight.evaluation.command_line import command_line
from safelight.evaluation.detection import share
from safelight.evaluation.results import write_results
from safelight.evaluation.tables import Row, rows
from safelight.guard.guard import Guard
from safelight.images import images_in
from safelight.types import Action, Verdict

INDEX = "index.tsv"
_AT_ONCE = 16


def evaluate_harmless_images(policy: str | Path, images: Path, out: Path) -> dict[str, Any]:
    """Screen all images of a folder and count what the policy flags (does anything but allow) and blocks.

    A table ``index.tsv`` in the folder, with the columns file and kind, tells their kinds; without one, the
    kind of an image is the name of the folder that it lies in. Images that are refused unseen, because they
    are damaged or too large, are counted apart. Writes ``results.json`` in ``out`` and returns its content.
    Raises ``RequestError`` for a folder without images and for a table that cannot be used.
    """
    guard = Guard.from_policy(policy, stages=("image",))
    kinds = image_kinds(images)
    paths = [images / name for name in kinds]
    verdicts: list[Verdict] = []
    for start in range(0, len(paths), _AT_ONCE):
        verdicts += guard.screen_images(paths[start : start + _AT_ONCE])
    judged = list(zip(kinds.values(), verdicts, strict=True))
    seen = [(kind, verdict) for kind, verdict in judged if not verdict.reasons]
    labels = sorted({label for _, each in seen for label in _deciding(each)})
    tables = {
        "flagged": [*_by_kind(seen, Action.REVIEW), *_by_label(seen, labels)],
        "blocked": _by_kind(seen, Action.BLOCK),
        "refused unseen": share("all", (bool(verdict.reasons) for _, verdict in judged)),
    }
    command = command_line("harmless-images", policy=guard.policy.name, images=images)
    return write_results(out / "results.json", command, {"policy": guard.policy.id}, tables, {})


def image_kinds(folder: Path) -> dict[str, str]:
    """Return the kind of every image by its path in the folder. Raises ``RequestError``."""
    if (folder / INDEX).is_file():
        with (folder / INDEX).open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        if not lines or not {"file", "kind"} <= lines[0].keys():
            raise RequestError(f"{folder / INDEX} has no columns file and kind; add them.")
        kinds = {line["file"]: line["kind"] for line in lines}
    else:
        kinds = {str(path.relative_to(folder)): path.parent.name for path in images_in(folder)}
    if not kinds:
        raise RequestError(f"{folder} has no images; give a folder of harmless images.")
    return kinds


def _by_kind(judged: list[tuple[str, Verdict]], action: Action) -> list[Row]:
    counted = rows(judged, lambda kind: [kind], lambda _, verdict: verdict.action >= action)
    return [*share("all", (verdict.action >= action for _, verdict in judged)), *counted]


def _by_label(judged: list[tuple[str, Verdict]], labels: list[str]) -> list[Row]:
    """Return for each label how many images are flagged because of it."""
    return [row for label in labels for row in share(label, (label in _deciding(each) for _, each in judged))]


def _deciding(verdict: Verdict) -> set[str]:
    scores = verdict.categories.values()
    return {f"label {label}" for each in scores if each.action > Action.ALLOW for label in each.labels}
