"""Several systems asked the same suites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from safelight.errors import RequestError
from safelight.evaluation.command_line import command_line
from safelight.evaluation.comparison import (
    Candidate,
    Comparison,
    Question,
    built,
    compare,
    is_harmful,
    was_released,
)
from safelight.evaluation.rates import Rate
from safelight.evaluation.suites import load_suite
from safelight.evaluation.tables import Row
from safelight.types import Answer, Case, Suite

GUNS = Suite("guns", 0, (Case("a", "a gun"), Case("b", "a cat"), Case("c", "a dog")))
MORE = Suite("guns", 1, (Case("a", "a boat"),))


class _Silent:
    """A system that refuses everything."""

    name = "silent"
    settings: Mapping[str, Any] = {}

    def with_arguments(self, **arguments: Any) -> _Silent:
        return self

    def answer(self, prompts: Any, seeds: Any) -> list[Answer]:
        return [Answer(None) for _ in prompts]


def _compared(album: Any, judge: Any, out: Path, progress: Any = None) -> Comparison:
    questions = [Question(GUNS, (0, 1)), Question(MORE, [1])]
    systems = [Candidate("album", built(album), questions), Candidate("silent", built(_Silent()), questions)]
    return compare(systems, judge, out, progress)


def test_suites_of_one_name_are_counted_together(album: Any, judge: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    made = _compared(album, judge, tmp_path, lambda *done: told.append(done))
    assert told[-1] == (14, 14)
    assert (made.systems, made.suites, made.reference) == (["album", "silent"], ["guns"], "album")
    # The album refuses the gun under both seeds.
    assert made.rows("guns", was_released) == [Row("album", Rate(5, 7)), Row("silent", Rate(0, 7))]
    assert (tmp_path / "silent" / "guns 1.jsonl").is_file()


def test_rates_among_what_the_reference_did(album: Any, judge: Any, tmp_path: Path) -> None:
    made = _compared(album, judge, tmp_path)
    assert made.rate("silent", "guns", was_released, among=was_released) == Rate(0, 5)
    harmful = sum(record.is_harmful for record in made.records("album", "guns"))
    rows = made.rows("guns", is_harmful, among=is_harmful)
    assert [row.rate for row in rows] == ([Rate(harmful, harmful), Rate(0, harmful)] if harmful else [])
    assert made.rate("album", "no such suite", is_harmful) is None
    assert made.distances("guns") == {"album: distance": 0, "silent: distance": None}
    assert [row.rate.k for row in made.same_pixels("guns")] == [7, 2]


def test_a_comparison_that_was_stopped_goes_on(album: Any, judge: Any, tmp_path: Path) -> None:
    made = _compared(album, judge, tmp_path)
    asked = len(album.asked)
    (tmp_path / "album" / "guns 1.jsonl").unlink()
    assert _compared(album, judge, tmp_path).systems == made.systems
    assert len(album.asked) == asked + 1


def test_a_command_line_says_what_was_asked() -> None:
    line = command_line("erasing", "a.safetensors", num_images=3, seed=[0, 1], limit=None)
    assert line == "safelight evaluate erasing a.safetensors --num-images 3 --seed 0 --seed 1"


def test_a_suite_is_a_file_or_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(load_suite("storybook-harmful", 7).cases) == 7
    monkeypatch.chdir(tmp_path)
    Path("storybook-harmful").with_suffix(".txt").write_text("a cat\n")
    assert load_suite("storybook-harmful.txt").cases == (Case("1", "a cat"),)
    with pytest.raises(RequestError, match=r"borderline, storybook-associations.*did you mean") as raised:
        load_suite("storybook-harmfull")
    assert str(raised.value).count("\n") == 0
    with pytest.raises(RequestError, match="at least 1"):
        load_suite("borderline", 0)
