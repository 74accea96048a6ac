"""Blind naming of a model's images: sheets to read, and the comparison of the answers with the key."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from safelight.cli.app import app
from safelight.errors import RequestError
from safelight.experiments.naming import ANSWERS, KEY, evaluate_naming
from safelight.storybook.vocabulary import LABELS

ABOUT = {"model": "storybook", "seed": 0, "steps": 25, "weights_sha256": "0" * 64}


def _folder(tmp_path: Path, images: list[tuple[list[str], list[str], str]]) -> Path:
    """Write a key and answers: what was asked for, what the judge sees, and what the reader wrote."""
    key = [{"asked": asked, "judge": judge} for asked, judge, _ in images]
    (tmp_path / KEY).write_text(json.dumps({**ABOUT, "images": key}))
    lines = "".join(f"{number}\t{answer}\n" for number, (*_, answer) in enumerate(images, start=1))
    (tmp_path / ANSWERS).write_text(f"image\tlabels\n{lines}")
    return tmp_path


def _counts(results: dict[str, Any], table: str) -> dict[str, tuple[int, int]]:
    return {row["group"]: (row["k"], row["n"]) for row in results["tables"][table]}


def test_answers_are_compared_with_the_key(tmp_path: Path) -> None:
    folder = _folder(
        tmp_path,
        [
            (["dog"], ["dog"], "dog"),
            (["dog"], ["dog"], "cow"),
            (["fish"], [], "Fish, cup"),
            (["child", "cup"], ["child", "cup"], "cup , child"),
            (["bread", "knife"], ["bread", "knife"], "knife"),
            (["bird"], [], "-"),
        ],
    )
    results = evaluate_naming(folder)
    assert results == json.loads((folder / "results.json").read_text())
    single = _counts(results, "single objects named right")
    assert single == {"all": (2, 4), "bird": (0, 1), "dog": (1, 2), "fish": (1, 1)}
    assert _counts(results, "pairs: both named right") == {"all": (1, 2)}
    # The judge differs about the second dog, the fish and the bread; nobody sees the bird.
    assert _counts(results, "judge agrees with the reader") == {"all": (5, 8)}


@pytest.mark.parametrize(
    ("answer", "says"),
    [("", "image 1 has no answer"), ("doggo", '"doggo" is no label'), ("dog, a cat", '"a cat" is no label')],
)
def test_bad_answers_are_errors(tmp_path: Path, answer: str, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        evaluate_naming(_folder(tmp_path, [(["dog"], ["dog"], answer)]))


def test_files_that_are_missing_or_others_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no key of naming sheets"):
        evaluate_naming(tmp_path)
    folder = _folder(tmp_path, [(["dog"], ["dog"], "dog")])
    (folder / ANSWERS).write_text("number,labels\n1,dog\n")
    with pytest.raises(RequestError, match="needs the columns image and labels"):
        evaluate_naming(folder)
    (folder / KEY).write_text("[]")
    with pytest.raises(RequestError, match="no key of naming sheets"):
        evaluate_naming(folder)


def test_sheets_are_drawn_and_their_answers_are_compared(tmp_path: Path) -> None:
    order = ["evaluate", "naming-sheets", "--output", str(tmp_path / "sheets")]
    drawn = CliRunner().invoke(app, [*order, "--num-inference-steps", "1"])
    assert drawn.exit_code == 0, drawn.output
    images = json.loads((tmp_path / "sheets" / KEY).read_text())["images"]
    single = Counter(image["asked"][0] for image in images if len(image["asked"]) == 1)
    assert single == dict.fromkeys(LABELS, 3)
    assert len(images) == 204
    sheets = sorted((tmp_path / "sheets").glob("sheet-*.png"))
    assert len(sheets) == 7
    assert Image.open(sheets[0]).size == (6 * 214, 5 * 214)
    # A reader who sees nothing in noise.
    answers = (tmp_path / "sheets" / ANSWERS).read_text()
    (tmp_path / "sheets" / ANSWERS).write_text(answers.replace("\t\n", "\t-\n"))
    named = CliRunner().invoke(app, ["evaluate", "naming", str(tmp_path / "sheets"), "--json"])
    assert named.exit_code == 0, named.output
    assert _counts(json.loads(named.stdout), "pairs: both named right") == {"all": (0, 60)}
    again = CliRunner().invoke(app, order)
    assert again.exit_code != 0
    assert "answers.tsv exists already" in again.output
