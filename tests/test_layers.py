"""Imports run one way: a module sees the layers above its own in this list, and its own package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import safelight

SOURCE = Path(safelight.__file__).parent

LAYERS = [
    {"types", "errors", "packaged_files", "private_file"},
    {"deadline"},
    {
        "protocols",
        "taxonomy",
        "toml_file",
        "request",
        "arguments",
        "outputs",
        "pictures",
        "blur",
        "placeholder",
        "onnx_session",
        "model_files",
        "noise_schedule",
        "patched",
        "hashing",
        "weights",
        "cores",
        "unique_keys",
        "answers",
        "filter_threads",
        "web_page",
    },
    {"model_source", "training", "image_inputs"},
    {"models"},
    {"policy", "registry", "inputs", "storybook"},
    {"clip", "isolation", "audit"},
    {"filter_set"},
    {"screening", "listed_filter", "filters", "alignment", "attacks", "request_log"},
    {"early_stop", "steering", "private_pipeline", "call_arguments", "negative_prompts"},
    {"turns"},
    {"drawing"},
    {"generation", "guarded_pipeline"},
    {"guard", "batch_queue"},
    {"async_guard"},
    {"evaluation", "server", "integrations"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
# Kinds of one family know nothing of each other either.
FAMILIES = ("filters", "alignment", "attacks")
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
            related = me[0] not in FAMILIES or len(me) < 3 or len(other) < 3 or me[1] == other[1]
            assert related, f"{'.'.join(me)} imports its sibling {'.'.join(other)}"
        elif LEVEL[me[0]] > 0:
            assert LEVEL[other[0]] < LEVEL[me[0]], f"{'.'.join(me)} imports {'.'.join(other)}"


def test_every_module_has_a_layer() -> None:
    assert {_module(path)[0] for path in MODULES} <= LEVEL.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: ".".join(_module(path)))
def test_no_file_is_a_drawer_for_odds_and_ends_or_too_long(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    assert len(path.read_text("utf-8").splitlines()) <= 500
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
