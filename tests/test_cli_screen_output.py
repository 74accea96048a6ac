"""The output of ``safelight screen``: closed pipes, full disks, progress and messages."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import safelight
from safelight.cli import app, terminal
from safelight.cli.item import Item
from safelight.cli.items import read_items


def _screen(*arguments: str, stdin: str | bytes | None = None) -> Result:
    own = ["screen", "--policy", "storybook", *arguments]
    return CliRunner().invoke(app, own, input=stdin, catch_exceptions=False)


def _records(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def _image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "white").save(path, "png")
    return path


def test_an_output_that_is_no_file_or_an_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a gun\n")
    assert (
        "is one of the items" in _screen(str(tmp_path / "a.txt"), "--output", str(tmp_path / "a.txt")).stderr
    )
    assert (tmp_path / "a.txt").read_text() == "a gun\n"
    for out in ("/dev/full", str(tmp_path), str(tmp_path / "a.txt" / "out.jsonl")):
        done = _screen("a gun", "--output", out)
        assert done.exit_code == 2
        assert "give another --out" in done.stderr
        assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]


def test_a_disk_that_is_full_exits_with_2(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        done = _screen("a dog", "a gun", "--output", str(tmp_path / "out.jsonl"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
    assert _screen("a dog", "a gun", "--output", str(tmp_path / "out.jsonl")).exit_code == 0


def test_a_run_that_is_stopped_does_not_exit_with_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("safelight.cli.screening_log.ScreeningLog.add", stop)
    assert _screen("a dog", "--output", str(out)).exit_code not in (0, 3)
    monkeypatch.setattr(terminal, "print_json", stop)
    assert _screen("a dog").exit_code not in (0, 3)


def _program(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the real program in a shell."""
    environment = {**os.environ, "PYTHONPATH": str(Path(safelight.__file__).parents[1])}
    own = f"{sys.executable} -m safelight screen --policy storybook"
    script = f"set -o pipefail; {command.replace('SCREEN', own)}"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, cwd=folder, env=environment
    )


def _said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines on standard error, without progress lines of a slow machine."""
    return [line for line in done.stderr.splitlines() if not line.startswith("Screening: ")]


def test_an_output_that_is_closed_or_full_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a dog\n" * 1000)
    closed = _program("SCREEN a.txt | head -1", tmp_path)
    assert closed.returncode == 2
    assert (
        closed.stderr == "Error: standard output cannot be written: Broken pipe; the output is incomplete.\n"
    )
    full = _program("SCREEN 'a dog' > /dev/full", tmp_path)
    assert full.returncode == 2
    assert "standard output cannot be written: No space left" in full.stderr
    none = _program("SCREEN 'a dog' >&-", tmp_path)
    assert none.returncode == 2
    assert "standard output is closed" in none.stderr


def test_the_program_prints_its_results_only(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    done = _program("printf 'a gun' | SCREEN - a.png --fail-on block", tmp_path)
    assert (done.returncode, _said(done)) == (3, [])
    assert [json.loads(line)["action"] for line in done.stdout.splitlines()] == ["block", "allow"]
    closed = _program("SCREEN - <&-", tmp_path)
    assert closed.returncode == 2
    assert "nothing to screen in standard input" in closed.stderr


def test_warnings_of_libraries_are_shown_on_request_only(tmp_path: Path) -> None:
    code = (
        "import warnings; from safelight.cli.pipeline import quiet_libraries as q; q(); warnings.warn('old')"
    )
    assert _program(f'{sys.executable} -c "{code}"', tmp_path).stderr == ""
    assert "old" in _program(f'{sys.executable} -W default -c "{code}"', tmp_path).stderr


@pytest.mark.slow
def test_generating_says_nothing_on_standard_error(tmp_path: Path, model_folder: Path) -> None:
    """Not even diffusers' warning about a missing safety checker is shown, as the guard replaces it."""
    (tmp_path / "model").symlink_to(model_folder)
    arguments = (
        "--model ./model --num-inference-steps 2 --policy storybook --without-image-filter --output out"
    )
    done = _program(f"{sys.executable} -m safelight generate 'a gun' {arguments}", tmp_path)
    assert (done.returncode, done.stderr) == (3, "no image filter screened the images.\n")


def test_totals_are_known_before_anything_is_screened(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    (tmp_path / "a.txt").write_text("a dog\n\na cat")
    (tmp_path / "a.jsonl").write_text('{"prompt": "a dog"}\n{oops\n')
    (tmp_path / "a.csv").write_text('prompt\n"a dog\nand a cat"\n\na bird\n')
    parquet.write_table(table({"prompt": ["a dog"] * 7}), tmp_path / "a.parquet")
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    items = read_items([*files, "a dog"], io.BytesIO())
    assert [source.total for source in items.sources] == [2, 2, 7, 2, 1]
    assert items.total == len(list(items)) == 14
    assert read_items(["-", *files], io.BytesIO(b"a dog")).total is None


def test_progress_is_a_bar_with_totals_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = _screen("a dog", "a cat")
    assert "2/2" in done.stderr
    assert "━" in done.stderr


def test_progress_is_lines_elsewhere_and_only_if_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_PROGRESS_INTERVAL_S", float("inf"))
    assert _screen("a dog", "a cat").stderr == ""
    monkeypatch.setattr(terminal, "_PROGRESS_INTERVAL_S", 0.0)
    done = _screen("a dog", "a cat", "a bird")
    assert done.stderr == "Screening: 1 of 3\nScreening: 2 of 3\n"
    assert len(_records(done)) == 3
    assert _screen("-", stdin="a dog\na cat").stderr == "Screening: 1\nScreening: 2\n"


def test_control_characters_in_names_are_escaped() -> None:
    assert Item("prompt", {"item": 1}, "é \x1b[2J\ud800").name == "é \\x1b[2J\\ud800"
