from __future__ import annotations

import hashlib
import io
import os
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from safelight.errors import ImageError
from safelight.guard.guard import Guard
from safelight.images import ImageLimits, open_image
from safelight.storybook import Storybook
from safelight.types import Action

FORMATS = {
    "png": {},
    "jpeg": {"quality": 95},
    "webp": {"lossless": True},
    "gif": {},
    "bmp": {},
    "tiff": {},
    "avif": {"quality": 95},
}
RED, BLUE = (250, 5, 5), (5, 5, 250)


def _encoded(image: Image.Image, name: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def _halves(mode: str = "RGB") -> Image.Image:
    """Red above, blue below, 32 wide and 16 high."""
    image = Image.new("RGB", (32, 16), RED)
    image.paste(BLUE, (0, 8, 32, 16))
    return image.quantize(2) if mode == "P" else image.convert(mode)


def _only(source: Any, **limits: int) -> Image.Image:
    (view,) = open_image(source, ImageLimits(**limits))
    return view


def _first(source: Any) -> Image.Image:
    """As viewers show it."""
    return next(open_image(source))


def _near(image: Image.Image, place: tuple[int, int], colour: tuple[int, int, int], by: int = 12) -> bool:
    found = image.getpixel(place)
    assert isinstance(found, tuple)
    return all(abs(a - b) <= by for a, b in zip(found, colour, strict=True))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_from_whatever_holds_it(name: str, tmp_path: Path) -> None:
    data = _encoded(_halves(), name, **FORMATS[name])
    path = tmp_path / "image.dat"  # what counts is inside
    path.write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), str(path), path, io.BytesIO(data)):
        view = _only(source)
        assert (view.mode, view.size) == ("RGB", (32, 16))
        assert _near(view, (4, 3), RED)
        assert _near(view, (28, 13), BLUE)
        assert view.info == {
            "frame": 0,
            "sha256": hashlib.sha256(data).hexdigest(),
            "md5": hashlib.md5(data).hexdigest(),
        }


def test_arrays_are_images() -> None:
    pixels = np.asarray(_halves())
    for array in (pixels, pixels / 255, (pixels / 255).astype(np.float32), np.asfortranarray(pixels)):
        assert np.array_equal(np.asarray(_only(array)), pixels)
    assert _only(np.full((4, 4), 7, np.uint8)).getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.full((2, 2, 3), 1.5),
        np.full((2, 2, 3), np.nan),
        np.zeros((2, 2, 3), np.int64),
        np.zeros((2, 2, 3), object),
    ],
)
def test_arrays_that_are_none_say_why(array: Any) -> None:
    with pytest.raises(ImageError, match=r"array .*(is not an image|must be in \[0, 1\])"):
        list(open_image(array))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "tiff"])
def test_images_are_turned_as_viewers_turn_them(orientation: int, name: str) -> None:
    """EXIF 2.32, table of Orientation: where row 0 and column 0 of the stored image are seen."""
    row_0_is = {1: "top", 2: "top", 3: "bottom", 4: "bottom", 5: "left", 6: "right", 7: "right", 8: "left"}
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = _encoded(_halves(), name, exif=exif, **FORMATS[name])
    view, *stored = open_image(data)
    differs = orientation > 2 and name != "tiff"  # one half mirrors the other; Pillow turns TIFF itself
    assert [image.size for image in stored] == ([(32, 16)] if differs else [])
    assert all(_near(image, (16, 2), RED) for image in stored)
    width, height = view.size
    assert (width < height) == (orientation > 4)
    place = {
        "top": (width // 2, 2),
        "bottom": (width // 2, height - 3),
        "left": (2, height // 2),
        "right": (width - 3, height // 2),
    }
    assert _near(view, place[row_0_is[orientation]], RED)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_ignored() -> None:
    assert _near(_only(_encoded(_halves(), "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), (4, 3), RED, 20)


def test_colours_are_brought_to_srgb() -> None:
    """A profile that says green where the file says red: viewers show green, programs see red."""
    swapped, red = _swapped_profile(), Image.new("RGB", (8, 8), (255, 0, 0))
    for image in (red, red.convert("P"), red.convert("RGBA")):
        shown, stored = open_image(_encoded(image, icc_profile=swapped))
        assert _near(shown, (4, 4), (0, 255, 0), 40)
        assert _near(stored, (4, 4), (255, 0, 0), 40)


def test_brightness_is_what_browsers_make_of_it() -> None:
    """gAMA 1.0: a value of 64 is shown as 255 · (64 / 255) ^ (1 / 2.2) = 136."""
    data = _encoded(Image.new("RGB", (8, 8), (64, 64, 64)))
    chunk = b"gAMA" + (100_000).to_bytes(4, "big")
    with_gamma = data[:33] + (4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]
    shown, stored = open_image(with_gamma)
    assert _near(shown, (4, 4), (136, 136, 136), 1)
    assert _near(stored, (4, 4), (64, 64, 64), 0)


def _swapped_profile() -> bytes:
    """sRGB with the tags of red and green exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ", 128), data.index(b"gXYZ", 128)
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def test_a_damaged_profile_is_ignored() -> None:
    assert _near(_only(_encoded(_halves(), icc_profile=b"no profile")), (4, 3), RED)


@pytest.mark.parametrize(
    ("mode", "name"),
    [("CMYK", "jpeg"), ("CMYK", "tiff"), ("LAB", "tiff"), ("YCbCr", "jpeg"), ("P", "gif"), ("P", "png")],
)
def test_other_colour_models_look_as_they_are_meant(mode: str, name: str) -> None:
    image = _halves() if mode == "YCbCr" else _halves("RGB" if mode == "LAB" else mode)
    if mode == "LAB":
        pair = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        image = ImageCms.profileToProfile(image, *pair, outputMode="LAB")  # type: ignore[assignment]
    view = _first(_encoded(image, name, **(FORMATS[name] if mode != "CMYK" else {})))
    assert _near(view, (4, 3), RED, 30)
    assert _near(view, (28, 13), BLUE, 30)


@pytest.mark.parametrize("name", ["png", "tiff"])
def test_sixteen_bits_keep_their_shades(name: str) -> None:
    """Pillow's own conversion would make everything from 256 up white."""
    grey = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    view = _only(_encoded(Image.fromarray(grey), name))
    assert np.array_equal(np.asarray(view)[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize(
    ("values", "grey"),
    [([0.0, 0.5, 1.0], [0, 128, 255]), ([0, 100, 255], [0, 100, 255]), ([-1.0, 0.0, 3.0], [0, 64, 255])],
)
def test_floats_are_shown_by_their_range(values: list[float], grey: list[int]) -> None:
    view = _first(_encoded(Image.fromarray(np.array([values], np.float32)), "tiff"))
    assert [view.getpixel((x, 0)) for x in range(3)] == [(g, g, g) for g in grey]


def test_one_odd_value_hides_nothing() -> None:
    values = np.array([[0, 100, 255, 1e30, np.inf, np.nan]], np.float32)
    scaled, cut = open_image(_encoded(Image.fromarray(values), "tiff"))
    assert scaled.getpixel((1, 0)) == (0, 0, 0)
    assert [cut.getpixel((x, 0)) for x in range(3)] == [(0, 0, 0), (100, 100, 100), (255, 255, 255)]


@pytest.mark.parametrize("name", ["png", "webp", "tiff", "avif"])
def test_what_is_transparent_is_seen_on_white_and_on_black_and_without(name: str) -> None:
    image = Image.new("RGBA", (16, 16), (255, 255, 255, 255))  # white, which only shows on black
    image.paste((250, 5, 5, 0), (0, 0, 8, 16))
    exact = {"exact": True} if name == "webp" else {}
    without, white, black = open_image(_encoded(image, name, **FORMATS[name], **exact))
    assert _near(without, (2, 2), RED, 40)
    assert _near(white, (2, 2), (255, 255, 255))
    assert _near(black, (2, 2), (0, 0, 0))
    assert _near(black, (13, 2), (255, 255, 255))
    assert white.info["frame"] == black.info["frame"] == 0


def test_palettes_with_transparency_and_opaque_alpha() -> None:
    image = _halves("P")
    colours, white, black = open_image(_encoded(image, "png", transparency=image.getpixel((0, 0))))
    assert _near(colours, (4, 3), RED)
    assert _near(white, (4, 3), (255, 255, 255))
    assert _near(black, (4, 3), (0, 0, 0))
    assert _near(_only(_encoded(_halves("RGBA"))), (4, 3), RED)


@pytest.mark.parametrize("name", ["gif", "png", "webp", "tiff", "avif"])
def test_every_frame_is_looked_at(name: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, (5, 250, 5))]
    data = _encoded(frames[0], name, save_all=True, append_images=frames[1:], **FORMATS[name])
    views = list(open_image(data))
    assert [view.info["frame"] for view in views] == [0, 1, 2]
    assert all(_near(v, (8, 8), c, 20) for v, c in zip(views, (RED, BLUE, (5, 250, 5)), strict=True))


def test_what_was_seen_already_is_not_looked_at_again() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE, RED, BLUE)]
    data = _encoded(frames[0], "tiff", save_all=True, append_images=frames[1:])
    assert [view.info["frame"] for view in open_image(data)] == [0, 1]


def test_many_pages_are_refused_at_once() -> None:
    """Each page of this TIFF is six bytes; Pillow would take minutes to count them."""
    pages = 100_000
    data = bytearray(_encoded(_halves(), "tiff"))
    first = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[first : first + 2], "little")
    link = first + 2 + 12 * count
    data[link : link + 4] = len(data).to_bytes(4, "little")
    for page in range(pages):
        ahead = len(data) + 6 if page < pages - 1 else 0
        data += b"\0\0" + ahead.to_bytes(4, "little")
    started = time.perf_counter()
    with pytest.raises(ImageError):
        list(open_image(bytes(data)))
    assert time.perf_counter() - started < 20


def test_an_image_that_is_open_is_left_as_it_was() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    image = Image.open(io.BytesIO(_encoded(frames[0], "gif", save_all=True, append_images=frames[1:])))
    image.seek(1)
    assert len(list(open_image(image))) == 2
    assert image.tell() == 1
    own = Image.new("RGB", (4, 4), RED)
    _only(own).paste(BLUE, (0, 0, 4, 4))
    assert own.getpixel((0, 0)) == RED


def _png_that_claims(width: int, height: int) -> bytes:
    """A few bytes whose header promises a large image."""
    import struct

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused_before_they_are_decoded() -> None:
    for side in (9_000, 20_000, 60_000):
        with pytest.raises(ImageError, match=r"pixels|DecompressionBombError"):
            list(open_image(_png_that_claims(side, side)))
    with pytest.raises(ImageError, match="the limit is 100"):
        _only(_encoded(_halves()), pixels=100)
    with pytest.raises(ImageError, match="larger than 10 bytes"):
        _only(_encoded(_halves()), encoded_bytes=10)
    gif = _encoded(_halves(), "gif", save_all=True, append_images=[Image.new("RGB", (32, 16), RED)])
    with pytest.raises(ImageError, match="more than 1 frames"):
        list(open_image(gif, ImageLimits(frames=1)))
    with pytest.raises(ImageError, match="more than 600 pixels together"):
        list(open_image(gif, ImageLimits(pixels_of_all=600)))


def test_a_single_pixel_and_a_long_line() -> None:
    assert _only(_encoded(Image.new("RGB", (1, 1), RED))).getpixel((0, 0)) == RED
    assert _only(_encoded(Image.new("RGB", (20_000, 1), RED))).size == (20_000, 1)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (b"", "is empty"),
        (b"hello", "cannot be read as an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read as an image"),
        (3, "int is not an image"),
        (None, "NoneType is not an image"),
        (io.StringIO("text"), "binary mode"),
        ("no/such/file.png", "No such file"),
        ("\0", "cannot be read"),
        (Image.new("RGB", (0, 4)), "no pixels"),
    ],
)
def test_what_is_no_image_says_why(source: Any, why: str) -> None:
    with pytest.raises(ImageError, match=why):
        list(open_image(source))


def test_odd_places_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    for name, why in {
        "loop": "symbolic links|Too many",
        "pipe": "is not a regular file",
        ".": "is not a regular file",
    }.items():
        with pytest.raises(ImageError, match=why):
            list(open_image(tmp_path / name))


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_ends_early_is_refused(name: str) -> None:
    data = _encoded(Storybook(seed=3).scene(0).image, name, **FORMATS[name])
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError):
            list(open_image(data[: int(share * len(data))]))


_SEEDS = {
    **{name: _encoded(_halves(), name, **options) for name, options in FORMATS.items()},
    "animation": _encoded(_halves(), "gif", save_all=True, append_images=[Image.new("RGB", (32, 16), RED)]),
    "palette": _encoded(_halves("P"), "png", transparency=0),
    "inks": _encoded(_halves("CMYK"), "jpeg"),
}


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(_SEEDS[draw(st.sampled_from(sorted(_SEEDS)))])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        piece = draw(st.binary(max_size=8))
        match draw(st.sampled_from(["overwrite", "insert", "remove", "cut"])):
            case "overwrite":
                data[at : at + len(piece)] = piece
            case "insert":
                data[at:at] = piece
            case "remove":
                del data[at : at + len(piece)]
            case _:
                del data[at:]
    return bytes(data)


def _judge_damaged(data: bytes) -> None:
    """Whatever comes, it is looked at or blocked with a reason, and the image beside it is not."""
    broken, sound = _GUARD.screen_images([data, _halves()])
    assert sound.action is Action.ALLOW
    problem = None
    try:
        assert all(frame.mode == "RGB" for frame in open_image(data))
    except ImageError as error:
        problem = str(error)
    assert broken.reasons == ((problem,) if problem else ())
    assert broken.action is (Action.BLOCK if problem else Action.ALLOW)
    assert problem or "never" in broken.filters


def _never_guard() -> Guard:
    from safelight import registry
    from safelight.policy import Policy

    return Guard(Policy.load("storybook"), {"image": [registry.bind("image_filter", "never")]})


_GUARD = _never_guard()


@given(_damaged())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_judged_or_blocked(data: bytes) -> None:
    _judge_damaged(data)


@pytest.mark.slow
@given(_damaged())
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@pytest.mark.filterwarnings("ignore")
def test_ten_thousand_damaged_files_are_judged_or_blocked(data: bytes) -> None:
    _judge_damaged(data)
