from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from safelight.errors import FilterError
from safelight.filters.image.hash_lists import Entry, HashList, read_entries

PDQ = "f8f8f0cee0f4a84f06370a22038f63f0b36e2ed596621e1d33e6b39c4e9c9b22"
SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
MD5 = "d41d8cd98f00b204e9800998ecf8427e"


def _entries(name: str, text: str) -> list[Entry]:
    return list(read_entries(Path(name), text.encode()))


def _entry(kind: str, hashed: str, name: str) -> Entry:
    return Entry(kind, bytes.fromhex(hashed), name)


def test_plain_lists_have_types_ids_and_comments() -> None:
    text = f"""# ours
pdq {PDQ} a-1
HASH_SHA256 {SHA256.upper()}\t b 2   # with a comment

{MD5}
{MD5}  image#1.png
"""
    assert _entries("known.txt", text) == [
        _entry("pdq", PDQ, "a-1"),
        _entry("sha256", SHA256, "b 2"),
        _entry("md5", MD5, "line 5"),
        _entry("md5", MD5, "image#1.png"),
    ]


def test_64_digits_without_a_type_may_be_either() -> None:
    assert _entries("known", f"\ufeff{PDQ}\r\n") == [
        _entry("pdq", PDQ, "line 1"),
        _entry("sha256", PDQ, "line 1"),
    ]


def test_the_csv_of_threatexchanges_command_line_is_read() -> None:
    """``threatexchange dataset -P --csv`` and ``threatexchange api fb_threatexchange query`` of 1.2.17."""
    dataset = (
        "signal_type,signal_str,collab,category,tags\r\n"
        f"pdq,{PDQ},Sample Data,POSITIVE_CLASS,one two\r\n"
        f"pdq,{PDQ[::-1]},Sample Data,NEGATIVE_CLASS,\r\n"
    )
    assert _entries("known.csv", dataset) == [_entry("pdq", PDQ, "line 2")]
    query = (
        "id,indicator,type,status,tags,owner_id\r\n"
        f'30,{PDQ},HASH_PDQ,MALICIOUS,"one\ntwo",7\r\n'
        f"31,{MD5},HASH_MD5,UNKNOWN,,7\r\n"
        f"32,{SHA256},HASH_SHA256,NON_MALICIOUS,,7\r\n"
    )
    assert _entries("known.CSV", query) == [_entry("pdq", PDQ, "30"), _entry("md5", MD5, "31")]


def test_the_csv_of_threatexchanges_web_pages_is_read() -> None:
    text = f"td_status,td_raw_indicator,td_indicator\nMALICIOUS,{MD5},[object Object]\n"
    assert _entries("known.csv", text) == [_entry("md5", MD5, "line 2")]


def test_the_json_of_threatexchange_is_read() -> None:
    harmful = {"id": "3", "raw_indicator": PDQ, "type": "HASH_PDQ", "status": "MALICIOUS", "indicator": {}}
    harmless = {"id": "4", "raw_indicator": MD5, "type": "HASH_MD5", "status": "NON_MALICIOUS"}
    expected = [_entry("pdq", PDQ, "3")]
    assert _entries("a.json", json.dumps({"data": [harmful, harmless], "paging": {}})) == expected
    assert _entries("a.json", json.dumps([harmless, harmful])) == expected
    assert _entries("a.jsonl", f"{json.dumps(harmful)}\n\n{json.dumps(harmless)}\n") == expected


def test_one_record_may_have_several_hashes() -> None:
    record = {"path": "a.png", "pdq": PDQ, "quality": 90, "sha256": SHA256, "md5": MD5}
    everything = [_entry("pdq", PDQ, "a.png"), _entry("sha256", SHA256, "a.png"), _entry("md5", MD5, "a.png")]
    assert _entries("a.jsonl", json.dumps(record)) == everything
    assert _entries("a.jsonl", json.dumps({**record, "pdq": None})) == everything[1:]
    assert _entries("a.csv", f"id,pdq,sha256,md5\na.png,{PDQ},{SHA256},{MD5}\n") == everything


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.txt", f"{PDQ}\n\n{PDQ[1:]}", f'line 3: "{PDQ[1:]}" is not a hash'),
        ("a.txt", f"{MD5}\npdq", "line 2: there is no hash"),
        ("a.txt", f"{MD5},1", "line 1: "),
        ("a.txt", f"md5 {PDQ}", "line 1: a md5 hash has 32 hexadecimal digits"),
        ("a.txt", f"pdq {MD5}", "line 1: a pdq hash has 64"),
        ("a.csv", f"{PDQ}\n{PDQ}\n", "line 1: there is no column of hashes"),
        (
            "a.csv",
            f"signal_type,signal_str\npdq,{PDQ}\nvideo_md5,{MD5}\n",
            'line 3: "video_md5" hashes are not supported',
        ),
        ("a.csv", f"id,md5\n1,{MD5}\n2,\n", "line 3: there is no hash"),
        ("a.csv", f'id,md5\n1,{MD5}\n"2"x,{MD5}\n', "line 3: this is not valid CSV"),
        ("a.csv", f"id,md5\n1,{MD5}\n\n3,zz\n", 'line 4: "zz" is not a hash'),
        ("a.jsonl", f'{{"md5": "{MD5}"}}\n{{"md5": ', "line 2: this is not valid JSON"),
        ("a.jsonl", f'{{"md5": "{MD5}"}}\n[1]', "line 2: this is not a JSON object"),
        ("a.jsonl", '{"md5": 12}', 'line 1: "12" is not a hash'),
        ("a.json", '{\n"data": [\n', "line 3: this is not valid JSON"),
        ("a.json", '{"data": {}}', "line 1: this is neither a list of entries"),
        ("a.json", f'[{{"md5": "{MD5}"}}, {{}}]', "entry 2: there is no hash"),
        ("a.json", "[" * 100_000, "line 1: this is not valid JSON"),
    ],
)
def test_a_bad_line_is_named(name: str, text: str, sentence: str) -> None:
    with pytest.raises(FilterError) as caught:
        _entries(name, text)
    assert str(caught.value).startswith(f"{name}, {sentence}")


def test_bytes_that_are_no_text_are_named() -> None:
    with pytest.raises(FilterError, match=r"a\.txt, line 2: this is not UTF-8 text"):
        list(read_entries(Path("a.txt"), b"# ours\n\xff\n"))


@given(st.sampled_from(["a.txt", "a.csv", "a.json", "a.jsonl"]), st.binary() | st.text().map(str.encode))
@example("a.csv", b"md5\n\0")
@example("a.csv", b'"')
@example("a.json", b"1" * 5000)
def test_whatever_is_in_a_file_it_is_entries_or_an_error_that_names_it(name: str, data: bytes) -> None:
    try:
        entries = list(read_entries(Path(name), data))
    except FilterError as error:
        assert str(error).startswith(f"{name}, ")  # noqa: PT017 - either is right
    else:
        assert all(len(entry.digest) == (16 if entry.kind == "md5" else 32) for entry in entries)


_HASHES = st.tuples(st.sampled_from(["pdq", "sha256", "md5"]), st.binary(min_size=32, max_size=32)).map(
    lambda pair: Entry(pair[0], pair[1][: 16 if pair[0] == "md5" else 32], "x")
)


@given(st.lists(_HASHES))
def test_every_format_gives_back_what_was_written(entries: list[Entry]) -> None:
    rows: list[Any] = [{"type": e.kind, "hash": e.digest.hex(), "id": e.id} for e in entries]
    written = {
        "a.txt": "".join(f"{e.kind} {e.digest.hex()} {e.id}\n" for e in entries),
        "a.csv": "type,hash,id\n" + "".join(f"{','.join(row.values())}\n" for row in rows),
        "a.json": json.dumps(rows),
        "a.jsonl": "\n".join(map(json.dumps, rows)),
    }
    for name, text in written.items():
        assert _entries(name, text) == entries


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "\n\n"])
def test_an_empty_list_is_an_error(tmp_path: Path, text: str) -> None:
    for name in ("a.txt", "a.jsonl") if text.startswith("\n") else ("a.txt",):
        (tmp_path / name).write_text(text)
        with pytest.raises(FilterError, match=r"contains no hashes"):
            HashList.read(tmp_path / name)


def test_a_list_of_harmless_images_only_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"indicator,status\n{PDQ},NON_MALICIOUS\n")
    with pytest.raises(FilterError, match=r"contains no hashes"):
        HashList.read(path)


def test_a_list_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FilterError, match=r"nowhere.txt cannot be read: No such file"):
        HashList.read(tmp_path / "nowhere.txt")


def test_the_first_of_two_equal_entries_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{MD5} first\n{MD5} second\n")
    assert HashList.read(path).exact([bytes.fromhex(MD5)]) == "first"
    assert HashList.read(path).exact([bytes(16)]) is None
