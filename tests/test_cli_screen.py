from __future__ import annotations

import hashlib
import io
import json
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from safelight.cli import app
from safelight.cli.items import read_items
from safelight.cli.record import screened
from safelight.guard.guard import Guard
from safelight.storybook import Storybook

KEYS = ["action", "score", "categories", "findings", "policy", "elapsed_ms"]


def _screen(*arguments: str, policy: str | Path = "storybook", stdin: str | bytes | None = None) -> Result:
    own = ["screen", "--policy", str(policy), *arguments]
    return CliRunner().invoke(app, own, input=stdin, catch_exceptions=False)


def _records(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_prompts_are_judged_in_order() -> None:
    done = _screen("a dog", "a gun", "--json")
    assert done.exit_code == 0
    first, second = _records(done)
    assert list(first) == ["item", "prompt_sha256", *KEYS]
    assert first["prompt_sha256"] == hashlib.sha256(b"a dog").hexdigest()
    assert (first["item"], first["action"], first["score"]) == (1, "allow", 0.0)
    assert (second["item"], second["action"], second["score"]) == (2, "block", 1.0)
    assert second["categories"]["weapons"]["labels"] == ["gun"]
    assert second["findings"] == [{"label": "gun", "score": 1.0, "filter": "lexicon", "evidence": None}]
    assert second["policy"].startswith("storybook ")


def test_found_words_are_shown_on_request() -> None:
    (record,) = _records(_screen("a gun", "--explain", "--json"))
    assert record["findings"][0]["evidence"] == {"type": "span", "start": 2, "end": 5, "text": "gun"}


def test_tables_are_read_by_column(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    (tmp_path / "users.csv").write_bytes(
        'id,text\na,"a dog, or two"\nb,a gun\nc\n\nd,"a ""gun"""\ne,\xff\n'.encode("latin-1")
    )
    parquet.write_table(table({"text": ["a dog", "a gun", None]}), tmp_path / "users.parquet")
    done = _screen(str(tmp_path / "users.csv"), str(tmp_path / "users.parquet"), "--column", "text", "--json")
    records = _records(done)
    assert [record.get("id") for record in records] == ["a", "b", None, "d", "e", None, None, None]
    assert [record.get("row") for record in records] == [None, None, 3, None, None, 1, 2, 3]
    assert [Path(record["file"]).suffix for record in records] == [".csv"] * 5 + [".parquet"] * 3
    judged = [record["action"] for record in records]
    assert judged == ["allow", "block", "block", "block", "block", "allow", "block", "block"]
    assert [("error" in record) for record in records] == [
        False,
        False,
        True,
        False,
        True,
        False,
        False,
        True,
    ]


def test_an_invalid_csv_row_does_not_stop_the_rest(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text('prompt\na dog\n"a "gun\na gun\n')
    records = _records(_screen(str(tmp_path / "users.csv"), "--json"))
    assert [record["action"] for record in records] == ["allow", "block", "block"]
    assert "row 2 is not valid CSV" in records[1]["error"]


def test_ids_of_any_kind_and_damaged_files(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    moments = [datetime(2026, 1, day) for day in (1, 2)]
    path = tmp_path / "users.parquet"
    parquet.write_table(table({"id": moments, "prompt": ["a dog", "a gun"]}), path)
    assert [record["id"] for record in _records(_screen(str(path)))] == [
        "2026-01-01 00:00:00",
        "2026-01-02 00:00:00",
    ]
    parquet.write_table(table({"prompt": [f"a dog {i}" for i in range(5000)]}), path, compression="snappy")
    data = bytearray(path.read_bytes())
    data[60:2000] = b"\xff" * 1940
    path.write_bytes(data)
    damaged = _records(_screen(str(path)))
    assert damaged[-1]["action"] == "block"
    assert "is damaged from row" in damaged[-1]["error"]
    (tmp_path / "users.csv").write_text('"a"b,prompt\n')
    assert "cannot be read as CSV" in _complaint(str(tmp_path / "users.csv"))


def test_a_table_without_the_column_names_those_it_has(tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("promt,id\na dog,1\n")
    assert 'no column "prompt"' in _complaint(str(tmp_path / "users.csv"))
    assert 'did you mean "promt"' in _complaint(str(tmp_path / "users.csv"))
    (tmp_path / "users.parquet").write_bytes(b"PAR1")
    assert "cannot be read as Parquet" in _complaint(str(tmp_path / "users.parquet"))


def _complaint(*arguments: str) -> str:
    done = _screen(*arguments)
    assert done.exit_code == 2
    return " ".join(done.stderr.split())


def test_the_stage_decides_what_an_item_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gun").mkdir()
    Image.new("RGB", (64, 64), "white").save(tmp_path / "gun" / "a.png")
    assert _records(_screen("gun"))[0]["path"] == str(Path("gun") / "a.png")
    assert _records(_screen("gun", "--stage", "prompt"))[0]["action"] == "block"
    assert _records(_screen("nothere/", "--stage", "prompt"))[0]["action"] == "allow"
    assert "there is no file nothere.csv" in _complaint("nothere.csv", "--stage", "prompt")
    assert "there is no file a dog" in _complaint("a dog", "--stage", "image")
    assert _records(_screen("--stage", "image", stdin='{"path": "gun/a.png"}'))[0]["action"] == "allow"
    (tmp_path / "list.tsv").write_text("a gun\na dog\n")
    said = _records(_screen("list.tsv", "--stage", "prompt"))
    assert [record["action"] for record in said] == ["block", "allow"]
    assert "is an image" in _complaint(str(tmp_path / "gun" / "a.png"), "--stage", "prompt")


def test_a_million_lines_would_fit_into_memory() -> None:
    class Endless(io.BytesIO):
        lines = 0

        def readline(self, size: int | None = -1, /) -> bytes:
            self.lines += 1
            return b'{"prompt": "a dog"}\n'

    file = Endless()
    records = screened(Guard.from_policy("storybook"), read_items([], file))
    assert len(list(islice(records, 1000))) == 1000
    assert file.lines < 2000


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_what_was_screened_exits_with_0_unless_asked_to_fail(json_too: list[str]) -> None:
    done = _screen("a dog", "a gun", *json_too)
    assert done.exit_code == 0
    assert [record["action"] for record in _records(done)] == ["allow", "block"]
    assert _screen("a dog", "a gun", "--fail-on", "never", *json_too).exit_code == 0
    assert _screen("a dog", "a gun", "--fail-on", "block", *json_too).exit_code == 3
    assert _screen("a dog", "a gun", "--fail-on", "review", *json_too).exit_code == 3
    assert _screen("a dog", "--fail-on", "review", *json_too).exit_code == 0
    assert _screen("a gun", "a\x07dog", "--fail-on", "block", *json_too).exit_code == 2


def test_jsonl_keeps_its_ids_and_a_bad_line_does_not_stop_the_rest() -> None:
    lines = [
        '{"id": "x", "prompt": "a gun"}',
        "{oops",
        "",
        '{"prompt": "a dog"}',
        '{"id": 9}',
        "[" * 100_000,
        '{"id": NaN, "prompt": "a dog"}',
        '{"id": null, "prompt": "a cat"}',
    ]
    done = _screen("--json", stdin="\n".join(lines))
    assert done.exit_code == 2
    records = _records(done)
    assert [record.get("id") for record in records] == ["x", None, None, 9, None, None, None]
    assert [record.get("line") for record in records] == [None, 2, 4, None, 6, 7, 8]
    assert {record["file"] for record in records} == {"-"}
    assert [record["action"] for record in records] == ["block"] * 2 + ["allow"] + ["block"] * 3 + ["allow"]
    assert records[1]["error"] == "line 2 is not valid JSON."
    assert records[3]["error"] == 'line 5 is not an object with a "prompt".'
    assert all(set(KEYS) <= record.keys() for record in records)
    assert [record["score"] for record in records if "error" in record] == [1.0] * 4


@pytest.mark.parametrize("prompt", ["", "a\x07gun", 3, None, "\ud800", "a dog " * 20_000])
def test_a_prompt_that_cannot_be_drawn_is_a_block_with_its_reason(prompt: object) -> None:
    done = _screen("--json", stdin=json.dumps({"id": 1, "prompt": prompt}))
    assert done.exit_code == 2
    (record,) = _records(done)
    assert record["action"] == "block"
    assert "prompt" in record["error"]


def test_bytes_that_are_not_text_are_reported(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"a gun\n\xff\xfe\n\na dog\n")
    records = _records(_screen(str(tmp_path / "prompts.txt")))
    assert [record["line"] for record in records] == [1, 2, 4]
    assert [record["action"] for record in records] == ["block", "block", "allow"]
    assert records[1]["error"] == "line 2 is not UTF-8 text."
    assert _records(_screen(stdin=b"\xff\n"))[0]["error"] == "line 1 is not valid JSON."


def test_images_come_from_files_and_folders_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    Image.new("RGBA", (20, 10)).save(tmp_path / "b.png")
    Image.new("L", (300, 200), "white").save(tmp_path / "a.JPG")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "deep" / "c.webp")
    (tmp_path / "d.png").write_bytes(b"no image")
    (tmp_path / "notes.md").write_text("not looked at")
    done = _screen(str(tmp_path), "a gun", str(tmp_path / "b.png"))
    records = _records(done)
    names = [Path(record["path"]).name for record in records if "path" in record]
    assert names == ["a.JPG", "b.png", "d.png", "c.webp", "b.png"]
    assert records[4]["item"] == 2
    assert "skipped, not an image" in done.stderr
    assert done.stderr.endswith("notes.md.\n")
    assert records[2]["action"] == "block"
    assert "cannot be read as an image" in records[2]["error"]
    assert done.exit_code == 2


def test_an_image_too_large_for_the_memory_is_refused(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")
    assert "9000 × 9000 pixels" in _records(_screen(str(tmp_path)))[0]["error"]


def test_patterns_stand_for_the_files_that_match(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "deep/c.png", "deep/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64), "white").save(tmp_path / name)
    paths = [record["path"] for record in _records(_screen(f"{tmp_path}/**/*.png"))]
    assert [Path(path).name for path in paths] == ["a.png", "b.png", "c.png"]
    assert _records(_screen(f"{tmp_path}/deep/*", "--stage", "image"))[1]["path"].endswith("d.jpg")
    assert "no file matches" in _complaint(f"{tmp_path}/*.gif")
    assert _records(_screen("what is this? *smiles*"))[0]["item"] == 1


def test_folders_that_loop_or_cannot_be_read_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.png")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    done = _screen(str(tmp_path))
    first, closed, loop = _records(done)
    assert (first["action"], closed["action"], loop["action"]) == ("allow", "block", "block")
    assert closed["error"] == "it cannot be read: Permission denied."
    assert "symbolic links" in loop["error"]
    assert done.exit_code == 2


def test_an_image_that_vanishes_is_blocked(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "white").save(tmp_path / "b.png")
    items = read_items([str(tmp_path)], io.BytesIO())
    (tmp_path / "a.png").unlink()
    records = list(screened(Guard.from_policy("storybook"), items))
    assert [record.action for record in records] == ["block", "allow"]
    assert "No such file" in records[0].why


def test_paths_in_jsonl_are_relative_to_its_folder(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.png")
    lines = [{"id": 1, "path": "a.png"}, {"path": "nothere.png"}, {"path": 3}, {"prompt": "a dog"}]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    records = _records(_screen(str(tmp_path / "list.jsonl"), "--stage", "image"))
    assert [record["action"] for record in records] == ["allow", "block", "block", "block"]
    assert (records[0]["id"], records[0]["path"]) == (1, str(tmp_path / "a.png"))
    assert "No such file" in records[1]["error"]
    assert records[2]["error"] == 'the "path" on line 3 is not text.'
    assert records[3]["error"] == 'line 4 is not an object with a "path".'


def test_pairs_are_judged_together(tmp_path: Path) -> None:
    policy = tmp_path / "pairs.toml"
    policy.write_text(
        'name = "pairs"\nversion = "1"\n[filters]\npair = ["always"]\n'
        '[filters.options.always]\nlabel = "weapons"\n[categories.weapons]\npair = { block = 0.5 }\n'
    )
    Image.new("RGB", (64, 64), "white").save(tmp_path / "a.png")
    lines = [
        {"id": 1, "prompt": "a dog", "path": "a.png"},
        {"prompt": "", "path": "a.png"},
        {"path": "a.png"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = _screen(str(tmp_path / "list.jsonl"), "--stage", "pair", "--json", policy=policy)
    records = _records(done)
    assert [record["action"] for record in records] == ["block"] * 3
    assert records[0]["prompt_sha256"] == hashlib.sha256(b"a dog").hexdigest()
    assert "error" not in records[0]
    assert "the prompt is empty" in records[1]["error"]
    assert records[2]["error"] == 'line 3 is not an object with a "prompt" and a "path".'
    assert done.exit_code == 2
    assert 'give JSONL with a "prompt" and a "path"' in _complaint("a dog", "--stage", "pair")
    assert "is an image" in _complaint(str(tmp_path / "a.png"), "--stage", "pair")


def test_the_worst_frame_counts(tmp_path: Path) -> None:
    book = Storybook(seed=5)
    armed = next(scene.image for scene in book.scenes(200) if "gun" in scene.objects)
    blank = Image.new("RGB", (64, 64), "white")
    blank.save(
        tmp_path / "a.webp",
        save_all=True,
        append_images=[Image.new("RGB", (64, 64)), armed, blank],
        lossless=True,
    )
    (record,) = _records(_screen(str(tmp_path / "a.webp")))
    assert (record["action"], record["frame"]) == ("block", 2)


def test_an_interrupted_run_resumes(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    (tmp_path / "prompts.txt").write_text("a gun\na dog\na cat\n")
    assert _screen(str(tmp_path / "prompts.txt"), "--output", str(out)).exit_code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    whole = out.read_bytes()
    first, second, _ = whole.splitlines(keepends=True)
    out.write_bytes(first + second[:20])
    done = _screen(str(tmp_path / "prompts.txt"), "--output", str(out), "--json")
    assert json.loads(done.stdout)["actions"] == {"block": 1, "allow": 2}
    again = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert [record["action"] for record in again] == ["block", "allow", "allow"]
    assert out.read_bytes().startswith(first)
    kept = out.read_bytes()
    done = _screen(str(tmp_path / "prompts.txt"), "--output", str(out), "--fail-on", "block")
    assert done.stdout.endswith("allow 2, block 1\n")
    assert done.exit_code == 3  # by an earlier run, but in the file
    assert out.read_bytes() == kept


def test_equal_items_each_get_a_record(tmp_path: Path) -> None:
    for name, prompt in (("a", "a dog"), ("b", "a gun")):
        rows = "\n".join(json.dumps({"prompt": prompt}) for _ in range(70))
        (tmp_path / f"{name}.jsonl").write_text(rows)
    files = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    done = _screen(*files, "--output", str(tmp_path / "out.jsonl"), "--json")
    assert json.loads(done.stdout)["actions"] == {"allow": 70, "block": 70}
    again = _screen(*files, "--output", str(tmp_path / "out.jsonl"), "--json")
    assert json.loads(again.stdout)["actions"] == {"allow": 70, "block": 70}
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "a bomb"}))  # another prompt under a known number
    replaced = _screen(files[0], "--output", str(tmp_path / "out.jsonl"), "--json")
    assert json.loads(replaced.stdout)["actions"] == {"allow": 70, "block": 71}
    assert json.loads(replaced.stdout)["others"] == 140
    assert "140 records of earlier runs" in replaced.stderr


def test_unreadable_items_are_screened_again(tmp_path: Path) -> None:
    out, image = tmp_path / "out.jsonl", tmp_path / "a.png"
    (tmp_path / "list.jsonl").write_text('{"path": "a.png"}')
    arguments = (str(tmp_path / "list.jsonl"), "--stage", "image", "--output", str(out))
    assert _screen(*arguments).exit_code == 2
    Image.new("RGB", (64, 64), "white").save(image)
    assert _screen(*arguments).exit_code == 0
    (record,) = map(json.loads, out.read_text().splitlines())
    assert record["action"] == "allow"


def test_a_file_of_other_records_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    _screen("a dog", "--output", str(out))
    assert 'records of the policy "storybook' in " ".join(
        _screen("a dog", "--output", str(out), policy="general").stderr.split()
    )
    out.write_text("notes\n")
    assert "is not valid JSON" in _complaint("a dog", "--output", str(out))
    assert out.read_text() == "notes\n"
    out.write_text("[1]\n")
    assert "something other than records" in _complaint("a dog", "--output", str(out))
    assert out.read_text() == "[1]\n"


def test_a_jsonl_file_is_read_as_such(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"id": "a", "prompt": "a gun"}\n')
    assert _records(_screen(str(tmp_path / "prompts.jsonl")))[0]["id"] == "a"


def test_a_filter_that_fails_blocks_and_exits_with_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safelight.filters.text.lexicon import Lexicon

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Lexicon, "find", fail)
    done = _screen("a dog", "--json")
    assert done.exit_code == 2
    assert _records(done)[0]["action"] == "block"
    assert "broken" in _records(done)[0]["error"]


@pytest.mark.parametrize("prompt", ["x" * 5000, "a\0b", "a dog.png in the park", "/"])
def test_odd_prompts_are_not_mistaken_for_files(prompt: str, tmp_path: Path) -> None:
    done = _screen(prompt if prompt != "/" else "a/b c")
    assert _records(done)[0]["item"] == 1


@pytest.mark.parametrize(
    ("argument", "sentence"), [("nothere.png", "no file nothere.png"), ("nothere.TXT", "no file nothere.TXT")]
)
def test_a_missing_file_is_named(argument: str, sentence: str) -> None:
    done = _screen("a dog", argument)
    assert (done.exit_code, done.stdout) == (2, "")
    assert sentence in done.stderr


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    done = _screen(str(tmp_path))
    assert done.exit_code == 2
    assert "has no images" in done.stderr


def test_an_unknown_policy_names_the_closest() -> None:
    done = _screen("a dog", policy="genral")
    assert done.exit_code == 2
    assert 'general-strict, storybook; did you mean "general"?' in done.stderr


def test_on_a_terminal_there_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    done = _screen("a gun", "a dog")
    assert done.exit_code == 0
    assert "weapons 1.00, from 0.80 (gun)" in done.stdout
    assert "{" not in done.stdout
    assert _records(_screen("a gun", "--json"))[0]["action"] == "block"
