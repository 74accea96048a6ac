"""On tiny networks with NudeNet's interface, and beside the package itself where that is installed."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from safelight import registry
from safelight.errors import FilterError, MissingExtraError, ModelError
from safelight.policy import Policy, check_labels
from safelight.storybook import Storybook
from safelight.types import Box, Finding

SIDE = 32
COLOURS = ("RED", "GREEN", "BLUE")
with_nudenet = pytest.mark.skipif(
    importlib.util.find_spec("nudenet") is None, reason="NudeNet is not installed"
)
Answer = Sequence[Sequence[float]]
IMAGE = Image.new("RGB", (SIDE, SIDE))


def _save(path: Path, nodes: list[Any], constants: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """Writes a network, and gives the options that name it."""
    from onnx import TensorProto, helper, numpy_helper, save

    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    names = {"names": str(dict(enumerate(labels))), "imgsz": f"[{SIDE}, {SIDE}]"}
    helper.set_model_props(model, names if labels else {})
    save(model, path)
    return {"model": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.fixture
def mirror(tmp_path: Path) -> dict[str, Any]:
    """Its place 32·y + x is pixel (x, y) of its input, with the pixel's three colours as scores."""
    from onnx import helper

    y, x = np.divmod(np.arange(SIDE * SIDE, dtype=np.float32), SIDE)
    anchors = np.stack([x + 0.5, y + 0.5, np.ones_like(x), np.ones_like(x)])[None]
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["scores"]),
        helper.make_node("Concat", ["places", "scores"], ["output0"], axis=1),
    ]
    return _save(tmp_path / "mirror.onnx", nodes, {"shape": np.array([1, 3, -1]), "places": anchors}, COLOURS)


@pytest.fixture
def answering(tmp_path: Path) -> Callable[..., Any]:
    """A filter whose network always gives these places: centre, width, height in pixels, then scores."""

    def build(anchors: Answer, labels: Sequence[str] = ("FACE", "FOOT"), **options: Any) -> Any:
        from onnx import helper

        answer = np.array(anchors, np.float32).T[None]
        node = helper.make_node("Identity", ["answer"], ["output0"])
        model = _save(tmp_path / "constant.onnx", [node], {"answer": answer}, labels)
        return registry.build("image_filter", "nudenet", **model, **options)

    return build


def _seen(mirror: dict[str, Any], image: Image.Image) -> NDArray[np.float64]:
    """(3, 32, 32): what the network saw, black where nothing was found."""
    found = registry.build("image_filter", "nudenet", threshold=1e-6, **mirror).find([image])[0]
    seen, square = np.zeros((3, SIDE, SIDE)), max(image.size)
    for each in found:
        x = (each.evidence.left + each.evidence.right) / 2 * image.width / square * SIDE
        y = (each.evidence.top + each.evidence.bottom) / 2 * image.height / square * SIDE
        seen[COLOURS.index(each.label), int(y), int(x)] = each.score
    return seen


def test_colours_reach_the_network_in_the_order_red_green_blue(mirror: dict[str, Any]) -> None:
    seen = _seen(mirror, Image.new("RGB", (SIDE, SIDE), (255, 102, 51)))
    assert seen == pytest.approx(np.array([1.0, 0.4, 0.2])[:, None, None] * np.ones((1, SIDE, SIDE)))


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (64, 32), (37, 80), (20, 11), (200, 50)])
def test_images_are_scaled_bilinearly_into_the_upper_left(
    mirror: dict[str, Any], size: tuple[int, int]
) -> None:
    """Against PyTorch's bilinear interpolation of the padded square; black beyond the image."""
    import torch
    from torch.nn.functional import interpolate

    noise = np.random.default_rng(0).integers(1, 256, (size[1], size[0], 3), np.uint8)
    square = torch.zeros(1, 3, max(size), max(size))
    square[0, :, : size[1], : size[0]] = torch.from_numpy(noise).permute(2, 0, 1)
    expected = interpolate(square, (SIDE, SIDE), mode="bilinear", align_corners=False)[0].numpy() / 255
    seen = _seen(mirror, Image.fromarray(noise))
    inside = np.s_[:, : SIDE * size[1] // max(size), : SIDE * size[0] // max(size)]
    assert np.abs(seen - expected)[inside].max() < 1.1 / 255


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_images_of_any_mode_are_seen(mirror: dict[str, Any], mode: str) -> None:
    assert _seen(mirror, Image.new("RGB", (40, 40), "white").convert(mode)).min() > 0.99


def test_boxes_are_shares_of_the_image_cut_at_its_edges(answering: Callable[..., Any]) -> None:
    # 64 × 48 pixels are seen as 32 × 24: the first is 16 … 48 by 8 … 40, the second sticks out to the left
    # and above.
    wide = Image.new("RGB", (64, 48))
    (found,) = answering([[16, 12, 16, 16, 0.9, 0], [0, 1, 8, 4, 0, 0.5]]).find([wide])
    said = [(each.label, each.score, each.filter) for each in found]
    assert said == [("FACE", np.float32(0.9).item(), "nudenet"), ("FOOT", 0.5, "nudenet")]
    face, foot = (astuple(each.evidence) for each in found)
    assert face == _f((0.25, 8 / 48, 0.75, 40 / 48))
    assert foot == _f((0.0, 0.0, 0.125, 6 / 48))


def _f(value: float | tuple[float, ...]) -> Any:
    return pytest.approx(value, abs=1e-6)


# Two boxes 10 × 10, the second moved by ``step``: they share (10 - step) / (10 + step) of what they cover.
@pytest.mark.parametrize(("step", "left"), [(4, 1), (3.7, 1), (3.9, 2), (10, 2)])
def test_of_boxes_of_one_label_that_overlap_only_the_best_is_left(
    answering: Callable[..., Any], step: float, left: int
) -> None:
    iou = 0.45 if step != 4 else (10 - 4) / (10 + 4) - 0.001
    (found,) = answering([[10, 10, 10, 10, 0.5, 0], [10 + step, 10, 10, 10, 0.8, 0]], iou=iou).find([IMAGE])
    assert [each.score for each in found] == [_f(0.8), _f(0.5)][:left]


def test_a_part_never_hides_behind_another(answering: Callable[..., Any]) -> None:
    anchors = [[10, 10, 10, 10, 0.8, 0.3], [11, 10, 10, 10, 0, 0.6]]
    (found,) = answering(anchors).find([IMAGE])
    assert [(each.label, each.score) for each in found] == [("FACE", _f(0.8)), ("FOOT", _f(0.6))]
    (found,) = answering(anchors, class_agnostic=True).find([IMAGE])
    assert [each.label for each in found] == ["FACE"]


def test_each_label_can_have_a_threshold_of_its_own(answering: Callable[..., Any]) -> None:
    anchors = [[10, 10, 4, 4, 0.55, 0.4], [20, 20, 4, 4, 0.65, 0.2]]
    (found,) = answering(anchors, threshold=0.3, thresholds={"FACE": 0.6}).find([IMAGE])
    assert [(each.label, each.score) for each in found] == [("FACE", _f(0.65)), ("FOOT", _f(0.4))]


@pytest.mark.parametrize("wrong", [[np.nan, 9, 4, 4, 0.1, 0.1], [9, 9, 4, 4, np.nan, 0], [9, 9, 4, 4, 7, 0]])
def test_nonsense_of_the_network_blocks(answering: Callable[..., Any], wrong: list[float]) -> None:
    (answer,) = answering([wrong]).find([IMAGE])
    assert isinstance(answer, FilterError)
    assert "not finite or not a probability" in str(answer)


def test_a_network_of_another_shape_blocks(answering: Callable[..., Any]) -> None:
    (answer,) = answering([[9, 9, 4, 4, 0.1]]).find([IMAGE])
    assert "not that of NudeNet" in str(answer)


def test_what_cannot_be_read_blocks_itself_alone(mirror: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    nudenet = registry.build("image_filter", "nudenet", **mirror)
    with Image.open(path) as cut:
        whole, *others = nudenet.find([IMAGE, Image.new("RGB", (0, 5)), Image.new("RGB", (1, 33)), cut])
    assert whole == []
    assert [type(other) for other in others] == [FilterError] * 3


def test_threads_change_nothing(mirror: dict[str, Any]) -> None:
    scenes = [scene.image for scene in Storybook(seed=0).scenes(9)]
    one, many = (
        registry.build("image_filter", "nudenet", threads=n, threshold=0.9, **mirror) for n in (1, 3)
    )
    assert one.find(scenes) == many.find(scenes)
    assert [many.find([scene])[0] for scene in scenes] == many.find(scenes)


def test_the_network_sees_a_square_of_the_side_it_was_trained_for_or_another(
    answering: Callable[..., Any],
) -> None:
    anchors = [[16, 16, 8, 8, 0.9, 0]]
    ((found,),) = answering(anchors).find([IMAGE])
    assert astuple(found.evidence) == _f((0.375, 0.375, 0.625, 0.625))
    ((found,),) = answering(anchors, side=64).find([IMAGE])
    assert astuple(found.evidence) == _f((0.1875, 0.1875, 0.3125, 0.3125))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"threshold": 0.0}, "threshold is 0.0; it must be above 0"),
        ({"thresholds": {"RED": 1.5}}, "RED is 1.5; it must be above 0 and at most 1"),
        ({"thresholds": {"REED": 0.5}}, 'did you mean "RED"'),
        ({"iou": float("nan")}, "iou is nan"),
        ({"side": 100}, "side is 100; it must be a multiple of 32"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    mirror: dict[str, Any], options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(FilterError, match=problem):
        registry.build("image_filter", "nudenet", **mirror, **options)


def test_providers_are_honoured(mirror: dict[str, Any]) -> None:
    with pytest.raises(
        ModelError, match=r'no execution provider "NoSuchProvider"; available: .*CPUExecutionProvider'
    ):
        registry.build("image_filter", "nudenet", providers=["NoSuchProvider"], **mirror)
    with pytest.raises(ModelError, match="no execution provider is named"):
        registry.build("image_filter", "nudenet", providers=[], **mirror)
    registry.build("image_filter", "nudenet", providers=["CPUExecutionProvider"], **mirror)


def test_a_network_must_be_pinned_and_unaltered(mirror: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f'set the option sha256 to "{mirror["sha256"]}"'):
        registry.build("image_filter", "nudenet", model=mirror["model"])
    with pytest.raises(ModelError, match="does not have the pinned sha256"):
        registry.build("image_filter", "nudenet", model=mirror["model"], sha256="0" * 64)
    with pytest.raises(ModelError, match="there is no network at"):
        registry.build("image_filter", "nudenet", model=str(tmp_path / "none.onnx"), sha256="0" * 64)
    assert registry.build("image_filter", "nudenet", **mirror).version == f"mirror {mirror['sha256'][:12]}"


def test_a_network_without_labels_is_refused(answering: Callable[..., Any]) -> None:
    with pytest.raises(ModelError, match="names no labels"):
        answering([[9, 9, 4, 4, 0.1]], labels=())


@pytest.fixture
def _other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package "nudenet" with another network, and code that must not run."""
    (tmp_path / "nudenet").mkdir()
    (tmp_path / "nudenet" / "__init__.py").write_text("raise RuntimeError('imported')", "utf-8")
    (tmp_path / "nudenet" / "320n.onnx").write_bytes(b"another network")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "nudenet", raising=False)


@pytest.mark.usefixtures("_other_package")
def test_the_packages_network_is_pinned_and_its_code_is_never_imported() -> None:
    with pytest.raises(ModelError, match=r"320n\.onnx does not have the pinned sha256"):
        registry.build("image_filter", "nudenet")


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nudenet", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[nudenet\]"'):
        registry.build("image_filter", "nudenet")


@with_nudenet
def test_the_policy_maps_labels_that_it_reports() -> None:
    nudenet = registry.build("image_filter", "nudenet")
    assert len(nudenet.labels) == 18
    policy = Policy.load("general-nudenet")
    added = policy.labels.keys() - Policy.load("general").labels.keys()
    assert len(added) == 5
    assert added <= nudenet.labels
    others = [{"porn", "hentai", "sexy", "NSFW"}, {"minor", "likeness", "unread_text"}]
    check_labels(policy, [nudenet.labels, *others])


@with_nudenet
def test_an_empty_image_shows_nobody() -> None:
    nudenet = registry.build("image_filter", "nudenet", name="mine")
    assert nudenet.find([Image.new("RGB", (64, 48), "green")]) == [[]]


def _portraits(n: int) -> Iterator[Image.Image]:
    """Views of the portrait of Grace Hopper that comes with Matplotlib (public domain)."""
    from matplotlib import get_data_path

    with Image.open(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg") as opened:
        portrait = opened.convert("RGB")
    random = Random(0)
    for number in range(n):
        left, top = random.randint(0, 200), random.randint(0, 250)
        view = portrait.crop((left, top, left + random.randint(150, 512), top + random.randint(150, 600)))
        scale = random.uniform(0.5, 2.5)
        view = view.resize((round(view.width * scale), round(view.height * scale)))
        yield ImageOps.mirror(view) if number % 2 else view


@with_nudenet
def test_the_same_boxes_as_the_packages_own_detector() -> None:
    """Given RGB as an array the package shows its network RGB; its boxes are cut to whole pixels."""
    from nudenet import NudeDetector

    scenes = [scene.image.resize((512, 384)) for scene in islice(Storybook(seed=0).scenes(30), 30)]
    images = [*_portraits(30), *scenes]
    detect = NudeDetector().detect
    expected = [detect(np.asarray(image)) for image in images]
    answers = registry.build("image_filter", "nudenet", class_agnostic=True).find(images)
    assert sum(map(len, expected)) > 30
    for image, found, theirs in zip(images, answers, expected, strict=True):
        assert [each.label for each in found] == [each["class"] for each in theirs]
        assert [each.score for each in found] == pytest.approx([each["score"] for each in theirs], abs=0.003)
        for each, other in zip(found, theirs, strict=True):
            assert _in_pixels(each.evidence, image) == pytest.approx(_sides(other["box"]), abs=2)


@with_nudenet
def test_no_label_that_the_package_finds_is_lost_where_every_label_is_looked_at() -> None:
    images = list(_portraits(30))
    every, likeliest = (
        registry.build("image_filter", "nudenet", threshold=0.1, class_agnostic=agnostic).find(images)
        for agnostic in (False, True)
    )
    for found, fewer in zip(every, likeliest, strict=True):
        assert all(_best(found).get(label, 0) >= score for label, score in _best(fewer).items())
    assert sum(len(_best(found)) for found in every) > sum(len(_best(found)) for found in likeliest)


def _best(found: Sequence[Finding]) -> dict[str, float]:
    """Label -> its highest score."""
    return {each.label: each.score for each in sorted(found, key=lambda each: each.score)}


def _in_pixels(box: Box, image: Image.Image) -> list[float]:
    left, top = box.left * image.width, box.top * image.height
    return [left, top, box.right * image.width, box.bottom * image.height]


def _sides(box: Sequence[float]) -> list[float]:
    left, top, width, height = box
    return [left, top, left + width, top + height]
