"""Damaged journals: nothing crashes, nothing is lost, and no worker is restarted for ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from safelight.cli.app import app
from safelight.safe_training.cleaning import Cleaning, shards_of
from safelight.safe_training.cleaning.caption_groups import CaptionGroups
from safelight.safe_training.cleaning.findings import GIVEN_UP, Screened
from safelight.safe_training.cleaning.journal import Journal
from safelight.safe_training.cleaning.row_file import rows_in
from safelight.safe_training.cleaning.sample import Sample
from safelight.safe_training.cleaning.shard_screening import HOPELESS, ShardScreening, give_up, journal_of
from safelight.safe_training.cleaning.worker import Task, Worker
from safelight.types import Box, FilterFindings, FilterRun, Finding
from screens import colours, encoded


def _row(name: str = "a") -> dict[str, Any]:
    box = Finding("red", 0.5, "colours", Box(0.1, 0.2, 0.3, 0.4))
    found = FilterFindings((box, Finding("gun", 1, "lexicon")), {"f": FilterRun("1", 2.0, "late")}, None, 3)
    return Screened(name, "k", "0", None, {"image": (found,)}, "ff", ("women",)).to_row()


ODD: list[Any] = [[1, 2], [[]], [{}], {}, 7, None, "dead", ["died"], [{"id": "a"}], [_row() | {"id": 1}]]
ODD += [[_row() | {"found": value}] for value in (None, "x", [{}], [1], {"stage": "image"})]
ODD += [[_row() | {"groups": [1]}], [_row() | {"sha256": 5}], [_row() | {"key": "\ud800"}]]


def _found(**changes: Any) -> list[Any]:
    (found,) = _row()["found"]
    return [_row() | {"found": [found | changes]}]


def _finding(**changes: Any) -> list[Any]:
    finding = _row()["found"][0]["findings"][0]
    return _found(findings=[finding | changes])


ODD += [_found(stage="door"), _found(frame=1 << 40), _found(frame="1"), _found(failed=[{}]), _found(failed=1)]
ODD += [_finding(score=value) for value in (7, -1, "1", None, float("nan"))]
ODD += [_finding(evidence=value) for value in ("{", "7", '{"type": "box"}', 5, "[" * 100_000)]


@pytest.mark.parametrize("entry", ODD, ids=lambda entry: json.dumps(entry)[:60])
def test_lines_that_are_not_rows_are_ignored(entry: Any, tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.add([_row("a")])
    with (tmp_path / "j").open("a") as file:
        file.write(json.dumps(entry) + "\n" + json.dumps([_row("b")]) + "\n")
    with Journal(tmp_path / "j") as journal:
        assert (journal.rows, journal.deaths) == (1, 0)
        assert list(journal.read()) == [_row("a")]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=3)), max_size=6))
def test_a_mutated_journal_has_rows_or_none(changes: list[tuple[float, bytes]]) -> None:
    data = b"".join(json.dumps([_row(name), _row(name * 2)]).encode() + b"\n" for name in "abc")
    for place, new in changes:
        at = int(place * len(data))
        data = data[:at] + new + data[at + len(new) :]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        path.write_bytes(data)
        with Journal(path) as journal:
            rows = list(journal.read())
            assert journal.rows == len(rows) <= 6
            journal.add([_row("new")])
            assert list(journal.read()) == [*rows, _row("new")]
        for row in rows:
            Screened.of_row(row)


def test_a_damaged_journal_kills_no_worker(policy: Path, tmp_path: Path) -> None:
    """A single line, [1,2], once made workers die without end: 23 in 18 seconds."""
    images, findings = tmp_path / "images", tmp_path / "findings"
    images.mkdir()
    findings.mkdir()
    (images / "a.png").write_bytes(encoded((0, 200, 0)))
    (shard,) = shards_of(str(images))
    journal_of(findings, 0).write_text("[1,2]\n")
    screening = ShardScreening(colours(policy), findings, CaptionGroups.load())
    assert list(screening.screen(0, shard))[-1] == 1
    assert [row["id"] for row in rows_in(findings / "000000.parquet")] == ["a.png"]


class _Deadly:
    """A shard that kills its reader after one sample."""

    name = "deadly"

    def samples(self) -> Any:
        import os

        yield Sample("a", "a", None, None, "there is no image.")
        os._exit(9)


def test_a_shard_at_which_workers_keep_dying_is_given_up(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(journal_of(tmp_path, 0)) as journal:
        journal.add([_row("a")])
        for _ in range(HOPELESS - 1):
            journal.add_death()
    worker, told = Worker(Task(partial(colours, policy), tmp_path)), list[int]()
    try:
        assert worker.screen(0, _Deadly(), told.append) == 2
    finally:
        worker.stop()
    rows = list(rows_in(tmp_path / "000000.parquet"))
    assert [(row["id"], row["problem"]) for row in rows] == [("a", None), ("deadly#1", GIVEN_UP)]
    assert told[-1] == 2
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_shard_that_was_given_up_is_in_the_summary_and_the_command_fails(
    policy: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encoded((0, 200, 0)))
    cleaning, settings = Cleaning(tmp_path / "out"), {"source": "images"}

    def engine(task: Task, shards: Mapping[int, Any], progress: Any) -> None:
        for number, shard in shards.items():
            give_up(task.folder, number, shard)

    found = partial(shards_of, str(tmp_path / "images"))
    cleaning.screen(found, partial(colours, policy), settings, engine)
    arguments = [
        "clean",
        "sort",
        str(tmp_path / "out"),
        "--policy",
        str(policy),
        "--output",
        str(tmp_path / "new"),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "Reading 000000#0 crashes repeatedly: the rest of that shard was not screened." in done.stdout
    summary = json.loads((tmp_path / "new" / "summary.json").read_text())
    assert (summary["given_up"], summary["unreadable"]) == (["000000#0"], 1)
    (row,) = rows_in(tmp_path / "new" / "rejected.parquet")
    assert row["detail"] == GIVEN_UP
