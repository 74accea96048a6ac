"""``safelight screen`` never exits with 0 if it could not read something."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from safelight.cli import app
from safelight.cli.item import Item
from safelight.cli.items import read_items
from safelight.errors import RequestError
from safelight.types import Stage

BOM = b"\xef\xbb\xbf"


def _screen(*arguments: str, stdin: str | bytes | None = None) -> Result:
    own = ["screen", "--policy", "storybook", *arguments]
    return CliRunner().invoke(app, own, input=stdin, catch_exceptions=False)


def _records(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def _refusal(*arguments: str, stage: Stage | None = None, stdin: bytes = b"") -> str:
    with pytest.raises(RequestError) as caught:
        list(read_items(arguments, io.BytesIO(stdin), stage))
    return str(caught.value)


def _read(*arguments: str | Path, stdin: bytes = b"", stage: Stage | None = None) -> list[Item]:
    return list(read_items([str(argument) for argument in arguments], io.BytesIO(stdin), stage))


def _prompts(items: list[Item]) -> list[Any]:
    return [item.value if item.kind == "prompt" else None for item in items]


def _image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "white").save(path, "png")
    return path


# Standard input


def test_a_dash_reads_the_prompts_on_standard_input() -> None:
    done = _screen("-", stdin="a gun")
    assert [record["action"] for record in _records(done)] == ["block"]
    assert _screen("-", "--fail-on", "block", stdin="a gun").exit_code == 3


def test_bytes_that_other_programs_leave_on_lines_do_not_hide_any() -> None:
    items = _read("-", stdin=BOM + b"a gun\r\n\r\n \t\na dog\r\n\xffa cat\na\x00b\n  a bomb")
    assert _prompts(items) == ["a gun", "a dog", None, "a\0b", "a bomb"]
    assert [item.key["line"] for item in items] == [1, 4, 5, 6, 7]
    done = _screen("-", stdin=b"a dog\na\x00gun\n")
    assert done.exit_code == 2
    assert [record["action"] for record in _records(done)] == ["allow", "block"]


@pytest.mark.parametrize("stdin", [b"", b"\n \r\n\t", BOM])
@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_standard_input_without_anything_is_an_error(arguments: tuple[str, ...], stdin: bytes) -> None:
    assert "there is nothing to screen in standard input" in _refusal(*arguments, stdin=stdin)


def test_content_does_not_decide_how_standard_input_is_read() -> None:
    """A line that looks like JSON must be screened as a whole, not by one of its values."""
    sly = b'{"prompt": "a dog", "more": "a gun"}\n{red|blue} fox\n{"scene": "a gun"}\n'
    first, *others = _read("-", stdin=sly)
    assert first.kind == "problem"
    assert "line 1 is JSON; give JSONL as a .jsonl file" in first.value
    assert _prompts(others) == ["{red|blue} fox", '{"scene": "a gun"}']
    assert _prompts(_read(stdin=sly))[0] == "a dog"


def test_a_dash_stands_beside_other_items_once() -> None:
    assert _prompts(_read("a cat", "-", stdin=b"a dog\n")) == ["a cat", "a dog"]
    assert "read only once" in _refusal("-", "-")
    (item,) = _read("-", stdin=b'{"path": "a.png"}', stage="image")
    assert (item.kind, item.value) == ("image", Path("a.png"))


def test_a_line_that_is_too_long_is_reported_and_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("safelight.storage.lines.LONGEST_LINE", 16)
    (tmp_path / "a.txt").write_bytes(b" " * 40 + b"a gun\na dog\n" + b"x" * 16)
    items = _read(tmp_path / "a.txt")
    assert _prompts(items) == [None, "a dog", None]
    assert "line 1 is longer than 16 bytes" in items[0].value


# Kinds of arguments


@pytest.mark.parametrize(
    "argument",
    [
        "nosuchfolder/",
        "no such folder/",
        "./nothere",
        "../nothere",
        "/nothere at all",
        "~/images",
        "images/nothere",
        "there/not here",
        "nothere.png",
        "my holiday.JPG",
        "my prompts.csv",
        "nothere.heic",
        "nothere.md",
        "nothere*",
        "https://example.com/a.png",
    ],
)
def test_an_item_that_looks_like_a_missing_path_is_an_error(
    argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    sentence = _refusal("a dog", argument)
    assert f"there is no file {argument}" in sentence
    assert "--stage prompt" in sentence


@pytest.mark.parametrize(
    "prompt", ["a man/woman", "[cat|dog]", "(gun:1.2)", "really?", "2.5D", "a.m. light", "a dog.png here"]
)
def test_prompts_are_still_prompts(prompt: str) -> None:
    assert _prompts(_read(prompt)) == [prompt]


def test_the_stage_prompt_makes_a_prompt_of_anything() -> None:
    assert _prompts(_read("nosuchfolder/", "cat/dog", "a*", stage="prompt")) == [
        "nosuchfolder/",
        "cat/dog",
        "a*",
    ]


@pytest.mark.parametrize("argument", ["", " ", "\n\t"])
@pytest.mark.parametrize("stage", [None, "prompt", "image"])
def test_an_empty_item_is_refused(argument: str, stage: Stage | None) -> None:
    assert "item 1 is empty" in _refusal(argument, "a dog", stage=stage)


def test_devices_and_broken_links_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken").symlink_to("gone")
    Path("loop").symlink_to("loop")
    assert "a broken link" in _refusal("broken")
    assert "symbolic links" in _refusal("loop")
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind("socket")
        assert "a device or a socket" in _refusal("socket")
    assert "a device or a socket" in _refusal("/dev/zero", stage="image")


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # so that writing does not wait
    with pipe.open("wb") as file:
        file.write(b"a gun\n")
        file.flush()
        items = read_items([str(pipe)], io.BytesIO())
        assert items.total is None
        iterator = iter(items)
        assert next(iterator).value == "a gun"
    assert list(iterator) == []
    os.close(reading)


# Files


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", b"", "there is nothing in"),
        ("a.txt", b"\n \r\n", "there is nothing in"),
        ("a.jsonl", b"\n", "there is nothing in"),
        ("a.csv", b"id,prompt\n\n", "there is nothing in"),
        ("a.txt", "a gun".encode("utf-16"), "is not UTF-8 text"),
        ("a.csv", "prompt\na gun".encode("utf-16"), "is not UTF-8 text"),
        ("a.txt.gz", b"\x1f\x8b\x08\x00\x00\x00", "is not UTF-8 text"),
        ("a.json", b'[{"prompt": "a gun"}]', "give JSONL"),
        ("a.csv", b"prompt,prompt\na gun,a dog\n", "two columns of the same name"),
    ],
)
def test_a_file_that_is_read_as_nothing_or_wrongly_is_an_error(
    name: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert sentence in _refusal("a dog", str(tmp_path / name))


def test_ragged_rows_are_reported(tmp_path: Path) -> None:
    """Without quotes, the text after a comma would be in no column."""
    (tmp_path / "a.csv").write_text("prompt,id\na dog, a gun,1\na cat,2\na bird\n")
    items = _read(tmp_path / "a.csv")
    assert _prompts(items) == [None, "a cat", None]
    assert items[0].value == "row 1 has 3 cells instead of 2; put quotes around commas."
    assert [dict(item.key) for item in items] == [
        {"file": str(tmp_path / "a.csv"), "row": 1},
        {"id": "2", "file": str(tmp_path / "a.csv")},
        {"file": str(tmp_path / "a.csv"), "row": 3},
    ]


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"prompt": "a gun", "prompt": "a dog"}', "the same key twice"),
        ('{"id": 1, "prompt": "a dog", "more": {"a": 1, "a": 2}}', "the same key twice"),
        ('{"id": 1e999, "prompt": "a dog"}', "not valid JSON"),
        ('{"id": -Infinity, "prompt": "a dog"}', "not valid JSON"),
        ('{"id": %s, "prompt": "a dog"}' % ("9" * 5000), "not valid JSON"),
        ('{"id": {"a": 1}, "prompt": "a dog"}', 'the "id" on line 1 is neither text nor a number'),
        ('["a gun"]', 'not an object with a "prompt"'),
        ("a gun", "not valid JSON"),
    ],
)
def test_ambiguous_json_is_reported(line: str, sentence: str) -> None:
    (item,) = _read(stdin=line.encode())
    assert item.kind == "problem"
    assert sentence in item.value


@pytest.mark.parametrize("prompt", [None, 3, True, ["a gun"], {"text": "a gun"}, "", " "])
def test_a_prompt_that_is_not_text_exits_with_2(prompt: object) -> None:
    done = _screen("--json", stdin=json.dumps({"prompt": prompt}) + '\n{"prompt": "a dog"}\n')
    assert done.exit_code == 2
    first, second = _records(done)
    assert "prompt" in first["error"]
    assert (first["action"], second["action"]) == ("block", "allow")


def test_parquet_columns_that_are_not_text_are_reported(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    columns = {"prompt": [1, None], "a.b": [b"a gun", b"\xff"], "id": [float("nan"), 2.5]}
    parquet.write_table(table(columns), tmp_path / "a.parquet")
    done = _screen(str(tmp_path / "a.parquet"), "--json")
    assert done.exit_code == 2
    assert [(record["id"], record["action"]) for record in _records(done)] == [
        ("nan", "block"),
        (2.5, "block"),
    ]
    done = _screen(str(tmp_path / "a.parquet"), "--json", "--column", "a.b")
    assert done.exit_code == 2
    assert ["a prompt is text, not bytes" in record["error"] for record in _records(done)] == [True, True]


def test_a_file_that_shrinks_or_disappears_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a gun\n" * 5)
    items = read_items([str(path)], io.BytesIO())
    assert items.total == 5
    path.write_text("a dog\n")
    assert list(items)[-1].value == "only 1 of its 5 items were left when it was read."
    path.unlink()
    (gone,) = items
    assert (gone.kind, gone.value) == ("problem", "it cannot be read: No such file or directory.")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.binary(max_size=12), max_size=6), st.sampled_from([b"\n", b"\r\n"]))
def test_every_line_with_something_on_it_is_an_item(lines: list[bytes], end: bytes) -> None:
    content = end.join(lines)
    full = [line for line in content.removeprefix(BOM).split(b"\n") if line.strip(b" \t\r\n")]
    try:
        found = len(_read("-", stdin=content))
    except RequestError:
        found = 0
    assert found == len(full)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from([".txt", ".csv", ".jsonl", ".parquet", ".png", ".json", ""]),
    st.lists(
        st.sampled_from([b"prompt", b"a gun", b'"', b",", b"\n", b"\0", b"\xff", b"{", b"}", b":", BOM])
    ),
)
def test_a_file_of_anything_has_items_or_is_an_error(suffix: str, pieces: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"file{suffix}")
        path.write_bytes(b"".join(pieces))
        with contextlib.suppress(RequestError):
            assert _read(path)


# Folders


def test_folders_report_everything_that_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, outside = tmp_path / "images", tmp_path / "outside"
    for path in ("a.png", "photo.dat", ".hidden.png", ".hidden/b.png"):
        _image(folder / path)
    _image(outside / "c.png")
    for name, target in (("gone.png", "nowhere"), ("other", outside), ("self", folder), ("file.txt", "none")):
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe")
    (folder / "d.heic").write_bytes(b"")
    (folder / "notes.md").write_text("a gun")
    found = {str(Path(item.key["path"]).relative_to(folder)): item for item in _read(folder)}
    assert {name for name, item in found.items() if item.kind == "image"} == {
        "a.png",
        "photo.dat",
        ".hidden.png",
        ".hidden/b.png",
        "d.heic",
    }
    problems = {name: item.value for name, item in found.items() if item.kind == "problem"}
    assert problems.keys() == {"gone.png", "other", "file.txt", "pipe"}
    assert problems["other"] == "it is a link to another folder; give that one as well."
    assert "notes.md" in capsys.readouterr().err


def test_a_folder_of_other_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("a gun")
    (tmp_path / "b.md").write_text("a gun")
    assert "has no images in it, only" in _refusal(str(tmp_path))
    assert "b.md and 1 more" in _refusal(str(tmp_path))


def test_patterns_match_hidden_files_and_report_what_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".a.png", "deep/.b/c.png", "closed/d.png", "deep/e.jpg"):
        _image(tmp_path / name)
    (tmp_path / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "folder.png").mkdir()
    _image(tmp_path / "folder.png" / "f.png")
    listing: Callable[[str], list[str]] = os.listdir

    def listdir(path: str) -> list[str]:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "listdir", listdir)
    found = {Path(item.key["path"]).name: item.kind for item in _read(f"{tmp_path}/**/*.png")}
    assert found == {".a.png": "image", "c.png": "image", "f.png": "image", "closed": "problem"}


@pytest.mark.parametrize("name", ["a.txt", "image", "a.csv"])
def test_the_content_of_a_file_says_that_it_is_an_image(name: str, tmp_path: Path) -> None:
    (item,) = _read(_image(tmp_path / name))
    assert item.kind == "image"
    assert "is an image" in _refusal(str(tmp_path / name), stage="prompt")


@pytest.mark.parametrize("path", ["a\0b.png", "\ud800", "", "/dev/zero"])
def test_paths_in_jsonl_that_cannot_be_files_are_reported(path: str) -> None:
    done = _screen("--stage", "image", stdin=json.dumps({"path": path}))
    assert done.exit_code == 2
    (record,) = _records(done)
    assert record["action"] == "block"
    assert record["error"]


# Keys of records


def test_no_place_is_ever_an_id() -> None:
    lines = b'{"prompt": "a dog"}\n{"id": 1, "prompt": "a gun"}\n{"id": "", "prompt": "a cat"}\n'
    keys = [dict(item.key) for item in _read(stdin=lines)]
    assert keys == [{"file": "-", "line": 1}, {"id": 1, "file": "-"}, {"file": "-", "line": 3}]


def test_two_files_with_the_same_ids_are_kept_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        rows = [{"id": i, "prompt": "a dog"} for i in range(3)] + [{"prompt": "a dog"}]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out.jsonl"
    first, second = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    assert _screen(first, "--output", str(out)).exit_code == 0
    done = _screen(first, second, "--output", str(out), "--json")
    assert json.loads(done.stdout)["actions"] == {"allow": 8}
    assert json.loads(done.stdout)["others"] == 0
    names = [(r.get("id"), r["file"], r.get("line")) for r in map(json.loads, out.read_text().splitlines())]
    assert len(set(names)) == 8


def test_an_image_that_changed_is_screened_again(tmp_path: Path) -> None:
    out, path = tmp_path / "out.jsonl", _image(tmp_path / "a.png")
    assert _screen(str(path), "--output", str(out)).exit_code == 0
    Image.new("RGB", (8, 8), "black").save(path)
    done = _screen(str(path), "--output", str(out), "--json")
    assert json.loads(done.stdout)["others"] == 1
    hashes = [json.loads(line)["image_sha256"] for line in out.read_text().splitlines()]
    assert len(set(hashes)) == 2
