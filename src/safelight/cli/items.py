"""What ``safelight screen`` is given: prompts, pictures and pairs of them, from files and elsewhere."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from safelight.errors import MissingExtraError, RequestError, no_such
from safelight.pictures import SUFFIXES as PICTURE_SUFFIXES
from safelight.types import Stage

_PROMPT_SUFFIXES = frozenset({".csv", ".jsonl", ".parquet", ".txt"})
_SUFFIXES = PICTURE_SUFFIXES | _PROMPT_SUFFIXES
_LONGEST_CELL = 1 << 24

Kind = Literal["prompt", "picture", "pair", "problem"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to screen. ``key`` is how its record names it; ``value`` is the prompt, the path of the
    picture, both, or the sentence that says why it cannot be read.
    """

    kind: Kind
    key: Mapping[str, Any]
    value: Any

    @property
    def name(self) -> str:
        """What people know it by."""
        return str(self.value) if self.kind == "prompt" else " ".join(map(str, self.key.values()))


@dataclass(frozen=True, slots=True)
class Items:
    """What was asked about, in order, read as it is needed."""

    sources: Sequence[Iterable[Item]]

    def __iter__(self) -> Iterator[Item]:
        return (item for source in self.sources for item in source)

    @property
    def total(self) -> int | None:
        """None where some of them are in files that are still to be read."""
        known = [len(source) for source in self.sources if isinstance(source, list)]
        return sum(known) if len(known) == len(self.sources) else None


def read_items(
    arguments: Sequence[str], stdin: BinaryIO, stage: Stage | None = None, column: str = "prompt"
) -> Items:
    """The items of ``arguments`` in order; without any, those of the JSONL in ``stdin``.

    An argument that names a file or folder is that, one that is a pattern for picture files is all of them,
    sorted; any other is a prompt, known by its number. With the stage "prompt", files have prompts in them,
    and folders are none; with "image", everything is a picture or a folder of them, and JSONL has their
    paths; with "pair", everything is JSONL with a prompt and a path on each line. Paths are from the
    file's folder on. ``column`` has the prompts of tables and JSONL.

    Raises ``RequestError`` for what looks like a file and is not there, for a folder without pictures and for
    a table without the column.
    """
    reader = _Reader(stage, column)
    sources = [reader.source(number, argument) for number, argument in enumerate(arguments, 1)]
    return Items(sources or [_jsonl(stdin, stage, Path(), column)])


@dataclass(frozen=True, slots=True)
class _Reader:
    stage: Stage | None
    column: str

    def source(self, number: int, argument: str) -> Iterable[Item]:
        path = Path(argument)
        suffix = path.suffix.lower()
        if _is(path.is_file):
            return self._in_file(path)
        if self.stage == "pair":
            raise RequestError(
                f'there is no file {argument}; give JSONL with a "prompt" and a "path" a line.'
            )
        if self.stage != "prompt":
            if _is(path.is_dir):
                return _in_folder(path)
            if glob.has_magic(argument) and (self.stage == "image" or suffix in PICTURE_SUFFIXES):
                return _matching(argument)
        if self.stage == "image" or (suffix in _SUFFIXES and " " not in argument):
            raise RequestError(f"there is no file {argument}; give one that exists.")
        return [Item("prompt", {"id": number}, argument)]

    def _in_file(self, path: Path) -> Iterator[Item]:
        suffix = path.suffix.lower()
        if suffix in PICTURE_SUFFIXES and self.stage in ("prompt", "pair"):
            raise RequestError(f"{path} is a picture; leave --stage out to screen it.")
        if suffix == ".jsonl" or self.stage == "pair":
            return _lines_of(path, lambda file: _jsonl(file, self.stage, path.parent, self.column))
        if suffix in PICTURE_SUFFIXES or self.stage == "image":
            return iter([_picture(path)])
        if suffix == ".csv":
            return _csv(path, self.column)
        if suffix == ".parquet":
            return _parquet(path, self.column)
        return _lines_of(path, lambda file: _lines(path, file))


def _is(question: Callable[[], bool]) -> bool:
    """Some prompts cannot be a file's name, and asking about them fails."""
    try:
        return question()
    except (OSError, ValueError):
        return False


def _picture(path: Path) -> Item:
    return Item("picture", {"path": str(path)}, path)


def _matching(pattern: str) -> list[Item]:
    """Folders among them are no pictures."""
    found = map(Path, glob.iglob(pattern, recursive=True))  # noqa: PTH207 - the pattern may be absolute
    paths = sorted(path for path in found if not _is(path.is_dir))
    if not paths:
        raise RequestError(f"no file matches {pattern}; give a pattern that some do.")
    return list(map(_picture, paths))


def _in_folder(folder: Path) -> list[Item]:
    """The pictures in it and in its folders, and the folders that could not be read."""
    items: list[tuple[Path, Item]] = []

    def unread(error: OSError) -> None:
        path = Path(str(error.filename))
        items.append((path, Item("problem", {"path": str(path)}, f"it cannot be read: {error.strerror}.")))

    for home, _, names in os.walk(folder, onerror=unread):
        paths = [Path(home, name) for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES]
        items += [(path, _picture(path)) for path in paths]
    if not items:
        raise RequestError(f"{folder} has no pictures in it; give a folder that has some.")
    return [item for _, item in sorted(items, key=lambda pair: pair[0])]


def _lines_of(path: Path, read: Callable[[Iterable[bytes]], Iterator[Item]]) -> Iterator[Item]:
    with _opened(path) as file:
        yield from read(file)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}.") from error


def _csv(path: Path, column: str) -> Iterator[Item]:
    """The first line names the columns; an "id" among them names the rows, else they are numbered."""
    csv.field_size_limit(_LONGEST_CELL)
    with _opened(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.DictReader(text, strict=True)
        try:
            _check_column(path, column, rows.fieldnames or ())
        except csv.Error as error:
            raise RequestError(f"{path} cannot be read as CSV: {error}.") from error
        number = 0
        while True:
            number += 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield Item("problem", {"id": number}, f"row {number} is not valid CSV: {error}.")
                continue
            if row is None:
                return
            yield Item("prompt", {"id": row.get("id", number)}, row[column])


def _parquet(path: Path, column: str) -> Iterator[Item]:
    """Read a part at a time, so that files of any size fit into memory."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtraError("a Parquet file", "data") from error
    try:
        file = parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise RequestError(f"{path} cannot be read as Parquet: {error}.") from error
    _check_column(path, column, file.schema_arrow.names)
    named = "id" in file.schema_arrow.names
    number = 0
    try:
        for part in file.iter_batches(columns=[column, "id"] if named else [column]):
            for row in part.to_pylist():
                number += 1
                yield Item("prompt", {"id": row.get("id", number)}, row[column])
    except (ArrowException, OSError) as error:
        yield Item("problem", {"id": number + 1}, f"{path} is damaged from row {number + 1} on: {error}.")


def _check_column(path: Path, column: str, there: Sequence[str]) -> None:
    if column not in there:
        raise RequestError(f"{path}: {no_such('column', column, there)} Choose one with --column.")


def _lines(path: Path, file: Iterable[bytes]) -> Iterator[Item]:
    """One prompt a line."""
    for number, line in enumerate(file, 1):
        key = {"id": f"{path}:{number}"}
        try:
            prompt = line.decode("utf-8").strip()
        except UnicodeDecodeError:
            yield Item("problem", key, f"line {number} is not UTF-8 text.")
            continue
        if prompt:
            yield Item("prompt", key, prompt)


def _jsonl(file: Iterable[bytes], stage: Stage | None, folder: Path, column: str) -> Iterator[Item]:
    """One object a line; without an "id" it is the line's number, or the path."""
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _row(number, line, stage, folder, column)


def _row(number: int, line: bytes, stage: Stage | None, folder: Path, column: str) -> Item:
    try:
        row = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return Item("problem", {"id": number}, f"line {number} is not valid JSON.")
    needed = {"image": ("path",), "pair": (column, "path")}.get(stage or "prompt", (column,))
    if not isinstance(row, dict) or not all(name in row for name in needed):
        wanted = " and a ".join(f'"{name}"' for name in needed)
        return Item("problem", {"id": number}, f"line {number} is not an object with a {wanted}.")
    if "path" not in needed:
        return Item("prompt", {"id": row.get("id", number)}, row[column])
    if not isinstance(row["path"], str):
        return Item("problem", {"id": row.get("id", number)}, f'the "path" on line {number} is not text.')
    path = folder / row["path"]
    key = {**({"id": row["id"]} if "id" in row else {}), "path": str(path)}
    return Item("picture", key, path) if stage == "image" else Item("pair", key, (row[column], path))


def _refuse(constant: str) -> None:
    raise ValueError(constant)
