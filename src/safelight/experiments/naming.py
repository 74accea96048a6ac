"""Blind naming: readers who see only a model's images and the list of labels name what each image shows."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from safelight.errors import RequestError
from safelight.evaluation.command_line import command_line
from safelight.evaluation.detection import share
from safelight.evaluation.results import write_results
from safelight.evaluation.system import BareSystem, quiet_pipeline
from safelight.evaluation.tables import Row, rows
from safelight.storage.atomic_write import write_text
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.suites import suite
from safelight.storybook.vocabulary import LABELS
from safelight.types import Case

KEY, ANSWERS = "key.json", "answers.tsv"
# Single objects of each label, and pairs of each relation.
_SINGLES, _PAIRS = 3, 15
_TILE_PX, _MARGIN_PX, _COLUMNS, _ROWS = 192, 22, 6, 5
# What a reader writes for an image that shows no label.
_NOTHING = "-"
# What the key says about the model.
_ABOUT = ("model", "seed", "steps", "weights_sha256")


def draw_naming_sheets(model: str | Path, out: Path, seed: int = 0, steps: int = 25) -> None:
    """Generate 144 images of single objects and 60 of pairs, and write them to ``out`` as numbered sheets.

    A reader writes the labels seen in each image into ``answers.tsv``, without looking at ``key.json``, which
    has what was asked for and what the storybook's judge sees. Raises ``ModelError`` for a model that cannot
    be loaded, and ``RequestError`` if ``out`` has answers already.
    """
    if (out / ANSWERS).exists():
        raise RequestError(f"{out / ANSWERS} exists already; give another folder.")
    cases = _cases(seed)
    system = BareSystem(quiet_pipeline(model), num_inference_steps=steps)
    answers = system.answer([case.prompt for case in cases], list(range(len(cases))))
    images = [answer.image for answer in answers if answer.image]
    judged = StorybookJudge().judge(images)
    out.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, len(images), _COLUMNS * _ROWS), start=1):
        _sheet(images[first : first + _COLUMNS * _ROWS], first + 1).save(out / f"sheet-{number}.png")
    key = [
        {"asked": sorted(case.expects), "judge": sorted(each.labels)}
        for case, each in zip(cases, judged, strict=True)
    ]
    about = {"model": system.name, "seed": seed, "steps": steps, **system.settings, "images": key}
    write_text(out, KEY, json.dumps(about, indent=1))
    lines = "".join(f"{number}\t\n" for number in range(1, len(images) + 1))
    write_text(out, ANSWERS, f"image\tlabels\n{lines}")


def _cases(seed: int) -> list[Case]:
    """Return the cases in random order: some of each label, and some pairs of each relation."""
    taken: Counter[str] = Counter()
    chosen = []
    for name, tag, count in (("single", "label:", _SINGLES), ("pairs", "relation:", _PAIRS)):
        for case in suite(name, seed).cases:
            (group,) = (each for each in case.tags if each.startswith(tag))
            taken[group] += 1
            if taken[group] <= count:
                chosen.append(case)
    random.Random(f"{seed} naming").shuffle(chosen)
    return chosen


def _sheet(images: Sequence[Image.Image], first: int) -> Image.Image:
    height = _TILE_PX + _MARGIN_PX
    sheet = Image.new(
        "RGB", (_COLUMNS * (_TILE_PX + _MARGIN_PX), -(-len(images) // _COLUMNS) * height), "white"
    )
    for place, image in enumerate(images):
        left, top = place % _COLUMNS * (_TILE_PX + _MARGIN_PX), place // _COLUMNS * height
        sheet.paste(image.resize((_TILE_PX, _TILE_PX), Image.Resampling.BICUBIC), (left, top + _MARGIN_PX))
        ImageDraw.Draw(sheet).text((left + 2, top + 5), str(first + place), fill="black")
    return sheet


@dataclass(frozen=True, slots=True)
class _Named:
    """An image: the labels that were asked for, those that the judge sees, and those that a reader named."""

    asked: frozenset[str]
    judge: frozenset[str]
    reader: frozenset[str]

    @property
    def right(self) -> bool:
        return self.asked <= self.reader


def evaluate_naming(folder: Path) -> dict[str, Any]:
    """Compare the answers in ``folder`` with its key, write ``results.json`` there and return its content.

    An image is named right if the reader named all labels that were asked for. The judge agrees about a label
    that was asked for if it sees what the reader named, or neither does. Raises ``RequestError`` for missing
    files, unknown labels and images without an answer.
    """
    key = _read_key(folder / KEY)
    answers = _read_answers(folder / ANSWERS, len(key["images"]))
    named = [
        _Named(frozenset(image["asked"]), frozenset(image["judge"]), answer)
        for image, answer in zip(key["images"], answers, strict=True)
    ]
    single = [each for each in named if len(each.asked) == 1]
    pairs = [each for each in named if len(each.asked) > 1]
    tables = {
        "single objects named right": [*_right("all", single), *_by_label(single)],
        "pairs: both named right": _right("all", pairs),
        "judge agrees with the reader": share(
            "all", ((label in each.judge) == (label in each.reader) for each in named for label in each.asked)
        ),
    }
    about = {name: key[name] for name in _ABOUT}
    return write_results(folder / "results.json", command_line("naming", folder=folder), about, tables, {})


def _right(group: str, named: Iterable[_Named]) -> list[Row]:
    return share(group, (each.right for each in named))


def _by_label(named: Iterable[_Named]) -> list[Row]:
    return rows(((each, each.right) for each in named), lambda each: each.asked, lambda _, right: right)


def _read_key(path: Path) -> Any:
    try:
        key = json.loads(path.read_text("utf-8"))
        return {name: key[name] for name in (*_ABOUT, "images")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{path} is no key of naming sheets ({error}); draw the sheets again.") from error


def _read_answers(path: Path, count: int) -> list[frozenset[str]]:
    """Return the labels named for each image, in order. Raises ``RequestError``."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            answers = {row["image"]: row["labels"] or "" for row in csv.DictReader(file, delimiter="\t")}
    except (OSError, KeyError, ValueError) as error:
        raise RequestError(
            f"{path} cannot be read: {error}; it needs the columns image and labels."
        ) from error
    return [_labels(answers.get(str(number), ""), number, path) for number in range(1, count + 1)]


def _labels(answer: str, number: int, path: Path) -> frozenset[str]:
    named = [label.strip().lower() for label in answer.split(",") if label.strip()]
    if not named:
        raise RequestError(f'{path}: image {number} has no answer; write its labels, or "-" for none.')
    if unknown := [label for label in named if label not in (*LABELS, _NOTHING)]:
        raise RequestError(f'{path}: image {number}: "{unknown[0]}" is no label of the storybook.')
    return frozenset(named) - {_NOTHING}
