"""What ``safelight screen`` is given: prompts and pictures, from arguments, files, folders and JSONL."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from safelight.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image

PICTURE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_SUFFIXES = PICTURE_SUFFIXES | {".jsonl", ".txt"}


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


def read_items(arguments: Sequence[str], stdin: BinaryIO) -> Iterator[Item]:
    """The items of ``arguments`` in order; without any, those of the JSONL in ``stdin``.

    An argument that names a file or folder is that; any other is a prompt, known by its number. Raises
    ``RequestError`` for what looks like a file and is not there, and for a folder without pictures.
    """
    sources = [_source(number, argument) for number, argument in enumerate(arguments, 1)]
    if not sources:
        sources = [_jsonl(stdin)]
    return (item for source in sources for item in source)


def _source(number: int, argument: str) -> Iterable[Item]:
    path = Path(argument)
    if _is(path.is_dir):
        return map(_picture, _pictures_in(path))
    if _is(path.is_file):
        return _in_file(path)
    if path.suffix.lower() in _SUFFIXES and " " not in argument:
        raise RequestError(f"there is no file {argument}; give one that exists.")
    return [Item("prompt", {"id": number}, argument)]


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


def _in_file(path: Path) -> Iterator[Item]:
    if path.suffix.lower() in PICTURE_SUFFIXES:
        yield _picture(path)
        return
    try:
        with path.open("rb") as file:
            yield from _jsonl(file) if path.suffix.lower() == ".jsonl" else _lines(path, file)
    except OSError as error:
        yield Item("problem", {"path": str(path)}, f"it cannot be read: {error.strerror}.")


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
        return Item("picture", key, _opened(path))
    except Exception as error:  # noqa: BLE001 - a damaged picture can fail in any way, and is reported
        return Item("problem", key, f"it cannot be read as a picture ({type(error).__name__}: {error}).")


def _opened(path: Path) -> Image:
    from PIL import Image

    with warnings.catch_warnings():
        # A picture large enough to exhaust the memory.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            return image.convert("RGB")
