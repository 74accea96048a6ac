"""Cleaning: kept and rejected samples, crashes and interruptions."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from PIL import Image
from pyarrow import parquet

from safelight.concurrency.thread_count import thread_count
from safelight.errors import RequestError
from safelight.policy import Policy
from safelight.safe_training.cleaning import Cleaning, shards_of
from safelight.safe_training.cleaning.decision import decide
from safelight.safe_training.cleaning.engines.local import run_local
from safelight.safe_training.cleaning.findings import Screened
from safelight.safe_training.cleaning.journal import Journal
from safelight.safe_training.cleaning.worker import Task
from safelight.types import Action, Box, FilterFindings, FilterRun, Finding, HashMatch, Span, Stage
from screens import BLACK, POLICY, RED, colours, encoded


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """70 green images; every tenth is red, one caption asks for a gun, and one file is not an image."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(70):
        (folder / f"{i:02}.png").write_bytes(encoded(RED if i % 10 == 0 else (0, 200, 0), 8 + i))
        (folder / f"{i:02}.txt").write_text("a gun" if i % 10 == 5 else "a dog")
    (folder / "33.png").write_bytes(b"no image")
    return folder


def _clean(images: Path, policy: Path, out: Path, engine: Any = None) -> dict[str, Any]:
    cleaning = Cleaning(out)
    work = engine or (lambda task, shards, progress: run_local(task, shards, 2, progress))
    screens = partial(colours, policy)
    cleaning.screen(partial(shards_of, str(images)), screens, {"source": str(images)}, work)
    return cleaning.sort(Policy.load(policy), out).summary()


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(parquet.read_table(path).to_pylist())


def _ids(path: Path) -> list[str]:
    return [row["id"] for row in _rows(path)]


def test_every_sample_is_kept_or_rejected_with_its_reason(images: Path, policy: Path, tmp_path: Path) -> None:
    counts = _clean(images, policy, tmp_path / "out")
    assert counts == {
        "samples": 70, "harmful": 14, "kept": 55, "unreadable": 1,
        "rejected": {"violence": 7, "weapons": 7, "unreadable": 1},
        "given_up": [],
    }  # fmt: skip
    rejected = _rows(tmp_path / "out" / "rejected.parquet")
    assert sorted(_ids(tmp_path / "out" / "kept.parquet") + [row["id"] for row in rejected]) == [
        f"{i:02}.png" for i in range(70)
    ]
    red, gun, broken = (next(row for row in rejected if row["id"] == f"{i}.png") for i in (10, 15, 33))
    assert (red["category"], red["filter"], red["reason"]) == ("violence", "colours", "harmful")
    assert red["score"] == pytest.approx(200 / 255)
    assert red["policy"] == "colours 1"
    assert (gun["category"], gun["filter"], gun["detail"][:6]) == ("weapons", "lexicon", "prompt")
    assert (broken["reason"], broken["category"], broken["score"]) == ("unreadable", None, None)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary == {"policy": "colours 1", "screened": str(tmp_path / "out"), **counts}


def test_other_thresholds_are_applied_without_screening_again(
    images: Path, policy: Path, tmp_path: Path
) -> None:
    _clean(images, policy, tmp_path / "out")
    for path in images.iterdir():
        path.unlink()
    policy.write_text(POLICY.replace("review = 0.3, block = 0.6", "review = 0.5, block = 0.9"))
    cleaning, loaded = Cleaning(tmp_path / "out"), Policy.load(policy)
    assert cleaning.sort(loaded, tmp_path / "same").summary()["rejected"]["violence"] == 7
    milder = cleaning.sort(loaded, tmp_path / "milder", Action.BLOCK).summary()
    assert "violence" not in milder["rejected"]
    assert len(_ids(tmp_path / "milder" / "kept.parquet")) == 62
    with pytest.raises(RequestError, match="every sample would be rejected"):
        cleaning.sort(loaded, tmp_path / "nothing", Action.ALLOW)
    policy.write_text(POLICY.replace('image = ["never"]', 'image = ["always"]'))
    with pytest.raises(RequestError, match="other filters"):
        cleaning.sort(Policy.load(policy), tmp_path / "other")


def test_a_sample_that_crashes_its_decoder_is_rejected_alone(
    images: Path, policy: Path, tmp_path: Path
) -> None:
    for i in (7, 8):
        (images / f"{i:02}.png").write_bytes(encoded(BLACK, 100 + i))
    counts = _clean(images, policy, tmp_path / "out")
    assert (counts["unreadable"], counts["kept"]) == (3, 53)
    crashed = [
        row["id"] for row in _rows(tmp_path / "out" / "rejected.parquet") if "crashes" in row["detail"]
    ]
    assert crashed == ["07.png", "08.png"]


def test_decompression_bombs_are_unreadable_and_affect_no_other_sample(policy: Path, tmp_path: Path) -> None:
    """A tar file with 70 MB of zeros compressed to 70 KB, and an image of 400 million pixels."""
    wide = BytesIO()
    Image.new("1", (20_000, 20_000)).save(wide, "PNG")
    (tmp_path / "images").mkdir()
    with tarfile.open(tmp_path / "images" / "a.tar.gz", "w:gz") as archive:
        for name, content in (
            ("1.png", encoded((0, 1, 0))),
            ("2.png", bytes(70 << 20)),
            ("3.png", wide.getvalue()),
            ("4.png", encoded((0, 4, 0))),
            ("4.json", b"[" * 100_000),
        ):
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, BytesIO(content))
    assert (tmp_path / "images" / "a.tar.gz").stat().st_size < 200_000
    counts = _clean(tmp_path / "images", policy, tmp_path / "out")
    assert (counts["kept"], counts["unreadable"]) == (1, 3)
    details = {row["id"]: row["detail"] for row in _rows(tmp_path / "out" / "rejected.parquet")}
    assert details["a.tar.gz/4"] == "its JSON is damaged."
    assert _ids(tmp_path / "out" / "kept.parquet") == ["a.tar.gz/1"]


class _StoppedError(Exception):
    """Stands for anything that stops a program."""


def test_an_interrupted_run_resumes_with_the_same_results(
    images: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safelight.safe_training.cleaning.sources.folder._SHARDS", 2)
    _clean(images, policy, tmp_path / "whole")

    def stopping(task: Task, shards: Mapping[int, Any], progress: Callable[[int, int], None]) -> None:
        def told(number: int, done: int) -> None:
            raise _StoppedError

        run_local(task, shards, 1, told)

    for _ in range(3):
        with pytest.raises(_StoppedError):
            _clean(images, policy, tmp_path / "out", stopping)
        with pytest.raises(RequestError, match="of 2 shards were not screened"):
            Cleaning(tmp_path / "out").sort(Policy.load(policy), tmp_path / "out")
    _clean(images, policy, tmp_path / "out")
    for name in ("kept.parquet", "rejected.parquet", "findings/000000.parquet", "findings/000001.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list((tmp_path / "out").rglob("*.part"))
    assert not list((tmp_path / "out").rglob("*.jsonl.*"))


def test_two_runs_never_write_to_one_folder(images: Path, policy: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(RequestError, match="another program"):
        _clean(images, policy, tmp_path / "out")


def test_findings_of_other_settings_are_not_mixed(images: Path, policy: Path, tmp_path: Path) -> None:
    _clean(images, policy, tmp_path / "out")
    policy.write_text(POLICY.replace("[labels]", "[filters.options.never]\n\n[labels]"))
    with pytest.raises(RequestError, match="another filters"):
        _clean(images, policy, tmp_path / "out")
    with pytest.raises(RequestError, match="no findings"):
        Cleaning(tmp_path / "nowhere").sort(Policy.load(policy), tmp_path / "x")


def test_an_unknown_filter_is_one_error(images: Path, policy: Path, tmp_path: Path) -> None:
    policy.write_text(POLICY.replace('"lexicon"]\nimage', '"lexicn"]\nimage'))
    with pytest.raises(RequestError, match="lexic"):
        run_local(
            Task(partial(_fails, policy), tmp_path),
            dict(enumerate(shards_of(str(images)))),
            2,
            lambda *_: None,
        )


def _fails(_: Path) -> Any:
    raise RequestError("there is no lexicn.")


def test_a_worker_that_cannot_start_rejects_no_sample(images: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="dies before it begins"):
        run_local(Task(_dies, tmp_path), dict(enumerate(shards_of(str(images)))), 1, lambda *_: None)
    assert not list(tmp_path.glob("*.jsonl"))


def _noting(policy: Path, threads: Path) -> Any:
    import torch

    threads.write_text(f"{thread_count()} {torch.get_num_threads()}")
    return colours(policy)


def test_a_worker_uses_one_core(images: Path, policy: Path, tmp_path: Path) -> None:
    """As many workers as cores, each with as many threads, would slow each other down."""
    threads = tmp_path / "threads"
    screens = partial(_noting, policy, threads)
    cleaning = Cleaning(tmp_path / "out")
    cleaning.screen(partial(shards_of, str(images)), screens, {}, lambda *of: run_local(*of[:2], 2, of[2]))
    assert threads.read_text() == "1 1"


def _dies() -> Any:
    import os

    os._exit(9)


def _row(name: str) -> dict[str, Any]:
    return Screened(name, name, problem="there is no image.").to_row()


def test_a_journal_ignores_incomplete_lines(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.add([_row("a"), _row("b")])
        journal.add_death()
        journal.add_death()
    with Journal(path) as journal:
        assert (journal.rows, journal.deaths) == (2, 2)
        journal.add([_row("c")])
    path.write_bytes(path.read_bytes() + b'[{"id": "d"')
    with Journal(path) as journal:
        assert (journal.rows, journal.deaths) == (3, 0)
        journal.add([_row("e")])
        assert [row["id"] for row in journal.read()] == ["a", "b", "c", "e"]


def _screened(*findings: Finding, problem: str | None = None, **runs: FilterRun) -> Screened:
    return Screened("a", "a", "0", None, {"image": (FilterFindings(findings, runs, problem),)})


def test_findings_are_stored_without_words() -> None:
    box = Box(0.1, 1 / 3, 0.5, 0.7)
    findings = (
        Finding("red", 1 / 3, "colours", box),
        Finding("gun", 0.9, "lexicon", Span(2, 5, "gun")),
        Finding("known", 0.9, "hashes", HashMatch("list", "7", 3)),
    )
    row = json.loads(json.dumps(_screened(*findings, f=FilterRun("1", 2.0, "late")).to_row()))
    assert "Span" not in str(row)
    assert '"gun"' not in json.dumps(row["found"][0]["findings"][1]["evidence"])
    again = Screened.of_row(row)
    (found,) = again.found["image"]
    assert found.findings[0] == findings[0]
    assert [each.score for each in found.findings] == [1 / 3, 0.9, 0.9]
    assert found.runs["f"].problem == "late"


def test_unscreened_samples_are_rejected(policy: Path) -> None:
    loaded = Policy.load(policy)
    late = decide(_screened(colours=FilterRun("1", 2.0, "it was late.")), loaded).rejection
    assert late is not None
    assert (late.reason, late.detail) == ("unscreened", "it was late.")
    nobody = decide(Screened("a", "a", "0", None, {}), loaded).rejection
    assert nobody is not None
    assert nobody.reason == "unscreened"
    assert decide(_screened(), loaded).rejection is None


def test_the_image_and_not_the_caption_decides_how_close_objects_are() -> None:
    policy = Policy.load("storybook")
    held, apart = Box(0.1, 0.0, 0.5, 1.0), Box(0.6, 0.0, 0.9, 1.0)
    caption = FilterFindings((Finding("sword", 1.0, "lexicon"), Finding("man", 1.0, "lexicon")))

    def reason(found: dict[Stage, tuple[FilterFindings, ...]]) -> str | None:
        rejection = decide(Screened("a", "a", "0", None, found), policy).rejection
        return rejection and rejection.reason

    for box, said in ((held, "harmful"), (apart, None)):
        seen = (Finding("sword", 1.0, "f", Box(0.0, 0.0, 0.2, 0.5)), Finding("man", 1.0, "f", box))
        assert reason({"prompt": (caption,), "image": (FilterFindings(seen),)}) == said
    assert reason({"prompt": (caption,)}) == "harmful"


def test_the_worst_frame_counts(policy: Path) -> None:
    frames = tuple(
        FilterFindings((Finding("red", score, "colours"),), frame=i)
        for i, score in enumerate((0.1, 0.7, 0.4))
    )
    rejection = decide(Screened("a", "a", "0", None, {"image": frames}), Policy.load(policy)).rejection
    assert rejection is not None
    assert rejection.score == 0.7
