from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from safelight.errors import RequestError
from safelight.filters.text.training.corpus import read_corpus


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist(rows), path)
    return path


def _row(prompt: str, label: str, categories: list[str] | None, source: str) -> dict[str, Any]:
    return {"prompt": prompt, "label": label, "categories": categories, "source": source, "id": prompt}


def test_prompts_carry_our_categories_and_their_family(tmp_path: Path) -> None:
    rows = [
        _row("a sword fight", "unsafe", ["Violence", "Shocking"], "coprov2_train"),
        _row("a fencing class", "safe", ["safe_counterpart:Violence"], "coprov2_test"),
        _row("something bad", "unsafe", ["Harm"], "six_cd_dual"),
        _row("a dog", "safe", None, "coco_captions"),
        _row("a dog", "safe", None, "coco_captions"),
        _row("a sword fight", "safe", None, "coco_captions"),
    ]
    texts = read_corpus(_write(tmp_path / "prompts.parquet", rows))
    assert [text.family for text in texts] == ["coprov2", "coprov2", "six_cd", "coco_captions"]
    assert [sorted(text.categories) for text in texts] == [["violence", "violence.graphic"], [], [""], []]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read as labelled prompts"):
        read_corpus(tmp_path / "none.parquet")
    with pytest.raises(RequestError, match=r"columns|cannot be read"):
        read_corpus(_write(tmp_path / "other.parquet", [{"text": "a dog"}]))
    with pytest.raises(RequestError, match='the label "Unsafe"'):
        read_corpus(_write(tmp_path / "labels.parquet", [_row("a gun", "Unsafe", None, "six_cd")]))
