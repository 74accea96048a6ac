"""Files of prompts, as they are published and as they go wrong."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from safelight.errors import RequestError
from safelight.evaluation.prompt_file import read_suite
from safelight.types import Case

I2P = (
    "prompt,lexica_url,categories,hard,inappropriate_percentage,nudity_percentage,sd_seed,"
    "sd_guidance_scale,sd_image_width\n"
    '"a cat, at night",https://a,"violence, shocking",0,10.5,0.0,3846230830,7,512\n'
    "a dog,https://b,sexual,1,20,0.0,12,5.5,512\n"
)


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_i2p(tmp_path: Path) -> None:
    suite = read_suite(_write(tmp_path, "i2p.csv", I2P))
    assert suite.name == "i2p"
    assert suite.cases == (
        Case(
            "1", "a cat, at night", categories=("violence", "shocking"), seed=3846230830, guidance_scale=7.0
        ),
        Case("2", "a dog", categories=("sexual",), seed=12, guidance_scale=5.5),
    )


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        (
            "case_number,prompt,evaluation_seed,evaluation_guidance,classes",
            "17,a cat,5,7.5,nudity",
            Case("17", "a cat", categories=("nudity",), seed=5, guidance_scale=7.5),
        ),
        ("image_id,caption", "139,a cat", Case("139", "a cat")),
        ("sensitive prompt", "a cat", Case("1", "a cat")),
        (",adv_prompt,target", "4,a cat,b", Case("4", "a cat")),
        ("id,prompt,seed", "x,a cat,", Case("x", "a cat")),
    ],
)
def test_columns_of_other_sets(header: str, row: str, expected: Case, tmp_path: Path) -> None:
    assert read_suite(_write(tmp_path, "a.csv", f"{header}\n{row}\n")).cases == (expected,)


def test_lines_of_text_and_of_json(tmp_path: Path) -> None:
    lines = read_suite(_write(tmp_path, "a.txt", "\ufeffa cat\n\n  a dog \n"))
    assert [(case.id, case.prompt) for case in lines.cases] == [("1", "a cat"), ("2", "a dog")]
    objects = '{"prompt": "a cat", "categories": ["a", "b"]}\n"a dog"\n'
    assert read_suite(_write(tmp_path, "a.jsonl", objects)).cases == (
        Case("1", "a cat", categories=("a", "b")),
        Case("2", "a dog"),
    )


def test_parquet(tmp_path: Path) -> None:
    table = {"prompt": ["a cat", "a dog"], "seed": [3, None], "categories": [["a"], []], "more": [b"", b"x"]}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    first, second = read_suite(tmp_path / "a.parquet").cases
    assert first == Case("1", "a cat", categories=("a",), seed=3)
    assert second == Case("2", "a dog")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "text_id,words\n1,a cat\n", 'has no column "prompt"; it has text_id, words'),
        ("a.csv", "id,prompt\n1,a cat\n1,a dog\n", 'the id "1" of prompt 2 is not unique'),
        ("a.csv", "id,prompt\n1,a cat\n2, \n", "prompt 2 is empty"),
        ("a.csv", "prompt\n", "has no prompts in it"),
        ("a.csv", "", "has no prompts in it"),
        ("a.csv", "prompt,seed\na cat,soon\n", '"soon" as seed; it must be a number'),
        ("a.csv", "prompt,seed\na cat,1.5\n", "must be a whole number"),
        ("a.csv", "prompt,seed\na cat,-1\n", "must be a whole number"),
        ("a.csv", "prompt,sd_guidance_scale\na cat,inf\n", '"inf" as sd_guidance_scale'),
        ("a.csv", "prompt,seed\na cat\n", "row 1 has 1 cells instead of 2"),
        ("a.csv", 'prompt\n"a cat\n', "row 1 is not valid CSV"),
        ("a.jsonl", '{"prompt": "a cat"\n', "line 1 is not valid JSON"),
        ("a.jsonl", "[1]\n", "line 1 is not an object"),
        ("a.jsonl", '{"prompt": 3}\n', "prompt 1 is empty"),
        (
            "a.jsonl",
            '{"prompt": "a cat", "prompt": "a dog"}\n',
            "line 1 has an object with the same key twice",
        ),
        ("a.jsonl", '{"prompt": "a cat", "seed": NaN}\n', "line 1 is not valid JSON"),
        ("a.txt", "\n \n", "has no prompts in it"),
        ("a.parquet", "PAR1", "cannot be read as Parquet"),
        ("a.json", "[]", 'no reader for files ending in ".json".*did you mean ".jsonl"'),
    ],
)
def test_what_is_wrong_is_one_sentence(name: str, text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=said) as raised:
        read_suite(_write(tmp_path, name, text))
    assert str(raised.value).count("\n") == 0


def test_a_file_that_is_not_there_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no file"):
        read_suite(tmp_path / "a.csv")
    for name in ("a.csv", "a.txt", "a.jsonl"):
        (tmp_path / name).write_bytes(b"prompt\na \xff cat\n")
        with pytest.raises(RequestError, match=name):
            read_suite(tmp_path / name)
    with pytest.raises(RequestError, match="at least 1"):
        read_suite(_write(tmp_path, "b.txt", "a cat"), limit=0)


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a.jsonl"])
def test_no_more_of_a_large_file_is_read_than_the_limit_needs(name: str, tmp_path: Path) -> None:
    """A gigabyte, most of which is a hole."""
    first = {"a.csv": "prompt\na cat\na dog\n", "a.txt": "a cat\na dog\n", "a.jsonl": '"a cat"\n"a dog"\n'}
    path = _write(tmp_path, name, first[name])
    with path.open("r+b") as file:
        file.truncate(1 << 30)
    tracemalloc.start()
    suite = read_suite(path, limit=2)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [case.prompt for case in suite.cases] == ["a cat", "a dog"]
    assert most < 100 << 20


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.sampled_from(["a.csv", "a.txt", "a.jsonl", "a.parquet"]), st.binary(max_size=300) | st.text())
def test_any_bytes_are_a_suite_or_one_sentence(name: str, data: Any) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data.encode("utf-8", "replace") if isinstance(data, str) else data)
        try:
            suite = read_suite(path)
        except RequestError:
            return
    assert all(case.prompt.strip() for case in suite.cases)
    assert json.dumps(suite.digest)
