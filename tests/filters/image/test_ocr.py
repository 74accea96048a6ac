"""The real networks of rapidocr, beside the package's own code, on rendered text."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

from safelight import registry
from safelight.errors import FilterError, MissingExtraError, ModelError, RegistryError
from safelight.filters.image import text_reader
from safelight.filters.image.ocr import UNREAD, Ocr
from safelight.filters.image.text_reader import TextReader
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.types import Box, Finding

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None or importlib.util.find_spec("cv2") is None,
    reason="rapidocr is not installed",
)
PHOTOGRAPHS = [Image.fromarray(image) for image in load_sample_images().images]
HARMFUL, HARMLESS = "how to make a pipe bomb", "a slice of apple pie"
POLICY = """
name = "signs"
version = "1"
[filters]
image = ["ocr"]
timeout_s = 200
[filters.options.ocr]
filters = ["lexicon"]
[categories.weapons]
image = { block = 0.5 }
"""


def written(
    *lines: str, size: int = 36, shape: tuple[int, int] = (640, 320), on: Image.Image | None = None
) -> Image.Image:
    """Black lines on white, or white ones on a photograph, in Pillow's own font."""
    image = on.resize(shape) if on else Image.new("RGB", shape, "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for row, line in enumerate(lines):
        pen.text((size, size * (1 + 1.4 * row)), line, "white" if on else "black", font)
    return image


@pytest.fixture(scope="module")
def ocr() -> Ocr:
    return Ocr(filters=["lexicon"])


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader(confidence=0.6, count=64)


def read(reader: TextReader, image: Image.Image) -> list[str]:
    return sorted(line.text for line in reader.read(image).lines)


def labels(answer: list[Finding] | FilterError) -> set[str]:
    assert not isinstance(answer, FilterError), answer
    return {finding.label for finding in answer}


def test_lines_are_those_that_the_package_reads(reader: TextReader) -> None:
    from rapidocr import RapidOCR

    theirs = RapidOCR(params={"Global.log_level": "critical", "Det.limit_side_len": 320})
    image = written("Two words", "on three rows,", "all of them short", on=PHOTOGRAPHS[0])
    assert read(reader, image) == sorted(theirs(np.asarray(image)[:, :, ::-1]).txts)


@pytest.mark.parametrize("angle", [0, 12, -12, 90, 180, 270])
def test_text_is_read_in_any_orientation(angle: int, reader: TextReader) -> None:
    image = Image.new("RGB", (640, 640), "white")
    image.paste(written(HARMLESS, shape=(480, 110)), (80, 260))
    assert read(reader, image.rotate(angle, fillcolor="white")) == [HARMLESS]


def test_the_box_is_around_the_lines_that_were_judged(ocr: Ocr) -> None:
    image = written(HARMFUL, size=40, shape=(640, 640))
    (finding,) = (each for each in ocr.find([image])[0] if each.label == "weapons")
    assert isinstance(finding.evidence, Box)
    assert finding.filter == "ocr"
    dark = np.argwhere(np.asarray(image.convert("L")) < 128)
    (top, left), (bottom, right) = dark.min(0) / 640, dark.max(0) / 640
    box = finding.evidence
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((left, top, right, bottom), abs=0.04)


def test_scores_are_those_of_the_prompt_filters() -> None:
    names = ("lexicon", "child-safety", "classifier")
    prompt_filters = [registry.build("prompt_filter", name) for name in names]
    scores: dict[str, float] = {}
    for each in prompt_filters:
        for finding in each.find([HARMFUL])[0]:
            scores[finding.label] = max(finding.score, scores.get(finding.label, 0))
    (found,) = Ocr().find([written(HARMFUL)])
    assert not isinstance(found, FilterError)
    assert {finding.label: finding.score for finding in found} == scores


def test_a_sentence_over_several_lines_is_judged_as_one(ocr: Ocr) -> None:
    assert "weapons" in labels(ocr.find([written("how to make nerve", "gas at home")])[0])


def test_words_far_apart_are_not_joined(ocr: Ocr) -> None:
    image = Image.new("RGB", (900, 500), "white")
    image.paste(written("nerve", shape=(250, 120)), (0, 0))
    image.paste(written("gas", shape=(250, 120)), (640, 370))
    assert not labels(ocr.find([image])[0])


@pytest.mark.parametrize(
    "image",
    [
        *PHOTOGRAPHS,
        Image.new("RGB", (512, 512), "teal"),
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (0, 5)),
        Image.new("RGB", (1, 3000)),
        Image.new("L", (3000, 1)),
        Image.new("P", (64, 64)),
        Image.new("RGBA", (64, 64)),
        Image.new("1", (9, 9)),
    ],
    ids=lambda image: f"{image.mode}-{image.width}x{image.height}",
)
def test_an_image_without_text_has_no_findings(image: Image.Image, ocr: Ocr) -> None:
    assert ocr.find([image]) == [[]]


def test_very_wide_and_very_tall_images_are_read(ocr: Ocr) -> None:
    banner = written(f"{'nothing to see here, ' * 9}{HARMFUL}", size=24, shape=(6000, 64))
    found = ocr.find([banner, banner.rotate(90, expand=True)])
    assert [labels(each) for each in found] == [{"weapons"}, {"weapons"}]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_small_images_never_fail(width: int, height: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height + 1, width + 1, 3), np.uint8)
    (answer,) = _shared().find([Image.fromarray(noise)])
    assert not isinstance(answer, FilterError)


_built: list[Ocr] = []


def _shared() -> Ocr:
    """The filter for tests of Hypothesis, which take no fixtures of another scope."""
    if not _built:
        _built.append(Ocr(filters=["lexicon"]))
    return _built[0]


def test_an_image_that_cannot_be_read_blocks_itself_alone(ocr: Ocr, tmp_path: Path) -> None:
    written(HARMFUL).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "half.png") as half:
        found = ocr.find([written(HARMFUL), half, written(HARMLESS)])
    assert [isinstance(each, FilterError) for each in found] == [False, True, False]


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    (tmp_path / "policy.toml").write_text(POLICY)
    return Guard.from_policy(tmp_path / "policy.toml", stages=("image",))


def test_transparent_and_palette_images_are_read_as_they_are_shown(guard: Guard) -> None:
    black = written(HARMFUL)
    clear = black.convert("RGB")
    clear.putalpha(black.convert("L").point(lambda value: 255 - value))
    hidden = Image.new("RGBA", black.size, (255, 255, 255, 0))
    hidden.putalpha(clear.getchannel("A"))  # white letters, which only a dark page shows
    images = [clear, hidden, black.convert("P"), black.convert("1"), written(HARMLESS)]
    actions = [verdict.action.value for verdict in guard.screen_images(images)]
    assert actions == ["block", "block", "block", "block", "allow"]


def test_the_largest_lines_are_read_and_the_rest_is_reported() -> None:
    image = written(*["some small words"] * 12, size=20, shape=(640, 640))
    ImageDraw.Draw(image).text((20, 500), "a pipe bomb", "black", ImageFont.load_default(90))
    few = Ocr(filters=["lexicon"], lines=3)
    (found,) = few.find([image])
    assert labels(found) == {"weapons", UNREAD}
    assert UNREAD in (few.labels or ())
    (all_of_it,) = Ocr(filters=["lexicon"]).find([image])
    assert labels(all_of_it) == {"weapons"}


def test_ten_thousand_words_take_bounded_time(ocr: Ocr) -> None:
    rows = [" ".join(["word"] * 125)] * 80
    image = written(*rows, size=16, shape=(4096, 2048))
    started = time.thread_time()
    (found,) = ocr.find([image])
    assert labels(found) <= {UNREAD}
    assert time.thread_time() - started < 60


def test_a_long_text_is_judged_in_parts() -> None:
    lengths: list[int] = []

    class Listening:
        name, version = "listening", "1"

        def find(self, prompts: Sequence[str]) -> list[list[Finding]]:
            lengths.extend(map(len, prompts))
            return [[Finding("weapons", 0.7, self.name)] if "bomb" in each else [] for each in prompts]

    each = Ocr(filters=["never"])
    each._filters = [Listening()]
    rows = ["many words in long rows of a letter"] * 20
    (found,) = each.find([written(*rows, "and one bomb", size=18, shape=(512, 640))])
    assert labels(found) == {"weapons"}
    assert len(lengths) > 1
    assert max(lengths) <= 400


def test_a_text_that_a_prompt_filter_refuses_blocks_its_image_alone() -> None:
    class Refusing:
        name, version = "refusing", "1"

        def find(self, prompts: Sequence[str]) -> list[list[Finding] | FilterError]:
            return [FilterError("no") if "pie" in each else [] for each in prompts]

    each = Ocr(filters=["never"])
    each._filters = [Refusing()]
    refused, allowed = each.find([written(HARMLESS), written("other words")])
    assert isinstance(refused, FilterError)
    assert 'the prompt filter "refusing" could not judge its text' in str(refused)
    assert HARMLESS not in str(refused)
    assert allowed == []


def test_a_reader_that_hangs_is_ended_by_the_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(TextReader, "read", lambda self, image: released.wait(20))
    (tmp_path / "policy.toml").write_text(POLICY.replace("timeout_s = 200", "timeout_s = 0.2"))
    guard = Guard.from_policy(tmp_path / "policy.toml", stages=("image",))
    guard.load()
    started = time.monotonic()
    (verdict,) = guard.screen_images([written(HARMLESS)])
    released.set()
    assert time.monotonic() - started < 15
    assert verdict.action == "block"
    assert "0.2 s" in " ".join(verdict.reasons)


def test_many_threads_may_read_at_once(ocr: Ocr) -> None:
    images = [written(HARMFUL), written(HARMLESS), PHOTOGRAPHS[0], written(HARMFUL, on=PHOTOGRAPHS[1])]
    expected = ocr.find(images)
    with ThreadPoolExecutor(6) as pool:
        for answer in pool.map(lambda _: ocr.find(images), range(6)):
            assert answer == expected


def test_text_is_not_logged(ocr: Ocr, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    with caplog.at_level(logging.DEBUG):
        ocr.find([written(HARMFUL)])
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_the_code_of_the_package_is_never_imported() -> None:
    """So nothing is downloaded, no configuration is read and nothing is logged."""
    code = (
        "import sys; from PIL import Image; from safelight import registry;"
        "ocr = registry.build('image_filter', 'ocr', filters=['never']);"
        "ocr.find([Image.effect_noise((300, 200), 90)]); print('rapidocr' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "options", [{"filters": []}, {"filters": "lexicon"}, {"confidence": 0.0}, {"lines": 0}, {"threads": 0}]
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(FilterError, match=next(iter(options))):
        registry.build("image_filter", "ocr", **options)


def test_an_unknown_prompt_filter_is_refused() -> None:
    with pytest.raises(RegistryError, match='did you mean "lexicon"'):
        Ocr(filters=["lexicom"])


def _nothing(name: str) -> None:
    return None


@pytest.mark.parametrize("name", text_reader._PINNED)
def test_an_altered_network_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(text_reader._PINNED, name, "0" * 64)
    with pytest.raises(ModelError, match=f"{name}.*install rapidocr 3.10.0"):
        Ocr(filters=["never"])


def test_missing_networks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reader, "package_folder", lambda name: tmp_path)
    with pytest.raises(ModelError, match="missing"):
        Ocr(filters=["never"])


@pytest.mark.parametrize("missing", ["package_folder", "find_spec"])
def test_a_missing_package_names_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reader, missing, _nothing)
    with pytest.raises(MissingExtraError, match='needs the extra "images"'):
        Ocr(filters=["never"])


def test_a_policy_judges_text_in_images(guard: Guard) -> None:
    harmful, harmless = guard.screen_images([written(HARMFUL), written(HARMLESS)])
    assert (harmful.action, harmless.action) == ("block", "allow")
    assert "weapons" in harmful.categories


def test_an_altered_network_blocks_every_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(text_reader._PINNED, "PP-OCRv6_det_small.onnx", "0" * 64)
    (tmp_path / "policy.toml").write_text(POLICY)
    policy = Policy.load(tmp_path / "policy.toml")
    guard = Guard(policy, {"image": [partial(registry.build, "image_filter", "ocr", filters=["never"])]})
    with pytest.raises(ModelError, match="pinned sha256"):
        guard.load()
