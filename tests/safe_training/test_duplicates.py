"""Duplicate images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from safelight.errors import RequestError
from safelight.policy import Policy
from safelight.safe_training.cleaning import Cleaning, run_local, shards_of
from safelight.safe_training.cleaning.duplicates import Duplicates, first_of
from safelight.safe_training.cleaning.findings import Screened
from safelight.storybook import Storybook
from screens import POLICY, colours


def _screened(*samples: tuple[str, str, str | None]) -> list[tuple[int, Screened]]:
    """Return samples with these ids, files and hashes, numbered from 10."""
    return [(10 + i, Screened(name, "", file, pdq=pdq)) for i, (name, file, pdq) in enumerate(samples)]


def _bits(count: int) -> str:
    """Return a hash with the first ``count`` bits set."""
    return f"{(1 << 256) - (1 << (256 - count)):064x}"


def test_the_first_of_each_is_kept() -> None:
    samples = _screened(("a", "1", _bits(0)), ("b", "2", _bits(31)), ("c", "1", _bits(0)), ("d", "3", None))
    assert first_of(samples, Duplicates.KEEP) == {}
    assert first_of(samples, Duplicates.EXACT) == {12: "a"}
    assert first_of(samples, Duplicates.NEAR) == {11: "a", 12: "a"}


def test_near_duplicates_are_within_31_bits_of_a_kept_one() -> None:
    """The third is near the second only, which is rejected, so the third is kept."""
    samples = _screened(("a", "1", _bits(0)), ("b", "2", _bits(31)), ("c", "3", _bits(32)))
    assert first_of(samples, Duplicates.NEAR) == {11: "a"}


def test_an_image_may_have_several_captions() -> None:
    both = [Screened("a.png", "a.png", "1"), Screened("a.png#2", "a.png", "1"), Screened("b", "b", "1")]
    assert first_of(enumerate(both), Duplicates.EXACT) == {2: "a.png"}


@settings(deadline=None)
@given(st.lists(st.integers(0, 80), min_size=1, max_size=12))
def test_it_equals_comparing_all_pairs(counts: Sequence[int]) -> None:
    samples = [(i, Screened(str(i), "", str(i), pdq=_bits(count))) for i, count in enumerate(counts)]
    stay: list[int] = []
    gone: dict[int, str] = {}
    for i, count in enumerate(counts):
        if near := [j for j in stay if abs(counts[j] - count) <= 31]:
            gone[i] = str(near[0])
        else:
            stay.append(i)
    assert first_of(samples, Duplicates.NEAR) == gone


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Eight scenes; the first again as it is, and smaller as a JPEG."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i, scene in enumerate(Storybook(seed=5).scenes(8)):
        scene.image.resize((256, 256)).save(folder / f"{i}.png")
    (folder / "again.png").write_bytes((folder / "0.png").read_bytes())
    Image.open(folder / "0.png").resize((180, 180)).save(folder / "small.jpg", quality=80)
    return folder


def test_they_are_rejected_with_the_first_of_them(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("pdqhash")
    (tmp_path / "colours.toml").write_text(POLICY.replace("review = 0.3, block = 0.6", "block = 1"))
    policy = Policy.load(tmp_path / "colours.toml")

    def screened(out: Path, hashed: bool) -> Cleaning:
        cleaning, screens = Cleaning(out), partial(colours, tmp_path / "colours.toml")
        engine: Any = partial(run_local, workers=1)
        cleaning.screen(
            partial(shards_of, str(images)),
            screens,
            {},
            lambda task, shards, progress: engine(task, shards, progress=progress),
            hashed=hashed,
        )
        return cleaning

    cleaning = screened(tmp_path / "out", True)
    for kind, gone in ((Duplicates.KEEP, []), (Duplicates.EXACT, ["again.png"])):
        tally = cleaning.sort(policy, tmp_path / kind, duplicates=kind)
        assert tally.reasons["duplicate"] == len(gone)
    cleaning.sort(policy, tmp_path / "near", duplicates=Duplicates.NEAR)
    rows = parquet.read_table(tmp_path / "near" / "rejected.parquet").to_pylist()
    assert [(row["id"], row["reason"], row["detail"]) for row in rows] == [
        ("again.png", "duplicate", "its image is that of 0.png."),
        ("small.jpg", "duplicate", "its image is that of 0.png."),
    ]
    copy = cleaning.copy(tmp_path / "near", kept=True)
    assert sorted(path.name for path in copy.glob("*.*g")) == [f"{i}.png" for i in range(8)]
    with pytest.raises(RequestError, match="--duplicates near"):
        screened(tmp_path / "other", False).sort(policy, tmp_path / "other", duplicates=Duplicates.NEAR)


def test_images_with_too_little_detail_have_no_hash(images: Path) -> None:
    from safelight.hashing.pdq import MIN_QUALITY, PdqHasher

    pytest.importorskip("pdqhash")
    assert PdqHasher()(Image.new("RGB", (64, 64))).quality < MIN_QUALITY
    assert PdqHasher()(Image.open(images / "0.png")).quality >= MIN_QUALITY
