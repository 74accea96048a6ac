from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Transpose

from safelight import registry
from safelight.errors import FilterError
from safelight.filters.image.known_image import KnownImage
from safelight.guard.guard import Guard
from safelight.hashing.pdq import PdqHasher
from safelight.storybook import Storybook
from safelight.types import Finding, HashMatch

SCENES = [scene.image for scene in Storybook(seed=0).scenes(6)]
SHA256, MD5 = "12" * 32, "34" * 16


def _hex(image: Image.Image, flipped: int = 0) -> str:
    """The image's hash with its first bits flipped."""
    bits = np.unpackbits(PdqHasher()(image).orientations[0])
    bits[:flipped] ^= 1
    return np.packbits(bits).tobytes().hex()


def _write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def _found(known: KnownImage, *images: Image.Image) -> list[Sequence[Finding] | FilterError]:
    return list(known.find(images))


def _finding(bank: str, name: str, distance: int = 0, label: str = "csae") -> Finding:
    return Finding(label, 1.0, "known-image", HashMatch(bank, name, distance))


def test_a_known_image_is_found_and_another_is_not(tmp_path: Path) -> None:
    known = KnownImage(_write(tmp_path / "ours.txt", f"pdq {_hex(SCENES[0])} a", f"pdq {_hex(SCENES[1])}"))
    assert _found(known, *SCENES[:3]) == [[_finding("ours", "a")], [_finding("ours", "line 2")], []]
    assert known.labels == {"csae"}


@pytest.mark.parametrize("turn", list(Transpose))
def test_it_is_found_in_every_orientation_and_size(tmp_path: Path, turn: Transpose) -> None:
    known = KnownImage(_write(tmp_path / "ours.txt", f"pdq {_hex(SCENES[0])} a"))
    copy = SCENES[0].transpose(turn).resize((200, 150))
    ((finding,),) = known.find([copy])
    assert isinstance(finding.evidence, HashMatch)
    assert finding.evidence.distance <= 12


def test_31_bits_are_a_match_and_32_are_not(tmp_path: Path) -> None:
    near = KnownImage(_write(tmp_path / "near.txt", f"pdq {_hex(SCENES[0], 31)} a"))
    assert _found(near, SCENES[0]) == [[_finding("near", "a", 31)]]
    far = KnownImage(_write(tmp_path / "far.txt", f"pdq {_hex(SCENES[0], 32)} a"))
    assert _found(far, SCENES[0]) == [[]]
    strict = KnownImage(tmp_path / "near.txt", distance=30)
    assert _found(strict, SCENES[0]) == [[]]


def test_the_closest_entry_of_each_list_is_named(tmp_path: Path) -> None:
    lines = [f"pdq {_hex(SCENES[0], bits)} {bits}-off" for bits in (20, 3, 9)]
    lists = {
        str(_write(tmp_path / "one.txt", *lines)): "violence",
        str(_write(tmp_path / "two.txt", f"pdq {_hex(SCENES[0], 5)}")): "ip",
    }
    known = KnownImage(lists)
    assert known.labels == {"violence", "ip"}
    assert _found(known, SCENES[0]) == [
        [_finding("one", "3-off", 3, "violence"), _finding("two", "line 1", 5, "ip")]
    ]


def test_an_image_with_little_on_it_matches_nothing(tmp_path: Path) -> None:
    blank = Image.new("RGB", (64, 64), "red")
    known = KnownImage(_write(tmp_path / "ours.txt", f"pdq {_hex(blank)}"))
    assert _found(known, blank) == [[]]
    assert len(_found(KnownImage(tmp_path / "ours.txt", quality=0), blank)[0]) == 1  # type: ignore[arg-type]


def test_quality_50_is_enough_and_49_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownImage(_write(tmp_path / "ours.txt", f"pdq {_hex(SCENES[0])} a"))
    bits = list(np.unpackbits(PdqHasher()(SCENES[0]).orientations, axis=1))
    monkeypatch.setattr(known._hasher, "_compute", lambda pixels: (bits, 50))
    assert _found(known, SCENES[0]) == [[_finding("ours", "a")]]
    monkeypatch.setattr(known._hasher, "_compute", lambda pixels: (bits, 49))
    assert _found(known, SCENES[0]) == [[]]


@pytest.mark.parametrize("key", ["sha256", "md5"])
def test_a_file_with_a_known_digest_is_found_whatever_it_shows(tmp_path: Path, key: str) -> None:
    digest = {"sha256": SHA256, "md5": MD5}[key]
    known = KnownImage(_write(tmp_path / "ours.txt", f"{key} {digest} file", f"pdq {_hex(SCENES[1], 4)} a"))
    blank = Image.new("RGB", (64, 64))
    blank.info[key] = digest
    other = SCENES[1].copy()
    other.info[key] = "00" * (len(digest) // 2)
    assert _found(known, blank, other) == [[_finding("ours", "file")], [_finding("ours", "a", 4)]]


@pytest.mark.parametrize("digest", ["zz", 5, None, b"12", "é"])
def test_a_digest_that_is_none_is_no_match_and_no_failure(tmp_path: Path, digest: Any) -> None:
    known = KnownImage(_write(tmp_path / "ours.txt", f"sha256 {SHA256}"))
    image = SCENES[0].copy()
    image.info["sha256"] = digest
    assert _found(known, image) == [[]]


def test_an_image_that_cannot_be_read_blocks_itself_alone(tmp_path: Path) -> None:
    SCENES[0].resize((640, 640)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    known = KnownImage(_write(tmp_path / "ours.txt", f"pdq {_hex(SCENES[0])} a"))
    with Image.open(tmp_path / "b.jpg") as damaged:
        broken, whole = _found(known, damaged, SCENES[0])
    assert isinstance(broken, FilterError)
    assert "cannot be read" in str(broken)
    assert whole == [_finding("ours", "a")]


def test_a_changed_list_is_read_again(tmp_path: Path) -> None:
    path = _write(tmp_path / "ours.txt", f"pdq {_hex(SCENES[0])} a")
    known = KnownImage(path)
    before = known.version
    assert _found(known, *SCENES[:2]) == [[_finding("ours", "a")], []]
    _write(tmp_path / "new", f"pdq {_hex(SCENES[1])} b").replace(path)
    assert _found(known, *SCENES[:2]) == [[], [_finding("ours", "b")]]
    assert known.version != before
    _write(path, f"pdq {_hex(SCENES[0])} a")
    assert _found(known, *SCENES[:2]) == [[_finding("ours", "a")], []]
    assert known.version == before


def test_a_list_that_is_damaged_or_gone_stays_as_it_was_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _write(tmp_path / "ours.txt", f"pdq {_hex(SCENES[0])} a")
    known = KnownImage(path)
    version = known.version
    path.write_text(f"pdq {_hex(SCENES[1])} b\noops")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert _found(known, *SCENES[:2]) == [[_finding("ours", "a")], []]
    assert known.version == f"{version} stale"
    assert [record.getMessage() for record in caplog.records] == [
        f'the list of known images was not reloaded: {path}, line 2: "oops" is not a hash of 64 or 32 '
        "hexadecimal digits; correct it."
    ]
    path.unlink()
    assert _found(known, SCENES[0]) == [[_finding("ours", "a")]]
    assert known.version == f"{version} stale"
    _write(path, f"pdq {_hex(SCENES[1])} b")
    assert _found(known, *SCENES[:2]) == [[], [_finding("ours", "b")]]
    assert "stale" not in known.version


def test_threads_see_one_list_or_the_other_whole(tmp_path: Path) -> None:
    """Both lists have both images, under other names."""
    texts = [f"pdq {_hex(SCENES[0])} {name}\npdq {_hex(SCENES[1])} {name}\n" for name in ("old", "new")]
    path = _write(tmp_path / "ours.txt", texts[0])
    known = KnownImage(path)
    seen: list[Any] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(_found(known, *SCENES[:2]))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        _write(tmp_path / "next", texts[turn % 2]).replace(path)
        seen.append(_found(known, *SCENES[:2]))
    done.set()
    for thread in threads:
        thread.join()
    names = [[finding.evidence.id for (finding,) in found] for found in seen]
    assert all(pair in (["old", "old"], ["new", "new"]) for pair in names)
    assert {pair[0] for pair in names} == {"old", "new"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lists": []}, "there is no list of known images"),
        ({"lists": ["nowhere.txt"]}, "nowhere.txt cannot be read"),
        ({"lists": {"KNOWN": "csea"}}, 'no category "csea"'),
        ({"lists": ["KNOWN", "KNOWN/../../image/known.txt"]}, 'two lists have the name "known"'),
        ({"lists": "KNOWN", "distance": 32}, "distance is 32; give a whole number from 0 to 31"),
        ({"lists": "KNOWN", "distance": -1}, "distance is -1"),
        ({"lists": "KNOWN", "quality": 50.0}, r"quality is 50\.0; give a whole number from 0 to 100"),
    ],
)
def test_options_that_would_let_images_by_are_refused(options: dict[str, Any], sentence: str) -> None:
    known = str(Path(__file__).with_name("known.txt"))
    placed = json.loads(json.dumps(options).replace("KNOWN", known))
    with pytest.raises(FilterError, match=sentence):
        registry.build("image_filter", "known-image", **placed)


def test_a_policy_blocks_known_images_and_its_verdict_names_list_and_entry(tmp_path: Path) -> None:
    path = _write(tmp_path / "ours.txt", f"pdq {_hex(SCENES[0], 7)} a")
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'name = "test"\nversion = "1"\n[filters]\nimage = ["known-image"]\n'
        f"[filters.options.known-image]\nlists = ['{path}']\n"
    )
    blocked, allowed = Guard.from_policy(policy).screen_images(SCENES[:2])
    assert (blocked.action, allowed.action) == ("block", "allow")
    assert blocked.to_dict()["findings"][0]["evidence"] == {
        "type": "hashmatch",
        "bank": "ours",
        "id": "a",
        "distance": 7,
    }


@pytest.mark.parametrize("name", ["sha256", "md5"])
def test_a_guard_knows_the_digests_of_the_files_it_is_given(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "blank.png")
    encoded = (tmp_path / "blank.png").read_bytes()
    path = _write(tmp_path / "ours.txt", f"{name} {hashlib.new(name, encoded).hexdigest()} blank")
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'name = "test"\nversion = "1"\n[filters]\nimage = ["known-image"]\n'
        f"[filters.options.known-image]\nlists = ['{path}']\n"
    )
    given = [encoded, tmp_path / "blank.png", Image.new("RGB", (64, 64))]
    verdicts = Guard.from_policy(policy).screen_images(given)
    assert [verdict.action for verdict in verdicts] == ["block", "block", "allow"]
    assert verdicts[0].findings == (_finding("ours", "blank"),)
