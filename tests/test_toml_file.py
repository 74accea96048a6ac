from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.errors import PolicyError
from safelight.storage.toml_file import TomlFile

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


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ('a = """\n[b]\n"""\n[b]\nc = 1', ("b", "c"), 5),
        ("a = [\n  { b = 1 },\n]\nb = 2", ("b",), 4),
        ("[[a]]\n[a.b]\nc = 1\n[[a]]\n[a.b]\nc = 2", ("a", 1, "b", "c"), 6),
        ('"a\\u0062" . c = 1\r\n\r\n"d\\"" = 2', ("ab", "c"), 1),
        ('"a" = 1\r\n\r\n"d\\"" = 2', ('d"',), 3),
        ("a = 'x' # [b]\n\n[ b ]\n'c.d' = 1", ("b", "c.d"), 4),
        ("[a.b]\nc = 1", ("a",), 1),
    ],
)
def test_lines_are_those_that_a_parser_would_see(
    tmp_path: Path, text: str, path: tuple[str | int, ...], line: int
) -> None:
    (tmp_path / "file.toml").write_bytes(text.encode())
    assert TomlFile(tmp_path / "file.toml", PolicyError).line_of(path) == line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n[a.b.c.d.e.f.g.h.i]", "line 2: a dotted key has more than 8 parts"),
        ("a = [[[[[[[[[1]]]]]]]]]", "line 1: lists and tables are nested more than 8 deep"),
        ("\n\na = " + "1" * 300, "line 3: a number or a bare key has more than 256 characters"),
        ("# é" + "é" * (1 << 17), "is larger than 256 KiB"),
    ],
)
def test_what_would_take_long_to_parse_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file.toml").write_text(text)
    with pytest.raises(PolicyError, match=message):
        TomlFile(tmp_path / "file.toml", PolicyError)


def test_what_only_looks_deep_is_read(tmp_path: Path) -> None:
    text = 'a = "[[[[[[[[[[[["\n[b.c.d.e.f.g.h]\ni = "1.2.3.4.5.6.7.8.9.10" # a.b.c.d.e.f.g.h.i.j\n'
    (tmp_path / "file.toml").write_text(text + "j = '" + "9" * 300 + "'\n")
    assert TomlFile(tmp_path / "file.toml", PolicyError).data["a"] == "[" * 12


values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(data=st.dictionaries(st.text(max_size=5), values, max_size=5))
def test_every_table_is_read_and_every_key_has_its_line(
    data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "file.toml"
    text = tomlkit.dumps(data)
    path.write_bytes(text.encode())
    file = TomlFile(path, PolicyError)
    assert file.data == tomllib.loads(text)
    for key in data:
        if key.isascii() and key.isidentifier():
            assert key in text.split("\n")[file.line_of((key,)) - 1]
