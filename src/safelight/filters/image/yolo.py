"""YOLO networks as ONNX files: computes the scores of all anchors, and boxes only for those that are kept.

A sixth of the computation of such a network is for boxes, and most of the work of its last layers is to
decode boxes at thousands of anchors, of which few or none are kept. The network is therefore split in two:
the part that predicts boxes runs only for images with detections, and boxes are decoded here.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from safelight.errors import FilterError, ModelError
from safelight.models.onnx import open_session

if TYPE_CHECKING:
    import onnxruntime
    from onnx import ModelProto

    Floats = NDArray[np.float32]

# Anchors lie in grids with these strides in pixels; the side of the input must be a multiple of the last.
_STRIDES = (8, 16, 32)
STRIDE = _STRIDES[-1]
# Tolerances for rounding errors: of scores, and of boxes in pixels.
_SCORE_TOLERANCE, _BOX_TOLERANCE = 1e-5, 0.01


class Yolo:
    """A YOLO network on ONNX Runtime.

    ``labels`` are its labels in order, and ``side`` is the side in pixels of the square input that it was
    trained for; both are read from the file's metadata. Raises ``ModelError`` for a file that is damaged or
    names no labels, and for an unknown provider.
    """

    def __init__(self, path: Path, providers: Sequence[str]) -> None:
        self._session = open_session(path, providers)
        self.labels, self.side = _read_metadata(path, self._session.get_modelmeta().custom_metadata_map)
        self._boxes: onnxruntime.InferenceSession | None = None
        if halves := _split(path):
            self._use_split_if_equal(path, providers, *halves)

    def detect(self, pixels: Floats) -> Detections:
        """Run the network on pixels (1, 3, side, side) in [0, 1].

        Raises ``FilterError`` if the output does not have the form of a YOLO network.
        """
        output = _run(self._session, [pixels])
        if self._boxes:
            return _SplitDetections(output, self._boxes, pixels.shape[-1])
        return Detections(output[0], len(self.labels))

    def _use_split_if_equal(self, path: Path, providers: Sequence[str], network: bytes, boxes: bytes) -> None:
        """Use the two halves if their output for random noise equals that of the whole network."""
        noise = np.random.default_rng(0).random((1, 3, self.side, self.side), np.float32)
        whole, session = self.detect(noise), self._session
        everywhere = np.arange(whole.scores.shape[1])
        try:
            self._session, self._boxes = (open_session(path, providers, half) for half in (network, boxes))
            other = self.detect(noise)
            same = np.abs(other.scores - whole.scores).max() < _SCORE_TOLERANCE
            same = same and np.abs(other.boxes(everywhere) - whole.boxes(everywhere)).max() < _BOX_TOLERANCE
        except (FilterError, ModelError, ValueError):
            same = False
        if not same:
            self._session, self._boxes = session, None


class Detections:
    """The detections of the network in one image; ``scores`` are (labels, anchors)."""

    def __init__(self, output: Floats, labels: int) -> None:
        if output.ndim != 3 or output.shape[:2] != (1, 4 + labels):
            raise FilterError(
                f"the network's output {output.shape} is not that of NudeNet; use another model"
            )
        self._output = output[0]
        self.scores: Floats = self._output[4:]
        _check(np.isfinite(self._output).all() and self.scores.min() >= 0 and self.scores.max() <= 1)

    def boxes(self, anchors: NDArray[np.intp]) -> Floats:
        """Return the boxes of the given anchors, (anchors, 4): left, top, right, bottom in input pixels.

        Raises ``FilterError`` if they are not finite.
        """
        centres, sizes = self._output[:4, anchors].reshape(2, 2, -1)
        return np.concatenate([centres - sizes / 2, centres + sizes / 2]).T


class _SplitDetections(Detections):
    """The detections of a network that was split in two.

    ``seen`` is the output of the first half: for each grid the logits of the labels, (1, labels, height,
    width), then all inputs of the second half. The second half returns for each grid the logits of a discrete
    distribution over the distance from an anchor to each side of its box, in units of the stride:
    (1, 4 · steps, height, width). The distance is the expectation of that distribution (Li et al. 2020,
    arXiv:2006.04388, eq. 5).
    """

    def __init__(self, seen: Sequence[Floats], boxes: onnxruntime.InferenceSession, side: int) -> None:
        logits = _concatenated(seen[: len(_STRIDES)], side)
        _check(np.isfinite(logits).all())
        self.scores = 1 / (1 + np.exp(-logits.clip(-50, 50)))
        self._seen = seen[len(_STRIDES) :]
        self._boxes = boxes
        self._side = side

    def boxes(self, anchors: NDArray[np.intp]) -> Floats:
        if not len(anchors):
            return np.zeros((0, 4), np.float32)
        likely = _concatenated(_run(self._boxes, self._seen), self._side)[:, anchors]
        likely = likely.reshape(4, -1, len(anchors))
        likely = np.exp(likely - likely.max(1, keepdims=True))
        likely /= likely.sum(1, keepdims=True)
        left, top, right, bottom = np.arange(likely.shape[1], dtype=np.float32) @ likely
        x, y, stride = _grid(self._side)[:, anchors]
        boxes: Floats = (np.stack([x - left, y - top, x + right, y + bottom]) * stride).T
        _check(np.isfinite(boxes).all())
        return boxes


def _run(session: onnxruntime.InferenceSession, inputs: Sequence[Floats]) -> list[Any]:
    names = [each.name for each in session.get_inputs()]
    answers: list[Any] = session.run(None, dict(zip(names, inputs, strict=True)))
    return answers


def _check(holds: bool | np.bool_) -> None:
    if not holds:
        raise FilterError("the network's output is not finite or not a probability")


def _concatenated(maps: Sequence[Floats], side: int) -> Floats:
    """Concatenate one map per grid to an array (values, anchors)."""
    if [each.shape[2:] for each in maps] != [(side // stride,) * 2 for stride in _STRIDES]:
        raise FilterError(f"the network's outputs {[each.shape for each in maps]} are not those of NudeNet")
    return np.concatenate([each[0].reshape(each.shape[1], -1) for each in maps], 1)


def _grid(side: int) -> Floats:
    """Return (3, anchors): the centre x and y of each anchor in its grid, and the stride of the grid."""
    grids = []
    for stride in _STRIDES:
        y, x = np.divmod(np.arange((side // stride) ** 2, dtype=np.float32), side // stride)
        grids.append([x + 0.5, y + 0.5, np.full_like(x, stride)])
    return np.concatenate(grids, 1, dtype=np.float32)


def _split(path: Path) -> tuple[bytes, bytes] | None:
    """Split a network into one that predicts labels and one that predicts distances from its outputs.

    Returns None if the package onnx is not installed or the network does not have the expected last layers.
    """
    try:
        import onnx
        from onnx.utils import Extractor
    except ImportError:
        return None
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    if (maps := _maps(model)) is None:
        return None
    distances, logits = maps
    pixels, whole = [model.graph.input[0].name], Extractor(model)
    known = {name for node in whole.extract_model(pixels, logits).graph.node for name in node.output}
    others = whole.extract_model(pixels, distances).graph.node
    between = sorted(
        {name for node in others if node.output[0] not in known for name in node.input if name in known}
    )
    network = whole.extract_model(pixels, [*logits, *between])
    return network.SerializeToString(), whole.extract_model(between, distances).SerializeToString()


def _maps(model: ModelProto) -> tuple[list[str], list[str]] | None:
    """Return the names of the tensors of distances and of logits, one of each per grid; None if not found."""
    makers = {output: node for node in model.graph.node for output in node.output}

    def back(name: str, *way: tuple[str, int]) -> Any:
        node = makers.get(name)
        for operation, number in way:
            if node is None or node.op_type != operation:
                return None
            node = makers.get(node.input[number])
        return node

    joined = back(model.graph.output[0].name, ("Concat", -1), ("Sigmoid", 0), ("Split", 0))
    if joined is None or joined.op_type != "Concat" or len(joined.input) != len(_STRIDES):
        return None
    grids = [back(name, ("Reshape", 0)) for name in joined.input]
    if any(grid is None or grid.op_type != "Concat" or len(grid.input) != 2 for grid in grids):
        return None
    return [grid.input[0] for grid in grids], [grid.input[1] for grid in grids]


def _read_metadata(path: Path, metadata: dict[str, str]) -> tuple[tuple[str, ...], int]:
    """Return the labels and the input side that the file's metadata name."""
    try:
        names, sides = ast.literal_eval(metadata["names"]), ast.literal_eval(metadata["imgsz"])
        return tuple(str(names[number]) for number in range(len(names))), int(sides[0])
    except (KeyError, IndexError, SyntaxError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path} names no labels in the way of NudeNet's networks; use another model."
        ) from error
