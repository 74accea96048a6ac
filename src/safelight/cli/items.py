"""Reading the arguments of ``safelight screen``: prompts, files, folders, patterns and standard input."""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from safelight.cli.image_files import image_item, is_image, is_image_name, items_in, items_matching
from safelight.cli.item import Item, Source
from safelight.cli.item_lines import JsonLines, check_text, count_lines, read_texts
from safelight.cli.item_tables import count_parquet, read_csv, read_parquet
from safelight.errors import RequestError
from safelight.images import SUFFIXES as IMAGE_SUFFIXES
from safelight.types import Stage

STANDARD_INPUT = "-"
_JSON_LINES = frozenset({".jsonl", ".ndjson"})
_PROMPT_SUFFIXES = _JSON_LINES | {".csv", ".json", ".parquet", ".txt"}
_FILE_ENDING = re.compile(r"\.[a-z][a-z0-9]{0,7}", re.IGNORECASE)
_BEGINNINGS = ("/", "./", "../", "~")
# The errors for names that no file has or can have.
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Items:
    """The items of all sources in order, read lazily."""

    sources: Sequence[Source]

    def __iter__(self) -> Iterator[Item]:
        return (item for source in self.sources for item in source)

    @property
    def total(self) -> int | None:
        """The number of items; None if some come from a stream."""
        known = [source.total for source in self.sources if source.total is not None]
        return sum(known) if len(known) == len(self.sources) else None


def read_items(
    arguments: Sequence[str], stdin: BinaryIO, stage: Stage | None = None, column: str = "prompt"
) -> Items:
    """Return the items of ``arguments`` in order; without arguments, those of the JSONL in ``stdin``.

    An argument may name a file or a folder, be a glob pattern of image files, or be "-" for the prompts on
    the lines of ``stdin``; any other is a prompt. With the stage "prompt", files contain prompts, and the
    name of a folder is a prompt; with "image", arguments are images, folders of images, or JSONL with their
    paths; with "pair", they are JSONL with a prompt and a path on each line. Paths in a file are relative to
    its folder. ``column`` is the column or key of the prompts in tables and JSONL.

    Raises ``RequestError`` for an argument that is empty, that looks like a path but does not exist, that
    cannot be read, or that contains no items.
    """
    reader = _Reader(stdin, stage, column)
    if arguments.count(STANDARD_INPUT) > 1:
        raise RequestError("standard input can be read only once; give - once.")
    sources = [reader.source(number, argument) for number, argument in enumerate(arguments, 1)]
    return Items(sources or [reader.json_lines()])


@dataclass(frozen=True, slots=True)
class _Reader:
    stdin: BinaryIO
    stage: Stage | None
    column: str

    def source(self, number: int, argument: str) -> Source:
        if not argument.strip():
            raise RequestError(f"item {number} is empty; give a prompt, a file or a folder.")
        if argument == STANDARD_INPUT:
            return self._standard_input()
        mode = _mode_of(argument)
        if mode is not None and not stat.S_ISDIR(mode):
            return self._in_file(Path(argument), mode)
        if self.stage == "pair":
            raise RequestError(
                f'there is no file {argument}; give JSONL with a "prompt" and a "path" on each line.'
            )
        if self.stage != "prompt" and mode is not None:
            return _listed(argument, items_in(Path(argument)))
        return self._named(number, argument)

    def _named(self, number: int, argument: str) -> Source:
        """Return the source for an argument that is not the name of an existing file."""
        if self.stage != "prompt" and self._is_pattern(argument):
            return _listed(argument, items_matching(argument))
        if self.stage == "image":
            raise RequestError(f"there is no file {argument}; give one that exists.")
        if self.stage == "prompt" and _ends_like_prompts(argument):
            raise RequestError(f"there is no file {argument}; give one that exists, or the prompt in a file.")
        if self.stage is None and _looks_like_path(argument):
            raise RequestError(
                f"there is no file {argument}; give one that exists, or add --stage prompt to a prompt."
            )
        return _listed(argument, [Item("prompt", {"item": number}, argument)])

    def _is_pattern(self, argument: str) -> bool:
        return glob.has_magic(argument) and (self.stage == "image" or is_image_name(Path(argument)))

    def _standard_input(self) -> Source:
        """Return standard input as a source; its format depends on the command, never on its content."""
        if self.stage in ("image", "pair"):
            return self.json_lines()
        name = STANDARD_INPUT
        return Source("standard input", lambda: read_texts(self.stdin, name, self.column))

    def json_lines(self) -> Source:
        lines = JsonLines(STANDARD_INPUT, Path(), self.stage, self.column)
        return Source("standard input", lambda: lines.read(self.stdin))

    def _in_file(self, path: Path, mode: int) -> Source:
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
            raise RequestError(f"{path} is a device or a socket; give a file, a folder or a pipe.")
        try:
            return self._opened(path, stat.S_ISREG(mode))
        except OSError as error:
            raise RequestError(f"{path} cannot be read: {error.strerror or error}.") from error

    def _opened(self, path: Path, counted: bool) -> Source:
        """Return the source of a file; ``counted`` is whether to count its items, which drains a pipe."""
        suffix = path.suffix.lower()
        json_lines = suffix in _JSON_LINES or self.stage == "pair"
        if self.stage == "image" and not json_lines:
            return _listed(str(path), [image_item(path)])
        if is_image(path) if counted else is_image_name(path):
            return self._image(path)
        if json_lines:
            lines = JsonLines(str(path), path.parent, self.stage, self.column)
            return _lines(path, lines.read, counted)
        return self._prompts(path, suffix, counted)

    def _image(self, path: Path) -> Source:
        if self.stage is not None:
            raise RequestError(f"{path} is an image; leave --stage out to screen it.")
        return _listed(str(path), [image_item(path)])

    def _prompts(self, path: Path, suffix: str, counted: bool) -> Source:
        if suffix == ".json":
            raise RequestError(f"{path} is JSON; give JSONL: one object a line, in a .jsonl file.")
        if suffix == ".csv":
            if counted:
                check_text(path)
            rows = partial(read_csv, path, self.column)
            return _source(path, rows, sum(1 for _ in rows()) if counted else None)
        if suffix == ".parquet":
            rows = partial(read_parquet, path, self.column)
            return _source(path, rows, count_parquet(path, self.column))
        return _lines(path, lambda file: read_texts(file, str(path), self.column), counted)


def _listed(name: str, items: list[Item]) -> Source:
    return Source(name, lambda: items, len(items))


def _lines(path: Path, read: Callable[[BinaryIO], Iterator[Item]], counted: bool) -> Source:
    def items() -> Iterator[Item]:
        with path.open("rb") as file:
            yield from read(file)

    return _source(path, items, count_lines(path) if counted else None)


def _source(path: Path, read: Callable[[], Iterator[Item]], total: int | None) -> Source:
    if total == 0:
        raise RequestError(f"there is nothing in {path}; give a file that is not empty.")
    return Source(str(path), read, total)


def _mode_of(argument: str) -> int | None:
    """Return the mode of the file of this name, or None if there is none.

    Raises ``RequestError`` if that cannot be found out.
    """
    try:
        return os.stat(argument).st_mode  # noqa: PTH116 - a prompt is not a path
    except ValueError:
        return None
    except OSError as error:
        if error.errno not in _NOTHING_THERE:
            raise RequestError(f"{argument} cannot be read: {error.strerror}.") from error
    if os.path.islink(argument):  # noqa: PTH114
        raise RequestError(f"{argument} is a broken link; give a file that exists.")
    return None


def _looks_like_path(argument: str) -> bool:
    """Return whether an argument that is not the name of a file looks like a path.

    A prompt mistaken for a path is reported as an error; a file mistaken for a prompt would not be screened.
    """
    path = Path(argument)
    if argument.startswith(_BEGINNINGS) or argument.endswith("/"):
        return True
    if path.suffix.lower() in IMAGE_SUFFIXES or _ends_like_prompts(argument):
        return True
    if path.parent != Path() and _is_there(path.parent):
        return True
    one_word = not re.search(r"\s", argument)
    return one_word and bool("/" in argument or "*" in argument or _FILE_ENDING.fullmatch(path.suffix))


def _ends_like_prompts(argument: str) -> bool:
    return Path(argument).suffix.lower() in _PROMPT_SUFFIXES


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except (OSError, ValueError):
        return False
