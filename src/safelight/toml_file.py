"""A TOML file that knows on which line each key stands, so that errors can name it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from safelight.errors import SafelightError
from safelight.packaged_files import read_text

_HEADER = re.compile(r"\s*(\[\[?)(.+?)\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w.-]|"[^"]*"|'[^']*')+)\s*=""")

KeyPath = tuple[str | int, ...]


class TomlFile:
    """``data`` is the parsed file; raises ``error`` if it cannot be read or is not TOML."""

    def __init__(self, path: Path, error: type[SafelightError]) -> None:
        self.path = path
        try:
            self.text = read_text(path, error)
            self.data: dict[str, Any] = tomllib.loads(self.text)
        except FileNotFoundError:
            raise error(f"there is no file {path}; give a file that exists.") from None
        except (OSError, UnicodeDecodeError) as problem:
            raise error(f"{path} cannot be read as a text file: {problem}.") from problem
        except tomllib.TOMLDecodeError as problem:
            raise error(f"{path} is not valid TOML: {problem}; correct it there.") from problem

    def line_of(self, wanted: KeyPath) -> int:
        """The line (from 1) of the key at ``wanted``, or of the innermost table around it."""
        best, line = 0, 1
        for number, path in self._keys():
            depth = len(path)
            if depth > best and path == wanted[:depth]:
                best, line = depth, number
        return line

    def _keys(self) -> list[tuple[int, KeyPath]]:
        table: KeyPath = ()
        arrays: dict[KeyPath, int] = {}
        keys: list[tuple[int, KeyPath]] = []
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := _HEADER.match(line):
                table = _split(header[2])
                if header[1] == "[[":
                    arrays[table] = arrays.get(table, -1) + 1
                    table = (*table, arrays[table])
                keys.append((number, table))
            elif key := _KEY.match(line):
                keys.append((number, table + _split(key[1])))
        return keys


def _split(dotted: str) -> KeyPath:
    """``a."b.c"`` → ("a", "b.c")."""
    try:
        table: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path: KeyPath = ()
    while isinstance(table, dict):
        ((key, table),) = table.items()
        path = (*path, key)
    return path
