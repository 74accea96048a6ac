"""Items from lines of text: one prompt per line, or JSONL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from safelight.cli.item import Item, key_of
from safelight.errors import RequestError
from safelight.storage.lines import BLANK, numbered_lines, parse_json, too_long
from safelight.types import Stage


def count_lines(path: Path) -> int:
    """Return the number of lines that are not blank. Raises ``RequestError`` for a file that is not text."""
    check_text(path)
    with path.open("rb") as file:
        return sum(1 for _ in numbered_lines(file))


def check_text(path: Path) -> None:
    """Raise ``RequestError`` for a file that is not UTF-8 text, such as a compressed file or an image."""
    with path.open("rb") as file:
        if b"\0" in file.read(4096):
            raise RequestError(
                f"{path} is not UTF-8 text; decompress or convert it, or use --stage image for an image."
            )


def read_texts(file: BinaryIO, name: str, column: str) -> Iterator[Item]:
    """Yield one prompt per line; a line of JSON is a problem, as its prompt would not be recognized."""
    for number, line in numbered_lines(file):
        yield _text(line, number, {"file": name, "line": number}, column)


def _text(line: bytes | None, number: int, key: dict[str, Any], column: str) -> Item:
    if line is None:
        return Item("problem", key, too_long(number))
    try:
        prompt = line.decode("utf-8").strip(BLANK)
    except UnicodeDecodeError:
        return Item("problem", key, f"line {number} is not UTF-8 text.")
    if _is_row(prompt, column):
        sentence = f"line {number} is JSON; give JSONL as a .jsonl file, or on standard input without items."
        return Item("problem", key, sentence)
    return Item("prompt", key, prompt)


def _is_row(prompt: str, column: str) -> bool:
    try:
        row = json.loads(prompt) if prompt.startswith("{") else None
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and column in row


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A reader of JSONL, one object per line.

    Paths are relative to ``folder``, and ``column`` is the key of the prompts.
    """

    name: str
    folder: Path
    stage: Stage | None
    column: str

    def read(self, file: BinaryIO) -> Iterator[Item]:
        """Yield one item per line; an invalid line is a problem and does not affect the others."""
        for number, line in numbered_lines(file):
            yield self._item(line, number)

    def _item(self, line: bytes | None, number: int) -> Item:
        place = {"line": number}
        nameless = key_of(None, self.name, place)
        if line is None:
            return Item("problem", nameless, too_long(number))
        try:
            row = parse_json(line)
        except ValueError as error:
            return Item("problem", nameless, f"line {number} {error}")
        row_id = row.get("id") if isinstance(row, dict) else None
        if isinstance(row_id, dict | list):
            return Item("problem", nameless, f'the "id" on line {number} is neither text nor a number.')
        return self._row(row, number, key_of(row_id, self.name, place))

    def _row(self, row: Any, number: int, key: dict[str, Any]) -> Item:
        needed = {"image": ("path",), "pair": (self.column, "path")}.get(self.stage or "", (self.column,))
        if not isinstance(row, dict) or not all(name in row for name in needed):
            wanted = " and a ".join(f'"{name}"' for name in needed)
            return Item("problem", key, f"line {number} is not an object with a {wanted}.")
        if self.stage not in ("image", "pair"):
            return Item("prompt", key, row[self.column])
        if not isinstance(row["path"], str):
            return Item("problem", key, f'the "path" on line {number} is not text.')
        path = self.folder / row["path"]
        named = {**({"id": key["id"]} if "id" in key else {}), "path": str(path)}
        if self.stage == "image":
            return Item("image", named, path)
        return Item("pair", named, (row[self.column], path))
