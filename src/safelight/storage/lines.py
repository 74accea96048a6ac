"""Lines of text files, one at a time, so that files of any size fit into memory."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterator
from itertools import count
from typing import Any, BinaryIO

from safelight.storage.unique_keys import DuplicateKeyError, unique_keys

# Longer lines are not read into memory.
LONGEST_LINE = 1 << 24
BLANK = " \t\r\n"


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines that are not blank, with their numbers; None for a line that is too long.

    A byte order mark in front of the first line is left out.
    """
    for number in count(1):
        line = file.readline(LONGEST_LINE)
        if not line:
            return
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            yield number, None
            _skip_line(file)
            continue
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip(BLANK.encode()):
            yield number, line


def too_long(number: int) -> str:
    """Return the sentence about a line that is too long."""
    return f"line {number} is longer than {LONGEST_LINE:,} bytes."


def parse_json(line: bytes) -> Any:
    """Return what a line of JSON holds.

    Raises ``ValueError``, in words that follow "line 3", for what is not JSON, and for what other programs
    may read differently: NaN, infinity, the same key twice.
    """
    try:
        return json.loads(
            line.decode("utf-8"), parse_constant=_number, parse_float=_number, object_pairs_hook=unique_keys
        )
    except DuplicateKeyError as error:
        raise ValueError("has an object with the same key twice.") from error
    except (ValueError, RecursionError) as error:
        raise ValueError("is not valid JSON.") from error


def _skip_line(file: BinaryIO) -> None:
    while (more := file.readline(LONGEST_LINE)) and not more.endswith(b"\n"):
        pass


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
