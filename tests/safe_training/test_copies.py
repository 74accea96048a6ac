"""Copies of kept and rejected samples, in the format and shards of the data."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Set
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from safelight.errors import RequestError
from safelight.safe_training.cleaning import shards_of
from safelight.safe_training.cleaning.copies import copy_samples
from safelight.safe_training.cleaning.sample import Sample, Shard
from safelight.storage.atomic_write import path_inside
from screens import encoded

IMAGES = [encoded((0, i, 0)) for i in range(10)]


def _samples(folder: Path) -> list[Sample]:
    return [sample for shard in shards_of(str(folder)) for sample in shard.samples()]


def _even(shards: list[Shard]) -> Callable[[int], Set[str]]:
    """Return every other sample of the data set, starting with the first."""
    names = [[sample.id for sample in shard.samples()] for shard in shards]
    every = [name for part in names for name in part]
    return lambda number: set(every[::2]) & set(names[number])


def _copied(source: Path, folder: Path) -> None:
    shards = list(shards_of(str(source)))
    copy_samples(shards, _even(shards), folder, "1")


def _tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, BytesIO(content))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def test_a_folder(source: Path, tmp_path: Path) -> None:
    for i, image in enumerate(IMAGES):
        (source / f"{i % 2}").mkdir(exist_ok=True)
        (source / f"{i % 2}" / f"{i}.png").write_bytes(image)
        if i < 5:
            (source / f"{i % 2}" / f"{i}.txt").write_text(f"number {i}")
    rows = [{"file_name": f"1/{i}.png", "text": f"told {i}"} for i in (5, 7)]
    (source / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    _copied(source, tmp_path / "copy")
    before = {each.id: each for each in _samples(source)}
    after = {each.id: each for each in _samples(tmp_path / "copy")}
    assert after == {name: before[name] for name in list(before)[::2]}
    assert {each.caption for each in after.values()} > {"number 0", "told 7"}


def test_tar_files_with_all_that_belongs_to_a_sample(source: Path, tmp_path: Path) -> None:
    def members(numbers: range) -> list[tuple[str, bytes]]:
        both = [[(f"{i}.png", IMAGES[i]), (f"{i}.txt", b"a dog"), (f"{i}.cls", b"3")] for i in numbers]
        return [member for each in both for member in each]

    _tar(source / "a.tar", members(range(4)))
    _tar(source / "b.tar.gz", members(range(4, 10)), "w:gz")
    (source / "cut.tar").write_bytes((source / "a.tar").read_bytes()[:2100])
    _copied(source, tmp_path / "copy")
    with tarfile.open(tmp_path / "copy" / "a.tar") as archive:
        assert archive.getnames() == ["0.png", "0.txt", "0.cls", "2.png", "2.txt", "2.cls"]
    with tarfile.open(tmp_path / "copy" / "b.tar") as archive:
        assert archive.getnames()[::3] == ["4.png", "6.png", "8.png"]
        assert archive.extractfile("4.png").read() == IMAGES[4]  # type: ignore[union-attr]
    with tarfile.open(tmp_path / "copy" / "cut.tar") as archive:
        assert archive.getnames()[0] == "0.png"
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {"a.tar", "b.tar", "cut.tar", ".copied"}


def test_dangerous_metadata_of_a_tar_file_is_not_copied(source: Path, tmp_path: Path) -> None:
    odd = ["../../up.png", "/root.png", "C:/drive.png", "a\\..\\..\\b.png", "x/../../y.png"]
    with tarfile.open(source / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for number, name in enumerate([*odd, "good.png"]):
            about = tarfile.TarInfo(name)
            about.size, about.mode, about.mtime, about.uname = len(IMAGES[number]), 0o7755, 1.5, "somebody"
            about.pax_headers = {"SCHILY.xattr.security.capability": "all of them"}
            archive.addfile(about, BytesIO(IMAGES[number]))
        for name, kind in (
            ("l.png", tarfile.SYMTYPE),
            ("h.png", tarfile.LNKTYPE),
            ("d.png", tarfile.CHRTYPE),
        ):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, "/etc/passwd"
            archive.addfile(about)
    samples = _samples(source)
    problems = [each.problem for each in samples if each.problem]
    assert len(problems) == len(odd)
    assert set(problems) == {"its name leads out of the folder that it would be unpacked into."}
    shards = list(shards_of(str(source)))
    copy_samples(shards, lambda _: {each.id for each in samples}, tmp_path / "copy", "1")
    with tarfile.open(tmp_path / "copy" / "a.tar") as archive:
        (member,) = archive.getmembers()
        assert (member.name, member.mode, member.uname, member.mtime) == ("good.png", 0o755, "", 1.5)
        assert "SCHILY.xattr.security.capability" not in member.pax_headers
        assert archive.extractfile(member).read() == IMAGES[len(odd)]  # type: ignore[union-attr]


def test_a_time_that_tar_files_cannot_store(source: Path, tmp_path: Path) -> None:
    with tarfile.open(source / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, time in (("a.png", "nan"), ("b.png", "-1e300"), ("c.png", "1e300")):
            about = tarfile.TarInfo(name)
            about.size, about.pax_headers = len(IMAGES[0]), {"mtime": time}
            archive.addfile(about, BytesIO(IMAGES[0]))
    shards = list(shards_of(str(source)))
    copy_samples(shards, lambda _: {each.id for each in _samples(source)}, tmp_path / "copy", "1")
    with tarfile.open(tmp_path / "copy" / "a.tar") as archive:
        assert [member.mtime for member in archive.getmembers()] == [0, 0, 0]


@pytest.mark.parametrize(
    "path", ["../up", "/root", "a/../../b", "C:\\a", "\\\\server\\a", "a\0b", "..\\b", ".."]
)
def test_nothing_is_written_outside_the_folder(path: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="leads out of the folder"):
        path_inside(tmp_path / "in", path)
    assert not list(tmp_path.iterdir())


def test_tables_with_all_columns_and_groups(source: Path, tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": each, "path": None} for each in IMAGES], "width": range(10)})
    parquet.write_table(table, source / "a.parquet", row_group_size=4)
    _copied(source, tmp_path / "copy")
    copy = parquet.ParquetFile(tmp_path / "copy" / "a.parquet")
    assert copy.read().to_pylist() == table.to_pylist()[::2]
    assert [copy.metadata.row_group(i).num_rows for i in range(copy.num_row_groups)] == [2, 2, 1]


def test_a_saved_data_set(source: Path, tmp_path: Path) -> None:
    table = pa.table({"image": [{"bytes": each, "path": None} for each in IMAGES], "text": ["a"] * 10})
    with ipc.new_stream(source / "a.arrow", table.schema) as stream:
        stream.write_table(table)
    _copied(source, tmp_path / "copy")
    with ipc.open_stream(tmp_path / "copy" / "a.arrow") as copy:
        assert copy.read_all().to_pylist() == table.to_pylist()[::2]


class _StoppedError(Exception):
    """Stands for anything that stops a program."""


def test_an_interrupted_copy_resumes_and_another_version_replaces_it(source: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        parquet.write_table(pa.table({"image": IMAGES}), source / f"{name}.parquet")
    shards = list(shards_of(str(source)))
    even, asked = _even(shards), list[int]()

    def ids(number: int) -> Set[str]:
        asked.append(number)
        return even(number)

    def stopping(done: int) -> None:
        if done == 2:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        copy_samples(shards, ids, tmp_path / "copy", "1", stopping)
    assert not (tmp_path / "copy").exists()
    copy_samples(shards, ids, tmp_path / "copy", "1")
    copy_samples(shards, ids, tmp_path / "copy", "1")
    assert asked == [0, 1, 0, 1, 2]
    assert len(_samples(tmp_path / "copy")) == 15
    copy_samples(shards, lambda number: {f"{'abc'[number]}.parquet#3"}, tmp_path / "copy", "2")
    assert len(_samples(tmp_path / "copy")) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"source", "copy"}


def test_a_copy_that_cannot_be_written_is_an_error_and_loses_nothing(source: Path, tmp_path: Path) -> None:
    """A full disk must not be mistaken for a damaged source."""
    _tar(source / "a.tar", [("0.png", IMAGES[0])])
    shards = list(shards_of(str(source)))
    (tmp_path / "copy.part").mkdir()
    (tmp_path / "copy.part" / "a.tar.part").mkdir()
    (tmp_path / "copy.part" / ".copied").write_text('"1"\n')
    with pytest.raises(OSError, match=r"a\.tar\.part"):
        copy_samples(shards, _even(shards), tmp_path / "copy", "1")
    assert not (tmp_path / "copy").exists()
