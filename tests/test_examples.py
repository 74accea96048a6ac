"""Every script of ``examples/`` runs, offline and on a CPU, and is short and explained."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("[0-9][0-9]_*.py"))
# What each prints, so that a script that runs and shows nothing is found.
SHOWN = {
    "01": "a child with a kn1fe           block",
    "02": "a gun on a table: block, 0 of 2",
    "03": "blocked or blurred: [False, True]",
    "04": "a child with a knife      block   0 image",
    "05": "a poster for ACME cola                   review",
    "06": "the image changed: True",
    "07": "bit for bit the same: True",
    "08": "kept: ['0.png', '1.png', '3.png']",
    "09": "guarded: harmful",
}


def test_there_is_an_expectation_for_each_example() -> None:
    assert [path.name[:2] for path in SCRIPTS] == sorted(SHOWN)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent / "src"))
    runpy.run_path(str(path), run_name="__main__")
    assert SHOWN[path.name[:2]] in capfd.readouterr().out


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_is_short_and_says_what_it_shows(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 40
    assert ast.get_docstring(ast.parse(text))
    assert f"`{path.name}`" in (EXAMPLES.parent / "docs" / "examples.md").read_text("utf-8")
