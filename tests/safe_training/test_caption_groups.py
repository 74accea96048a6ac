"""Groups of captions."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.errors import RequestError
from safelight.safe_training.cleaning import CaptionGroups


def test_whole_words_in_any_case_and_number() -> None:
    groups = CaptionGroups(words={"people": ("man", "old woman"), "tools": ("axe",)})
    assert groups.of("Two MEN and a man's axes.") == ["people", "tools"]
    assert groups.of("an old  woman") == ["people"]
    assert groups.of("a manly woman with a taxe") == []


def test_the_packaged_groups() -> None:
    assert CaptionGroups.load().of("A nurse with her child") == ["children", "medicine"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("people = []", "line 1: people must be a list of words"),
        ('\npeople = "man"', "line 2: people must be"),
        ("people = [", "not valid TOML"),
    ],
)
def test_invalid_files(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "groups.toml").write_text(text)
    with pytest.raises(RequestError, match=said):
        CaptionGroups.load(tmp_path / "groups.toml")
