"""Networks in two halves see the same, on tiny ones with a YOLO's end and on NudeNet's own."""

from __future__ import annotations

import builtins
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from safelight.errors import FilterError
from safelight.filters.image.yolo import Yolo, _SplitDetections

SIDE, STEPS, GRIDS, PLACES = 32, 4, (4, 2, 1), 16 + 4 + 1
PIXELS = np.zeros((1, 3, SIDE, SIDE), np.float32)


def _save(path: Path, distances: Any, scores: Any, scale: float = 1.0) -> Path:
    """A YOLO that always sees this; its boxes are ``scale`` times too large."""
    from onnx import TensorProto, helper, numpy_helper, save

    x = np.concatenate([np.tile(np.arange(n) + 0.5, n) for n in GRIDS])
    y = np.concatenate([np.repeat(np.arange(n) + 0.5, n) for n in GRIDS])
    constants = {
        **_grids("distances", distances),
        **_grids("logits", np.log(scores) - np.log1p(-scores)),
        "map": np.array([1, 4 * STEPS + len(scores), -1]),
        "parts": np.array([4 * STEPS, len(scores)]),
        "by_side": np.array([1, 4, STEPS, PLACES]),
        "steps": np.arange(STEPS)[None, None, :, None],
        "axis": np.array([2]),
        "pairs": np.array([2, 2]),
        "middle": np.stack([x, y])[None],
        "half": np.array(0.5),
        "stride": scale * np.repeat([8, 16, 32], [16, 4, 1])[None, None],
    }
    node = helper.make_node
    nodes = [node("ReduceMean", ["images"], ["light"])]
    for grid in GRIDS:
        nodes += [
            node("Add", [f"{name} {grid}", "light"], [f"{name} {grid} seen"])
            for name in ("distances", "logits")
        ]
        nodes += [
            node("Concat", [f"distances {grid} seen", f"logits {grid} seen"], [f"joined {grid}"], axis=1),
            node("Reshape", [f"joined {grid}", "map"], [f"map {grid}"]),
        ]
    nodes += [
        node("Concat", [f"map {grid}" for grid in GRIDS], ["answer"], axis=2),
        node("Split", ["answer", "parts"], ["all distances", "all logits"], axis=1),
        node("Reshape", ["all distances", "by_side"], ["sides"]),
        node("Softmax", ["sides"], ["likely"], axis=2),
        node("Mul", ["likely", "steps"], ["weighed"]),
        node("ReduceSum", ["weighed", "axis"], ["mean"], keepdims=0),
        node("Split", ["mean", "pairs"], ["before", "after"], axis=1),
        node("Sub", ["middle", "before"], ["first"]),
        node("Add", ["middle", "after"], ["last"]),
        node("Sub", ["last", "first"], ["size"]),
        node("Add", ["first", "last"], ["both"]),
        node("Mul", ["both", "half"], ["centre"]),
        node("Concat", ["centre", "size"], ["boxes"], axis=1),
        node("Mul", ["boxes", "stride"], ["pixels"]),
        node("Sigmoid", ["all logits"], ["scores"]),
        node("Concat", ["pixels", "scores"], ["output0"], axis=1),
    ]
    whole = ("map", "parts", "by_side", "axis", "pairs")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(value.astype(np.int64 if name in whole else np.float32), name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"names": "{0: 'FACE', 1: 'FOOT'}", "imgsz": f"[{SIDE}, {SIDE}]"})
    save(model, path)
    return path


def _grids(name: str, values: Any) -> dict[str, Any]:
    """(values, places) as one map for each grid."""
    parts = np.split(values, np.cumsum([grid**2 for grid in GRIDS])[:-1], axis=1)
    return {
        f"{name} {grid}": part.reshape(1, -1, grid, grid) for grid, part in zip(GRIDS, parts, strict=True)
    }


@pytest.fixture
def seen() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.normal(size=(4 * STEPS, PLACES)), random.uniform(0.01, 0.99, (2, PLACES))


def _open(path: Path) -> Yolo:
    return Yolo(path, ("CPUExecutionProvider",))


def test_a_box_by_hand(tmp_path: Path) -> None:
    """Place 5 of the first grid is at (1.5, 1.5): 1, 1, 2 and 0 steps of 8 pixels are (4, 4, 28, 12)."""
    distances = np.zeros((4, STEPS, PLACES))
    for side, steps in enumerate((1, 1, 2, 0)):
        distances[side, steps, 5] = 50
    scores = np.full((2, PLACES), 0.25)
    network = _open(_save(tmp_path / "yolo.onnx", distances.reshape(-1, PLACES), scores))
    assert network._boxes
    detections = network.detect(PIXELS)
    assert detections.boxes(np.array([5])) == pytest.approx(np.array([[4, 4, 28, 12]]), abs=1e-4)
    assert detections.scores == pytest.approx(scores)
    assert detections.boxes(np.array([], np.intp)).shape == (0, 4)


def test_in_halves_it_sees_the_same(
    tmp_path: Path, seen: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, anchors = _save(tmp_path / "yolo.onnx", *seen), np.array([0, 7, 17, 20])
    halved = _open(path)
    imported = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name == "onnx":
            raise ImportError
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    whole = _open(path)
    assert halved._boxes
    assert not whole._boxes
    one, other = halved.detect(PIXELS), whole.detect(PIXELS)
    assert one.scores == pytest.approx(other.scores, abs=1e-6)
    assert one.boxes(anchors) == pytest.approx(other.boxes(anchors), abs=1e-4)


def test_a_network_with_another_end_stays_whole(tmp_path: Path, seen: tuple[Any, Any]) -> None:
    network, usual = (_open(_save(tmp_path / "yolo.onnx", *seen, scale)) for scale in (2.0, 1.0))
    assert not network._boxes
    doubled, boxes = (each.detect(PIXELS).boxes(np.array([3, 18])) for each in (network, usual))
    assert doubled == pytest.approx(2 * boxes, abs=1e-4)


def test_boxes_are_made_only_where_something_was_found(tmp_path: Path, seen: tuple[Any, Any]) -> None:
    """A second half that fails is not missed as long as nobody wants a box."""
    network = _open(_save(tmp_path / "yolo.onnx", *seen))
    detections = network.detect(PIXELS)
    assert isinstance(detections, _SplitDetections)
    detections._seen = [np.full_like(each, np.nan) for each in detections._seen]
    assert detections.boxes(np.array([], np.intp)).shape == (0, 4)
    with pytest.raises(FilterError, match="not finite"):
        detections.boxes(np.array([3]))


@pytest.mark.skipif(importlib.util.find_spec("nudenet") is None, reason="NudeNet is not installed")
@pytest.mark.parametrize("side", [320, 224])
def test_nudenet_is_halved(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from safelight.filters.image import nudenet, yolo

    path = nudenet._network(None)
    halved = _open(path)
    monkeypatch.setattr(yolo, "_split", lambda path: None)
    pixels = np.random.default_rng(1).random((1, 3, side, side), np.float32)
    one, other = (each.detect(pixels) for each in (halved, _open(path)))
    assert halved._boxes
    assert one.scores == pytest.approx(other.scores, abs=1e-6)
    everywhere = np.arange(one.scores.shape[1])
    assert one.boxes(everywhere) == pytest.approx(other.boxes(everywhere), abs=1e-3)
