"""Write the generated blocks of the reference pages: ``make reference``.

A block stands between ``<!-- begin NAME -->`` and ``<!-- end NAME -->``; the text around it is written by
hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import command_blocks
import policy_blocks

PAGES = Path(__file__).parents[1] / "reference"
_BLOCK = re.compile(r"(<!-- begin ([\w-]+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)


def blocks() -> dict[str, str]:
    """Return the Markdown of every generated block by its name."""
    return {**command_blocks.blocks(), **policy_blocks.blocks()}


def filled(page: str, generated: Mapping[str, str]) -> str:
    """Return a page with its blocks as they are generated now."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{generated[match[2]].strip()}\n\n{match[3]}", page)


def names_in(page: str) -> list[str]:
    """Return the names of the blocks of a page, in order."""
    return [match[2] for match in _BLOCK.finditer(page)]


def main() -> None:
    generated = blocks()
    for path in sorted(PAGES.glob("*.md")):
        page = path.read_text("utf-8")
        path.write_text(filled(page, generated), "utf-8")


if __name__ == "__main__":
    main()
