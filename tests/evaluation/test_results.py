from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

import safelight
from safelight.evaluation import results
from safelight.evaluation.rates import Rate
from safelight.evaluation.tables import Row


def test_results_hold_all_that_repeats_them(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    tables = {"objects": [Row("single", Rate(0, 10))]}
    given = results.write_results(path, "safelight evaluate model", {"seeds": [3]}, tables, {"ms": None})
    assert json.loads(path.read_text("utf-8")) == given
    assert given["command"] == "safelight evaluate model"
    assert given["run"] == {"seeds": [3]}
    assert given["tables"]["objects"] == [
        {"group": "single", "n": 10, "k": 0, "rate": 0.0, "low": 0.0, "high": 0.27754}
    ]
    assert {"cpu", "cores", "system", "python", "numpy"} <= given["machine"].keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", given["date"])


def test_results_name_neither_host_nor_folders() -> None:
    said = json.dumps([results.machine(), results.commit()])
    assert socket.gethostname() not in said
    assert str(Path.home()) not in said
    assert str(Path(safelight.__file__).parent) not in said


def test_the_commit_is_that_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    monkeypatch.setattr(results, "_PACKAGE", tmp_path)
    assert results.commit() == f"safelight {safelight.__version__}"
    git("init")
    (tmp_path / "__init__.py").write_text("")
    # A package that merely lies in somebody's repository is not of that repository.
    assert results.commit() == f"safelight {safelight.__version__}"
    git("add", ".")
    git("commit", "-m", "first")
    assert re.fullmatch(r"[0-9a-f]{40}", results.commit())
    (tmp_path / "__init__.py").write_text("changed")
    assert results.commit().endswith("-dirty")
