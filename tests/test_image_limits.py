"""Decoding is bounded: by pixels of frames and of views, by the parts of a file, and by a deadline."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fuzz import hostile_images, icc_profiles, png_parts
from fuzz.image_seeds import encoded, noise, srgb, turned_exif
from safelight.concurrency.deadline import Deadline
from safelight.errors import DeadlineError, ImageError, RequestCancelledError
from safelight.images import ImageLimits, open_image
from safelight.images.av1 import CodedPixels, coded_pixels


def _every_view(side: int = 64) -> bytes:
    """A PNG that can be seen in twelve ways: three colourings, three grounds, and a turn of the last."""
    image = noise((side, side), "RGBA")
    data = encoded(image, "png", exif=turned_exif(), icc_profile=icc_profiles.matrix())
    gamma = png_parts.chunk(b"gAMA", (100_000).to_bytes(4, "big"))
    return data[:33] + gamma + data[33:]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_67_million_pixels_that_can_be_seen_in_twelve_ways_is_refused() -> None:
    """It took 24.9 s and 3,320 MiB."""
    data = png_parts.solid_png(8192, 8192, png_parts.every_view(), colours=6)
    with pytest.raises(ImageError, match="8192 × 8192 pixels; the limit is 16,777,216"):
        next(open_image(data))


def test_a_photograph_of_16_million_pixels_is_seen_at_full_size() -> None:
    (view,) = open_image(encoded(Image.new("RGB", (4096, 4096), (200, 9, 9)), "jpeg"))
    assert view.size == (4096, 4096)


def test_pixels_count_double_with_a_profile_that_is_a_table() -> None:
    """A table takes two to three times as long as a matrix, and 16 million pixels took up to 2.2 s."""
    image = Image.new("RGB", (64, 64), (200, 9, 9))
    limits = ImageLimits(pixels=64 * 64)
    assert list(open_image(encoded(image, "jpeg", icc_profile=srgb()), limits))
    with pytest.raises(ImageError, match="64 × 64 pixels; the limit is 2,048"):
        next(open_image(encoded(image, "jpeg", icc_profile=icc_profiles.table()), limits))


def test_a_photograph_with_a_profile_and_a_turn_is_reduced_and_seen_whole() -> None:
    image = Image.new("RGB", (4000, 3000), (200, 9, 9))
    image.paste((9, 9, 200), (0, 0, 2000, 1500))
    data = encoded(image, "jpeg", exif=turned_exif(), icc_profile=icc_profiles.matrix())
    views = list(open_image(data))
    assert [view.size for view in views] == [(1500, 2000), (1500, 2000), (2000, 1500)]
    _, turned, stored = (np.asarray(view, int) for view in views)
    assert abs(stored[100, 100] - (9, 9, 200)).max() < 6
    assert abs(turned[100, 1400] - (9, 9, 200)).max() < 6
    assert abs(stored[1400, 1900] - (200, 9, 9)).max() < 6


@pytest.mark.parametrize("step", [1, 2])
def test_all_views_together_stay_within_the_pixels_allowed(step: int) -> None:
    side = 650 * step
    limit = 12 * 650 * 650
    views = list(open_image(_every_view(side), ImageLimits(pixels_of_all=max(limit, side * side))))
    assert len(views) == 12
    assert sum(view.width * view.height for view in views) <= max(limit, side * side)
    assert min(view.width for view in views) >= 640


def test_views_that_would_be_too_small_are_refused() -> None:
    limits = ImageLimits(pixels_of_all=700 * 700)
    with pytest.raises(ImageError, match="its views have more than 490,000 pixels"):
        list(open_image(_every_view(700), limits))


def _reduced_and_exact(data: bytes, pixels: int) -> tuple[list[Image.Image], list[Image.Image]]:
    reduced = list(open_image(data, ImageLimits(pixels_of_all=pixels)))
    return reduced, list(open_image(data))


@pytest.mark.parametrize("kind", ["gamma", "profile", "opacity"])
def test_reduced_views_are_what_is_seen_from_afar(kind: str) -> None:
    """Fine patterns with the same mean look different under a gamma, a profile or an opacity. Reducing the
    frame first would show one grey for both.
    """
    values = np.full((1320, 1320, 4), (128, 128, 128, 255), np.uint8)
    values[::2, :660, :3], values[1::2, :660, :3] = 0, 255
    values[:20, :20, :3] = 9, 99, 199  # so that turning shows
    if kind == "opacity":
        values[::2, :, 3], values[1::2, :, 3] = 0, 255
    options = {"icc_profile": icc_profiles.table(), "exif": turned_exif()} if kind == "profile" else {}
    data = encoded(Image.fromarray(values), "png", **options)
    if kind == "gamma":
        data = data[:33] + png_parts.chunk(b"gAMA", (100_000).to_bytes(4, "big")) + data[33:]
    # Pixels under a table count double, and there is a third view of them.
    reduced, exact = _reduced_and_exact(data, 1320 * 1320 * (2 if kind == "profile" else 1))
    assert {view.size for view in reduced} == {(660, 660)}
    assert len(reduced) == len(exact) > 1
    for small, large in zip(reduced, exact, strict=True):
        seen = np.asarray(large, float).reshape(660, 2, 660, 2, 3).mean(axis=(1, 3))
        assert abs(np.asarray(small, float) - seen).max() <= 2


def test_a_deadline_that_has_passed_is_no_damage() -> None:
    now = Deadline(1e-9)
    with pytest.raises(DeadlineError, match="took longer than its deadline"):
        list(open_image(_every_view(), deadline=now))


def test_a_cancelled_request_is_noticed_between_views_and_between_frames() -> None:
    frames = [noise((16, 16), seed=each) for each in range(5)]
    animation = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    for data in (_every_view(), animation):
        deadline = Deadline()
        views = open_image(data, deadline=deadline)
        next(views)
        deadline.cancel()
        with pytest.raises(RequestCancelledError):
            next(views)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "scans of JPEG": (partial(hostile_images._scanned_jpeg, 64, 200), "too many scans"),
    "scans of a larger JPEG": (partial(hostile_images._scanned_jpeg, 2048, 80), "too many scans"),
    "segments of JPEG": (partial(hostile_images._jpeg_with, b"\xff\xfe\0\2", 3000), "too many segments"),
    "junk in JPEG": (partial(hostile_images._jpeg_with, b"junk", 3000), "too many bytes between"),
    "EXIF of JPEG": (
        partial(hostile_images._jpeg_with, hostile_images._segment(0xE1, b"Exif\0\0"), 40),
        "too many segments of EXIF",
    ),
    "chunks of PNG": (
        partial(hostile_images._small_png, png_parts.chunk(b"abCd") * 40_000),
        "too many chunks",
    ),
    "texts of PNG": (
        partial(hostile_images._small_png, png_parts.chunk(b"zTXt") * 40),
        "too many texts",
    ),
    "blocks of GIF": (partial(hostile_images._gif_file, 4, b"!\xfe\1a\0" * 600_000), "too many blocks"),
    "runs of BMP": (
        partial(hostile_images._bmp_file, 4096, 4096, 8, 1, b"\1\7" * (1 << 20)),
        "1,048,576 bytes, the limit for BMP",
    ),
    "tags of TIFF": (
        partial(hostile_images._tiff_file, [(700, 4, 1, 7)] * 20_000, bytes(64), 2),
        "too many tags",
    ),
    "strips of TIFF": (
        partial(hostile_images._tiff_file, hostile_images._tiff_tags(1, 60_000, 1), bytes(240_000)),
        "too many strips",
    ),
    "a chain in a profile": (
        lambda: encoded(noise((8, 8)), "png", icc_profile=icc_profiles.chain(50)),
        "colour profile takes too long",
    ),
    "many profiles": (hostile_images._profiled_pages, "more than 8 colour profiles"),
    "a long line": (partial(png_parts.solid_png, 1 << 17, 1), "a side has at most 65,536"),
    "large WebP": (lambda: hostile_images._riff(b"VP8 " + bytes(9 << 20)), "8,388,608 bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_files_with_more_parts_than_images_have_are_refused(name: str) -> None:
    build, why = REFUSED[name]
    with pytest.raises(ImageError, match=why):
        list(open_image(build()))


def test_progressive_jpeg_in_tiff_is_refused() -> None:
    data = encoded(noise((64, 64)), "tiff", compression="jpeg")
    assert len(list(open_image(data))) == 1
    with pytest.raises(ImageError, match="progressive JPEG in TIFF"):
        list(open_image(data + b"\xff\xc2\0\x11"))


@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_what_avif_makes_its_decoder_do_is_counted(mode: str, frames: int) -> None:
    first, *others = [noise((48, 32), mode, each) for each in range(frames)]
    data = encoded(first, "avif", save_all=True, append_images=others, speed=10)
    coded = coded_pixels(data)
    planes = 2 if mode == "RGBA" else 1
    assert coded.largest == 48 * 32
    assert 48 * 32 * planes * frames <= coded.together <= 48 * 32 * planes * (frames + 1)


def test_avif_that_is_larger_than_it_says_is_refused() -> None:
    data = bytearray(encoded(Image.new("RGB", (640, 640)), "avif", speed=10))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", 16, 16)
    with pytest.raises(ImageError, match="more than 100,000 pixels together"):
        list(open_image(bytes(data), ImageLimits(pixels=100_000, pixels_of_all=100_000)))


_AVIF = encoded(noise((16, 16)), "avif", speed=10)


@given(st.integers(0, len(_AVIF) - 1), st.binary(min_size=1, max_size=8))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_damaged_avif_is_counted_or_said_to_be_damaged(at: int, piece: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(coded_pixels(_AVIF[:at] + piece + _AVIF[at + len(piece) :]), CodedPixels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_large_arrays_are_refused_before_they_are_converted(dtype: Any) -> None:
    array = np.broadcast_to(np.zeros((1, 1, 3), dtype), (5000, 5000, 3))
    with pytest.raises(ImageError, match="5000 × 5000 pixels"):
        next(open_image(array))


def test_opaque_alpha_costs_no_views() -> None:
    """Most generated PNG have an alpha channel that is full everywhere; they are seen at full size."""
    data = encoded(noise((900, 900)).convert("RGBA"), "png")
    (view,) = open_image(data, ImageLimits(pixels_of_all=900 * 900))
    assert view.size == (900, 900)


def test_an_open_file_of_an_image_is_limited_too() -> None:
    image = Image.open(io.BytesIO(encoded(noise((40, 40)), "png", icc_profile=srgb())))
    with pytest.raises(ImageError, match="the limit is 1,000"):
        next(open_image(image, ImageLimits(pixels=1000)))
