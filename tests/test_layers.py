"""Imports run one way, as ``docs/architecture.md`` draws: a module sees lower layers and its own package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import safelight

SOURCE = Path(safelight.__file__).parent

DRAWING = Path(__file__).parents[1] / "docs" / "architecture.md"


def _drawn() -> list[set[str]]:
    """The layers as the document draws them, the lowest first."""
    _, _, after = DRAWING.read_text("utf-8").partition("## Imports run one way")
    drawing = after.split("```")[1]
    return [{name.strip() for name in layer.split(",")} for layer in drawing.split("←")]


LAYERS = _drawn()
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
# Kinds of one family know nothing of each other either, but what all of them share.
FAMILIES = ("filters", "alignment", "attacks")
SHARED = ("delta", "method")
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def _module(path: Path) -> tuple[str, ...]:
    """("filters", "text", "lexicon")."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _imports(path: Path) -> Iterator[tuple[str, ...]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (_below(alias.name) for alias in node.names if alias.name.startswith("safelight."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            if node.module == "safelight":
                yield from ((alias.name,) for alias in node.names if alias.name in LEVEL)
            elif node.module and node.module.startswith("safelight."):
                yield _below(node.module)


def _below(dotted: str) -> tuple[str, ...]:
    return tuple(dotted.split(".")[1:])


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(_module(path)))
def test_imports_run_one_way(path: Path) -> None:
    me = _module(path)
    for other in _imports(path):
        if me[0] == other[0]:
            related = me[0] not in FAMILIES or len(me) < 3 or len(other) < 3
            related = related or other[1] in (me[1], *SHARED)
            assert related, f"{'.'.join(me)} imports its sibling {'.'.join(other)}"
        elif LEVEL[me[0]] > 0:
            assert LEVEL[other[0]] < LEVEL[me[0]], f"{'.'.join(me)} imports {'.'.join(other)}"


def test_the_drawing_has_every_folder_and_no_other() -> None:
    assert {_module(path)[0] for path in MODULES} == LEVEL.keys()
    assert sum(map(len, LAYERS)) == len(LEVEL), "a name is drawn twice"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(_module(path)))
def test_no_file_is_a_drawer_for_odds_and_ends_or_too_long(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    assert len(path.read_text("utf-8").splitlines()) <= 500
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert _length(node) < 60, node.name


def _length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of the body without its docstring; parameters of commands have long help texts."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
