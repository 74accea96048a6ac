"""What ``safelight screen`` is given: prompts and pictures, from arguments, files, folders and JSONL."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from safelight.errors import MissingExtraError, RequestError, no_such

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_PROMPT_SUFFIXES = frozenset({".csv", ".jsonl", ".parquet", ".txt"})
_SUFFIXES = PICTURE_SUFFIXES | _PROMPT_SUFFIXES
_LONGEST_CELL = 1 << 24

Kind = Literal["prompt", "picture", "problem"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to screen. ``key`` is how its record names it; ``value`` is the prompt or the picture,
    or the sentence that says why it cannot be read.
    """

    kind: Kind
    key: Mapping[str, Any]
    value: Any

    @property
    def name(self) -> str:
        """What people know it by."""
        return str(self.value) if self.kind == "prompt" else " ".join(map(str, self.key.values()))


def read_items(
    arguments: Sequence[str], stdin: BinaryIO, stage: str | None = None, column: str = "prompt"
) -> Iterator[Item]:
    """The items of ``arguments`` in order; without any, those of the JSONL in ``stdin``.

    An argument that names a file or folder is that; any other is a prompt, known by its number. With the
    stage "prompt", files have prompts in them, and folders are none; with "image", everything is a picture
    or a folder of pictures. ``column`` has the prompts of tables.

    Raises ``RequestError`` for what looks like a file and is not there, for a folder without pictures and for
    a table without the column.
    """
    if stage == "image" and not arguments:
        raise RequestError("there is nothing to screen; give pictures or folders of them.")
    reader = _Reader(stage, column)
    sources = [reader.source(number, argument) for number, argument in enumerate(arguments, 1)]
    if not sources:
        sources = [_jsonl(stdin)]
    return (item for source in sources for item in source)


@dataclass(frozen=True, slots=True)
class _Reader:
    stage: str | None
    column: str

    def source(self, number: int, argument: str) -> Iterable[Item]:
        path = Path(argument)
        suffix = path.suffix.lower()
        if self.stage == "prompt" and suffix in PICTURE_SUFFIXES and _is(path.is_file):
            raise RequestError(f"{path} is a picture; leave --stage out to screen it.")
        if self.stage != "prompt" and _is(path.is_dir):
            return map(_picture, _pictures_in(path))
        if _is(path.is_file):
            return self._in_file(path)
        if self.stage == "image" or (suffix in _SUFFIXES and " " not in argument):
            raise RequestError(f"there is no file {argument}; give one that exists.")
        return [Item("prompt", {"id": number}, argument)]

    def _in_file(self, path: Path) -> Iterator[Item]:
        suffix = path.suffix.lower()
        if suffix in PICTURE_SUFFIXES or self.stage == "image":
            return iter([_picture(path)])
        if suffix == ".csv":
            return _csv(path, self.column)
        if suffix == ".parquet":
            return _parquet(path, self.column)
        return _text(path)


def _is(question: Callable[[], bool]) -> bool:
    """Some prompts cannot be a file's name, and asking about them fails."""
    try:
        return question()
    except (OSError, ValueError):
        return False


def _pictures_in(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise RequestError(f"{folder} has no pictures in it; give a folder that has some.")
    return paths


def _text(path: Path) -> Iterator[Item]:
    with _opened(path) as file:
        yield from _jsonl(file) if path.suffix.lower() == ".jsonl" else _lines(path, file)


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


def _jsonl(file: Iterable[bytes]) -> Iterator[Item]:
    """One ``{"id": …, "prompt": …}`` a line; without an id it is the line's number."""
    for number, line in enumerate(file, 1):
        if line.strip():
            yield _row(number, line)


def _row(number: int, line: bytes) -> Item:
    try:
        row = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return Item("problem", {"id": number}, f"line {number} is not valid JSON.")
    if not isinstance(row, dict) or "prompt" not in row:
        return Item("problem", {"id": number}, f'line {number} is not an object with a "prompt".')
    return Item("prompt", {"id": row.get("id", number)}, row["prompt"])


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _picture(path: Path) -> Item:
    key = {"path": str(path)}
    try:
        return Item("picture", key, _pixels(path))
    except Exception as error:  # noqa: BLE001 - a damaged picture can fail in any way, and is reported
        return Item("problem", key, f"it cannot be read as a picture ({type(error).__name__}: {error}).")


def _pixels(path: Path) -> Image:
    from PIL import Image

    with warnings.catch_warnings():
        # A picture large enough to exhaust the memory.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            return image.convert("RGB")
