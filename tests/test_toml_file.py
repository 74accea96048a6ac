from __future__ import annotations

from pathlib import Path

import pytest

from safelight.errors import PolicyError
from safelight.toml_file import TomlFile

TEXT = """\
name = "x"  # a = 1

[a."b.c"]
d = { e = 1, f = 2 }
g.h = 3

[[list]]
i = 1
[[list]]
i = [
    2,
]
"""


@pytest.fixture
def file(tmp_path: Path) -> TomlFile:
    path = tmp_path / "file.toml"
    path.write_text(TEXT)
    return TomlFile(path, PolicyError)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 1),
        (("a", "b.c"), 3),
        (("a", "b.c", "d"), 4),
        (("a", "b.c", "d", "f"), 4),
        (("a", "b.c", "g", "h"), 5),
        (("list", 0, "i"), 8),
        (("list", 1), 9),
        (("list", 1, "i", 0), 10),
        (("nowhere",), 1),
    ],
)
def test_every_key_knows_its_line(file: TomlFile, path: tuple[str | int, ...], line: int) -> None:
    assert file.line_of(path) == line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = \nb = 1", "not valid TOML.*line 1"),
        (b"a = 1\na = 2\nb = 3", "line 2"),
        (b"\xff\xfe", "cannot be read as a text"),
    ],
)
def test_what_is_not_toml_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(PolicyError, match=message):
        TomlFile(path, PolicyError)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="there is no file"):
        TomlFile(tmp_path / "none.toml", PolicyError)
    with pytest.raises(PolicyError, match="cannot be read"):
        TomlFile(tmp_path, PolicyError)
