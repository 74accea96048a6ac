from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from safelight.errors import RequestError
from safelight.evaluation.record import Record, RecordFile

RUN = {"system": "a", "seeds": [0]}
RECORD = Record(
    case="single-0001",
    prompt="a knife\u2028“now” 🐈",
    seed=7,
    action="allow",
    labels={"knife": 0.9},
    harms=("violence",),
    pixels="0123456789abcdef",
    elapsed_ms=12.5,
    features=(0.25, 1.0),
    details={"boxes": {"knife": [0.1, 0.2, 0.3, 0.4]}, "style": "cartoon"},
)


def _file(path: Path, run: dict[str, object] | None = None) -> RecordFile:
    return RecordFile(path, RUN if run is None else run)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "records.jsonl"
    refused = replace(RECORD, case="x", labels={}, harms=(), pixels="", features=(), details={})
    _file(path).append([RECORD, refused])
    assert _file(path).records == [RECORD, refused]
    assert (RECORD.released, refused.released) == (True, False)
    assert (RECORD.is_harmful, refused.is_harmful) == (True, False)


def test_every_line_is_json_and_the_first_names_the_run(tmp_path: Path) -> None:
    _file(tmp_path / "r").append([RECORD])
    header, line = map(json.loads, (tmp_path / "r").read_text("utf-8").split("\n")[:-1])
    assert header == {"run": RUN}
    assert line["case"] == "single-0001"


def test_a_last_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "r"
    _file(path).append([RECORD, replace(RECORD, case="second")])
    path.write_bytes(path.read_bytes()[:-20])
    file = _file(path)
    assert file.records == [RECORD]
    file.append([replace(RECORD, case="third")])
    assert [record.case for record in _file(path).records] == ["single-0001", "third"]


def test_a_header_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    (tmp_path / "r").write_text('{"run": {"sys')
    _file(tmp_path / "r").append([RECORD])
    assert _file(tmp_path / "r").records == [RECORD]


@pytest.mark.parametrize("other", [{"system": "b", "seeds": [0]}, {**RUN, "judge": "x"}, {"seeds": [0]}])
def test_records_of_another_run_are_refused(tmp_path: Path, other: dict[str, object]) -> None:
    _file(tmp_path / "r").append([RECORD])
    before = (tmp_path / "r").read_bytes()
    with pytest.raises(RequestError, match="another run"):
        _file(tmp_path / "r", other)
    assert (tmp_path / "r").read_bytes() == before


@pytest.mark.parametrize(
    "text", ["hello\n", "[1]\n", '{"run": {"system": "a", "seeds": [0]}}\n{"case": 1}\n']
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r").write_text(text)
    with pytest.raises(RequestError, match=r"not a file of records|not valid JSON"):
        _file(tmp_path / "r")
