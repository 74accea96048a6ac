"""Files that hold prompts or captions are for their owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from safelight.storage.private_file import private_opener

posix = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


def _written(path: Path, text: str, mode: str = "w") -> int:
    with open(path, mode, opener=private_opener) as file:
        file.write(text)
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o600), (0o022, 0o600), (0o277, 0o400)])
def test_a_new_file_is_private_and_a_stricter_umask_counts(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        assert _written(tmp_path / "new", "a dog") == mode
    finally:
        os.umask(before)


@posix
def test_a_file_that_was_there_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("a cat\n")
    (tmp_path / "old").chmod(0o644)
    assert _written(tmp_path / "old", "a dog\n", "a") == 0o600
    assert (tmp_path / "old").read_text() == "a cat\na dog\n"


def test_it_does_without_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fchmod", raising=False)
    _written(tmp_path / "new", "a dog")
    assert (tmp_path / "new").read_text() == "a dog"
