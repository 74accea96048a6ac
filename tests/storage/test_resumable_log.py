"""Logs that a program was killed in the middle of go on from their last whole line."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.errors import RequestError
from safelight.storage.resumable_log import ResumableLog, keep_entries

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _entries(path: Path) -> list[Any]:
    with ResumableLog(path) as log:
        return list(log.entries())


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(JSON, max_size=6), st.integers(0, 10_000))
def test_cut_anywhere_it_has_its_whole_lines_and_goes_on(entries: list[Any], at: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        with ResumableLog(path) as log:
            log.append(*entries)
        data = path.read_bytes()
        cut = data[: at % (len(data) + 1)]
        path.write_bytes(cut)
        with ResumableLog(path) as log:
            assert list(log.entries()) == entries[: cut.count(b"\n")]
            log.append("new")
        assert _entries(path) == [*entries[: cut.count(b"\n")], "new"]


def test_an_incomplete_line_longer_than_what_is_read_at_once_is_removed(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"1\n" + b"2" * 200_000)
    assert _entries(tmp_path / "log") == [1]
    (tmp_path / "log").write_bytes(b"2" * 200_000)
    assert _entries(tmp_path / "log") == []


def test_a_damaged_line_is_an_error_or_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("1\n{\n3\n")
    with pytest.raises(RequestError, match=r"line 2 of .*log is not valid JSON"):
        _entries(path)
    with ResumableLog(path, valid=lambda entry: entry == 1) as log:
        assert list(log.entries()) == [1]
    assert path.read_text() == "1\n"


def test_entries_are_kept_all_at_once_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("1\n2\n3\n4")
    keep_entries(path, lambda entry: entry != 2, private=True)
    assert path.read_text() == "1\n3\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("1\n{\n")
    with pytest.raises(RequestError, match="line 2"):
        keep_entries(path, lambda _: True)
    assert path.read_text() == "1\n{\n"
    assert [each.name for each in tmp_path.iterdir()] == ["log"]


_WRITER = """
import sys
from pathlib import Path
from safelight.storage.resumable_log import ResumableLog

with ResumableLog(Path(sys.argv[1]), locked=True) as log:
    number = sum(1 for _ in log.entries())
    while True:
        log.append({"number": number, "text": "x" * 5000})
        number += 1
"""


def test_killed_again_and_again_it_misses_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for _ in range(5):
        before = path.stat().st_size if path.exists() else 0
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)]) as process:
            while not path.exists() or path.stat().st_size < before + 100_000:
                assert process.poll() is None
                time.sleep(0.005)
            process.kill()
    assert [entry["number"] for entry in _entries(path)] == list(range(len(_entries(path))))
    assert json.loads(path.read_text().splitlines()[-1])["number"] >= 50
