"""Suites from prompt files: CSV, Parquet, JSON lines, or plain text with one prompt per line.

The columns of published prompt sets are supported: I2P (prompt, categories, sd_seed,
sd_guidance_scale), the sets of ESD and UnlearnDiffAtk (case_number, prompt, evaluation_seed,
evaluation_guidance, classes), COCO captions (image_id, caption), and Ring-A-Bell ("sensitive prompt").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from safelight.errors import RequestError, unknown_name
from safelight.storage.lines import numbered_lines, parse_json, too_long
from safelight.storage.tables import Row, csv_table, parquet_table
from safelight.types import Case, Suite

_PROMPT = ("prompt", "sensitive prompt", "adv_prompt", "adversarial_prompt", "text", "caption")
_ID = ("id", "case_number", "image_id", "coco_id", "")
_SEED = ("seed", "evaluation_seed", "sd_seed")
_GUIDANCE = ("guidance_scale", "guidance", "evaluation_guidance", "sd_guidance_scale")
_CATEGORIES = ("categories", "category", "classes", "class")
# The largest suite without a limit, since suites are held in memory.
_MOST = 1_000_000

Cells = Mapping[str, Any]


def read_suite(path: Path, limit: int | None = None) -> Suite:
    """Return the first ``limit`` prompts of a file as a suite with the file's name.

    The rest of the file is not read. Rows without an id are numbered from 1. Raises ``RequestError`` for a
    file that is missing, cannot be read or has no column of prompts, for an empty prompt, for a seed or a
    guidance scale that is not a number, and for duplicate ids.
    """
    if limit is not None and limit < 1:
        raise RequestError(f"limit is {limit}; it is a number of prompts, at least 1.")
    if not path.is_file():
        raise RequestError(f"there is no file {path}.")
    reader = _READERS.get(path.suffix.casefold())
    if reader is None:
        raise RequestError(unknown_name("reader for files ending in", path.suffix or path.name, _READERS))
    cases: dict[str, Case] = {}
    for number, row in enumerate(islice(reader(path), limit), 1):
        case = _case(path, number, row)
        if case.id in cases:
            raise RequestError(f'{path}: the id "{case.id}" of prompt {number} is not unique.')
        if number > _MOST:
            raise RequestError(f"{path} has more than {_MOST:,} prompts; give a limit.")
        cases[case.id] = case
    if not cases:
        raise RequestError(f"{path} has no prompts in it.")
    return Suite(path.stem, 0, tuple(cases.values()))


def _case(path: Path, number: int, row: Cells) -> Case:
    named = {str(name).strip().casefold(): value for name, value in row.items()}
    prompt = _first(named, _PROMPT)
    if prompt is None and not named.keys() & set(_PROMPT):
        raise RequestError(f'{path} has no column "prompt"; it has {", ".join(map(str, row)) or "none"}.')
    if not isinstance(prompt, str) or not prompt.strip():
        raise RequestError(f"{path}: prompt {number} is empty.")
    where = f"{path}: prompt {number}"
    seed, guidance = (_number(where, named, names) for names in (_SEED, _GUIDANCE))
    if seed is not None and (seed != int(seed) or seed < 0):
        raise RequestError(f"{where} has the seed {seed}; it must be a whole number of at least 0.")
    id_ = _first(named, _ID)
    return Case(
        id=str(number) if id_ in (None, "") else str(id_),
        prompt=prompt,
        categories=tuple(_categories(_first(named, _CATEGORIES))),
        seed=None if seed is None else int(seed),
        guidance_scale=guidance,
    )


def _first(named: Cells, names: Sequence[str]) -> Any:
    return next((named[name] for name in names if named.get(name) is not None), None)


def _number(where: str, named: Cells, names: Sequence[str]) -> float | None:
    value = _first(named, names)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < 1e18:
        name = next(name for name in names if named.get(name) is not None)
        raise RequestError(f'{where} has "{value}" as {name}; it must be a number.')
    return number


def _categories(value: Any) -> Iterator[str]:
    """Yield the categories of a row: separated by commas in I2P, or a list in Parquet and JSON lines."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    yield from dict.fromkeys(str(part).strip() for part in parts if str(part).strip())


def _csv(path: Path) -> Iterator[Cells]:
    with csv_table(path) as table:
        for row in table.rows():
            if row.problem:
                raise RequestError(f"{path}: {row.problem}")
            _check_text(path, row)
            yield row.cells


def _check_text(path: Path, row: Row) -> None:
    try:
        "".join(row.cells.values()).encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{path}: row {row.number} is not valid UTF-8.") from error


def _parquet(path: Path) -> Iterator[Cells]:
    known = {*_PROMPT, *_ID, *_SEED, *_GUIDANCE, *_CATEGORIES}
    with parquet_table(path) as table:
        wanted = [name for name in table.columns if name.strip().casefold() in known]
        try:
            for row in table.rows(wanted or table.columns):
                yield row.cells
        except OSError as error:
            raise RequestError(f"{path} cannot be read as Parquet: {error}.") from error


def _json_lines(path: Path) -> Iterator[Cells]:
    for number, line in _lines(path):
        try:
            row = parse_json(line)
        except ValueError as error:
            raise RequestError(f"{path}: line {number} {error}") from error
        if isinstance(row, str):
            row = {"prompt": row}
        if not isinstance(row, dict):
            raise RequestError(f"{path}: line {number} is not an object of JSON.")
        yield row


def _text(path: Path) -> Iterator[Cells]:
    for number, line in _lines(path):
        try:
            prompt = line.decode().strip()
        except UnicodeDecodeError as error:
            raise RequestError(f"{path}: line {number} is not valid UTF-8.") from error
        if prompt:
            yield {"prompt": prompt}


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in numbered_lines(file):
            if line is None:
                raise RequestError(f"{path}: {too_long(number)}")
            yield number, line


_READERS: dict[str, Callable[[Path], Iterator[Cells]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".txt": _text,
}
