"""Training data in every format, intact and damaged."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from pyarrow import ipc, parquet

from safelight.errors import RequestError
from safelight.safe_training.cleaning import Form, shards_of
from safelight.safe_training.cleaning.plan import read_plan, write_plan
from safelight.safe_training.cleaning.sample import Sample
from safelight.safe_training.cleaning.sources.folder import folder_shards
from safelight.safe_training.cleaning.storage import Storage
from screens import encoded

PNG = encoded((1, 2, 3))


def _read(url: str | Path, **options: Any) -> list[Sample]:
    return [sample for shard in shards_of(str(url), **options) for sample in shard.samples()]


def _captions(samples: list[Sample]) -> dict[str, str | None]:
    return {each.id: each.caption for each in samples if not each.problem}


def _problems(samples: list[Sample]) -> dict[str, str]:
    return {each.id: each.problem for each in samples if each.problem}


def _folder(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def _tar(path: Path, files: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


def test_a_folder_with_captions_beside_the_images(tmp_path: Path) -> None:
    _folder(
        tmp_path,
        {
            "b.png": PNG, "b.txt": "a dog\n", "a/c.JPG": PNG, "a/c.json": '{"caption": "a cat"}',
            "d.png": PNG, "e.json": '{"caption": "nothing"}', "f.png": PNG, "f.txt": b"\xff\xfe\xff",
        },
    )  # fmt: skip
    samples = _read(tmp_path)
    assert _captions(samples) == {"a/c.JPG": "a cat", "b.png": "a dog", "d.png": None}
    assert _problems(samples) == {
        "e.json": "there is no image for this caption.",
        "f.png": "its caption is not UTF-8 text.",
    }
    assert [each.id for each in samples] == sorted(each.id for each in samples)
    assert samples[0].image == PNG


@pytest.mark.parametrize(
    ("table", "content"),
    [
        ("metadata.jsonl", '{"file_name": "a.png", "text": "a dog"}\n\n{broken\n{"file_name": "gone.png"}\n'),
        ("captions.csv", "﻿path,caption\na.png,a dog\ngone.png,\n"),
        ("captions.json", '[{"image": "a.png", "caption": "a dog"}, {"image": "gone.png"}]'),
    ],
)
def test_a_folder_with_captions_in_a_table(table: str, content: str, tmp_path: Path) -> None:
    _folder(tmp_path, {"a.png": PNG, "b.png": PNG, table: content})
    samples = _read(tmp_path)
    assert _captions(samples) == {"a.png": "a dog", "b.png": None}
    assert list(_problems(samples)) == ["gone.png"]


def test_an_image_with_several_captions_is_several_samples(tmp_path: Path) -> None:
    rows = [{"path": "x/a.png", "caption": words} for words in ("a dog", "a hound")]
    _folder(tmp_path, {"in/x/a.png": PNG, "in/captions.jsonl": "\n".join(map(json.dumps, rows))})
    assert _captions(_read(tmp_path)) == {"in/x/a.png": "a dog", "in/x/a.png#2": "a hound"}


def test_images_outside_of_the_data_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(PNG)
    rows = "file_name,text\n../secret.png,a dog\nhttp://127.0.0.1/a.png,a cat\n"
    _folder(tmp_path / "data", {"metadata.csv": rows, "a.png": PNG})
    samples = _read(tmp_path / "data")
    assert list(_captions(samples)) == ["a.png"]
    assert set(_problems(samples).values()) == {"it cannot be read: its image is outside of the data."}
    table = pa.table({"image": ["../secret.png", "a.png", "http://127.0.0.1/a.png", None]})
    parquet.write_table(table, tmp_path / "data" / "t.parquet")
    (tmp_path / "data" / "a.png").rename(tmp_path / "data" / "b.png")
    assert len(_problems(_read(tmp_path / "data" / "t.parquet"))) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_followed_within_the_data_only(tmp_path: Path) -> None:
    _folder(
        tmp_path, {"secret/a.png": PNG, "secret/b.txt": "secret", "data/real/a.png": PNG, "data/b.png": PNG}
    )
    data = tmp_path / "data"
    (data / "in.png").symlink_to("real/a.png")
    (data / "out.png").symlink_to("../secret/a.png")
    (data / "b.txt").symlink_to(tmp_path / "secret" / "b.txt")
    (data / "broken.png").symlink_to("nowhere")
    (data / "circle.png").symlink_to("circle.png")
    os.mkfifo(data / "pipe.png")
    (tmp_path / "link").symlink_to("data")
    for folder in (data, tmp_path / "link"):
        samples = _read(folder)
        assert list(_captions(samples)) == ["in.png", "real/a.png"]
        assert not any(each.image or each.caption for each in samples if each.problem)
        problems = _problems(samples)
        assert (
            problems["out.png"]
            == problems["b.png"]
            == "it cannot be read: it is a link that leads out of the data."
        )
        assert problems["pipe.png"] == "it cannot be read: it is not a file."
        assert {"broken.png", "circle.png"} <= problems.keys()
    _tar(tmp_path / "secret" / "a.tar", [("0.png", PNG)])
    (tmp_path / "tars").mkdir()
    (tmp_path / "tars" / "a.tar").symlink_to("../secret/a.tar")
    (only,) = _problems(_read(tmp_path / "tars")).values()
    assert "a link that leads out of the data" in only


def test_a_caption_that_has_changed_since_the_data_was_listed_is_not_used(tmp_path: Path) -> None:
    rows = [{"path": f"{name}.png", "caption": f"a {name}"} for name in ("cat", "dog", "hen")]
    _folder(tmp_path, {f"{row['path']}": PNG for row in rows})
    table = tmp_path / "captions.jsonl"
    table.write_text("\n".join(map(json.dumps, rows)))
    shards = shards_of(str(tmp_path))
    write_plan(tmp_path / "plan", shards)
    assert "a cat" not in (tmp_path / "plan").read_text()
    table.write_text("\n".join(map(json.dumps, [rows[0], {**rows[1], "caption": "a gun"}])))
    samples = [sample for shard in read_plan(tmp_path / "plan") for sample in shard.samples()]
    assert _captions(samples) == {"cat.png": "a cat"}
    assert set(_problems(samples).values()) == {"its caption has changed since the data was listed."}


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "7",
        "{}",
        "[" * 10_000,
        '{"kind": "Nothing"}',
        '{"kind": "TarShard"}',
        '{"kind": "FolderShard", "name": "0", "url": "u", "entries": '
        '[{"id": "a", "image": "a", "caption": "a dog"}]}',
    ],
    ids=lambda line: line[:40],
)
def test_a_plan_that_is_damaged_or_has_captions_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "plan").write_text(line + "\n")
    with pytest.raises(RequestError, match="is damaged, or of an earlier version"):
        read_plan(tmp_path / "plan")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_files_are_read_as_webdataset_does(mode: str, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    files = [
        ("dir/000.png", PNG), ("dir/000.txt", b"a dog"), ("dir/000.json", b'{"caption": "another"}'),
        ("001.jpg", PNG), ("001.json", b'{"caption": "a cat"}'), ("002.seg.png", b"x"), ("002.png", PNG),
    ]  # fmt: skip
    path = _tar(tmp_path / ("a.tar.gz" if mode == "w:gz" else "a.tar"), files, mode)
    samples = _read(path)
    assert _captions(samples) == {
        f"{path.name}/dir/000": "a dog",
        f"{path.name}/001": "a cat",
        f"{path.name}/002": None,
    }
    theirs = webdataset.WebDataset(str(path), shardshuffle=False)
    assert [each["__key__"] for each in theirs] == [each.key for each in samples]
    assert all(each.image == PNG for each in samples)


def test_broken_tar_files_lose_nothing_that_can_be_read(tmp_path: Path) -> None:
    big = encoded((9, 9, 9), 4000)
    files = [("0.png", PNG), ("0.txt", b"a dog"), ("1.txt", b"alone"), ("0.png", PNG), ("2.png", big)]
    whole = _tar(tmp_path / "a.tar", files).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: whole.rindex(big) + 20])
    samples = _read(tmp_path)
    assert _captions(samples) == {"a.tar/0": "a dog"}
    problems = _problems(samples)
    assert problems["a.tar/1"] == "there is no image for this caption."
    assert "same name" in problems["a.tar/0#2"]
    assert "damaged from here on" in problems["a.tar/2"]
    assert len(samples) == 4
    (tmp_path / "a.tar").write_bytes(b"no tar at all" * 100)
    assert list(_problems(_read(tmp_path))) == ["a.tar#end"]


def test_parquet_in_row_groups_with_bytes_or_paths(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(PNG)
    cells = [{"bytes": PNG, "path": None}, {"bytes": None, "path": "images/1.png"}, None]
    table = pa.table({"image": cells, "TEXT": ["a dog", None, "a cat"], "uid": [7, 8, 9]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    shards = shards_of(str(tmp_path))
    assert [shard.name for shard in shards] == ["a.parquet-0", "a.parquet-1"]
    samples = _read(tmp_path)
    assert [(each.id, each.key) for each in samples] == [
        ("a.parquet#0", "7"),
        ("a.parquet#1", "8"),
        ("a.parquet#2", "9"),
    ]
    assert _captions(samples) == {"a.parquet#0": "a dog", "a.parquet#1": None}
    assert _problems(samples) == {"a.parquet#2": "it cannot be read: there is no image in this row."}


def test_columns_can_be_named_and_must_be_there(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"photo": [PNG], "alt": ["a dog"]}), tmp_path / "a.parquet")
    with pytest.raises(RequestError, match="--image-column"):
        _read(tmp_path)
    with pytest.raises(RequestError, match='did you mean "photo"'):
        _read(tmp_path, image="photos")
    assert _captions(_read(tmp_path, image="photo", caption="alt")) == {"a.parquet#0": "a dog"}


def test_damaged_parquet_files_are_reported(tmp_path: Path) -> None:
    parquet.write_table(
        pa.table({"png": [PNG] * 50, "text": ["a dog"] * 50}), tmp_path / "a.parquet", compression="none",
        use_dictionary=False,
    )  # fmt: skip
    whole = bytearray((tmp_path / "a.parquet").read_bytes())
    whole[4:60] = b"\xff" * 56
    (tmp_path / "a.parquet").write_bytes(whole)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    samples = _read(tmp_path)
    assert len(samples) == 51
    assert "cannot be read as Parquet" in _problems(samples)["b.parquet"]
    assert len(_problems(samples)) >= 2


def test_a_data_set_that_the_datasets_library_saved(tmp_path: Path) -> None:
    """It has Arrow streams, two JSON files and caches."""
    table = pa.table({"image": [{"bytes": PNG, "path": None}] * 2, "text": ["a dog", "a cat"]})
    for name in ("data-00000-of-00001.arrow", "cache-1.arrow"):
        with ipc.new_stream(tmp_path / name, table.schema) as stream:
            stream.write_table(table)
    _folder(tmp_path, {"state.json": "{}", "dataset_info.json": "{}"})
    assert _captions(_read(tmp_path)) == {
        "data-00000-of-00001.arrow#0": "a dog",
        "data-00000-of-00001.arrow#1": "a cat",
    }


def test_a_file_alone_is_read_as_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This includes images by path, and the ids are the same."""
    table = pa.table({"image": [{"bytes": None, "path": "images/1.png"}], "text": ["a dog"]})
    _folder(tmp_path, {"set/images/1.png": PNG})
    parquet.write_table(table, tmp_path / "set" / "a.parquet")
    parquet.write_table(table, tmp_path / "set" / "b.parquet")
    with ipc.new_stream(tmp_path / "set" / "c.arrow", table.schema) as stream:
        stream.write_table(table)
    _tar(tmp_path / "set" / "d.tar", [("1.png", PNG), ("1.txt", b"a cat")])
    monkeypatch.chdir(tmp_path / "set")
    whole = f"file://{tmp_path}/set"
    for folder in (".", str(tmp_path / "set"), whole):
        at = "" if folder == "." else f"{folder}/"
        assert _captions(_read(f"{at}a.parquet")) == {"a.parquet#0": "a dog"}
        assert _captions(_read(f"{at}c.arrow")) == {"c.arrow#0": "a dog"}
        assert _captions(_read(f"{at}d.tar")) == {"d.tar/1": "a cat"}
        assert _captions(_read(f"{at}images/1.png")) == {"1.png": None}


def test_a_file_alone_behind_a_chain_of_urls(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(_tar(tmp_path / "d.tar", [("1.png", PNG), ("1.txt", b"a cat")]), "d.tar")
        archive.write(tmp_path / "d.tar", "deep/e.tar")
    assert _captions(_read(f"zip://d.tar::{tmp_path}/a.zip")) == {"d.tar/1": "a cat"}
    assert _captions(_read(f"zip://deep/e.tar::{tmp_path}/a.zip")) == {"e.tar/1": "a cat"}


def test_a_format_without_files(tmp_path: Path) -> None:
    _folder(tmp_path, {"a.png": PNG})
    with pytest.raises(RequestError, match=r"has no \.parquet files"):
        _read(tmp_path, form=Form.PARQUET)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket of an S3 server on this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "of-a-test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made = boto3.resource("s3").Bucket("bucket")
    made.create()
    yield made
    server.stop()
    fsspec.filesystem("s3").clear_instance_cache()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_data_in_a_bucket(bucket: Any, tmp_path: Path) -> None:
    """Read all formats, and a file that disappears while it is read."""
    table = pa.table({"image": [{"bytes": None, "path": "images/1.png"}], "text": ["a dog"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    files = {
        "folder/a.png": PNG, "folder/a.txt": b"a cat", "folder/b.png": PNG,
        "tars/d.tar": _tar(tmp_path / "d.tar", [("1.png", PNG), ("1.txt", b"a cow")]).read_bytes(),
        "tables/a.parquet": (tmp_path / "a.parquet").read_bytes(), "tables/images/1.png": PNG,
    }  # fmt: skip
    for name, content in files.items():
        bucket.put_object(Key=name, Body=content)
    assert _captions(_read("s3://bucket/folder")) == {"a.png": "a cat", "b.png": None}
    assert _captions(_read("s3://bucket/tars")) == {"d.tar/1": "a cow"}
    assert _captions(_read("s3://bucket/tars/d.tar")) == {"d.tar/1": "a cow"}
    assert _captions(_read("s3://bucket/tables/a.parquet")) == {"a.parquet#0": "a dog"}
    shards = shards_of("s3://bucket/folder"), shards_of("s3://bucket/tars")
    for name in ("folder/b.png", "tars/d.tar"):
        bucket.Object(name).delete()
    left = [sample for each in shards for shard in each for sample in shard.samples()]
    assert set(_captions(left)) == {"a.png"}
    assert set(_problems(left)) == {"b.png", "d.tar#end"}
    with pytest.raises(RequestError, match="nothing in s3://bucket/nowhere"):
        _read("s3://bucket/nowhere")
    with pytest.raises(RequestError, match="nothing in s3://no-such-bucket"):
        _read("s3://no-such-bucket/folder")


def test_data_behind_a_url() -> None:
    system = fsspec.filesystem("memory")
    system.pipe({"/set/a.png": PNG, "/set/a.txt": b"a dog"})
    assert _captions(_read("memory://set")) == {"a.png": "a dog"}


@pytest.mark.parametrize("url", ["nowhere", "nosuch://bucket/data"])
def test_missing_data_is_an_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nowhere|nosuch"):
        shards_of(url if "://" in url else str(tmp_path / url))
    with pytest.raises(RequestError, match="no images"):
        shards_of(str(_folder(tmp_path / "texts", {"a.txt": "a dog"})))


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    _folder(tmp_path / "f", {"a.png": PNG, "a.txt": "a dog"})
    _tar(tmp_path / "a.tar", [("0.png", PNG)])
    parquet.write_table(pa.table({"png": [PNG]}), tmp_path / "a.parquet")
    shards = [each for name in ("f", "a.tar", "a.parquet") for each in shards_of(str(tmp_path / name))]
    write_plan(tmp_path / "plan.jsonl", shards)
    assert list(read_plan(tmp_path / "plan.jsonl")) == shards


def test_the_format_can_be_given(tmp_path: Path) -> None:
    _folder(tmp_path, {"a.png": PNG})
    _tar(tmp_path / "a.tar", [("0.png", PNG)])
    assert list(_captions(_read(tmp_path))) == ["a.tar/0"]
    assert list(_captions(_read(tmp_path, form=Form.FOLDER))) == ["a.png"]


@pytest.mark.parametrize(
    ("images", "sizes"), [(1, [1]), (90, [32, 32, 26]), (5000, [64] * 78 + [8]), (103_000, [1024] * 100)]
)
def test_workers_finish_a_folder_at_nearly_the_same_time(
    images: int, sizes: list[int], tmp_path: Path
) -> None:
    shards = folder_shards(Storage(str(tmp_path)), [f"{i}.png" for i in range(images)])
    assert [len(shard.entries) for shard in shards][: len(sizes)] == sizes
    assert sum(len(shard.entries) for shard in shards) == images
