"""YOLO networks as ONNX files: every place's scores, and the boxes of those places only that somebody wants.

Most of what the end of such a network does is to turn its distances into boxes at thousands of places, of
which a handful is kept. So it is cut off where it begins, and done for these few here.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from safelight.errors import FilterError, ModelError
from safelight.onnx_session import open_session

if TYPE_CHECKING:
    Floats = NDArray[np.float32]

# Places lie in grids of these many pixels; the side of what the network sees must be a multiple of the last.
_STRIDES = (8, 16, 32)
STRIDE = _STRIDES[-1]
# By how many pixels boxes may differ, for rounding.
_NEAR = 0.01


class Yolo:
    """``labels`` in order, and ``side`` in pixels of the square that it was trained for, as the file says.

    Raises ``ModelError`` for a file that is damaged or names no labels, and for an unknown provider.
    """

    def __init__(self, path: Path, providers: Sequence[str]) -> None:
        self._session = open_session(path, providers)
        self._input = self._session.get_inputs()[0].name
        self.labels, self.side = _about(path, self._session.get_modelmeta().custom_metadata_map)
        self._cut = False
        if network := _without_end(path):
            self._try(path, providers, network)

    def look(self, pixels: Floats) -> Looked:
        """At (1, 3, side, side) in [0, 1]. Raises ``FilterError`` if what it answers is no YOLO's."""
        output = self._session.run(None, {self._input: pixels})
        if self._cut:
            distances, scores = output
            return _Cut(distances, scores, pixels.shape[-1])
        return Looked(output[0], len(self.labels))

    def _try(self, path: Path, providers: Sequence[str], network: bytes) -> None:
        """Takes the network without its end if that gives the same on noise."""
        noise = np.random.default_rng(0).random((1, 3, self.side, self.side), np.float32)
        whole, session = self.look(noise), self._session
        everywhere = np.arange(whole.scores.shape[1])
        try:
            self._session, self._cut = open_session(path, providers, network), True
            other = self.look(noise)
            same = np.array_equal(other.scores, whole.scores)
            same = same and np.abs(other.boxes(everywhere) - whole.boxes(everywhere)).max() < _NEAR
        except (FilterError, ModelError, ValueError):
            same = False
        if not same:
            self._session, self._cut = session, False


class Looked:
    """What the network saw: ``scores`` are (labels, places)."""

    def __init__(self, output: Floats, labels: int) -> None:
        if output.ndim != 3 or output.shape[:2] != (1, 4 + labels):
            raise FilterError(f"the network answers {output.shape}, which is no NudeNet; give another model")
        self._output = output[0]
        self.scores: Floats = self._output[4:]
        self._check(self._output[:4])

    def boxes(self, places: NDArray[np.intp]) -> Floats:
        """(places, 4): left, top, right and bottom in pixels of what the network saw."""
        centres, sizes = self._output[:4, places].reshape(2, 2, -1)
        return np.concatenate([centres - sizes / 2, centres + sizes / 2]).T

    def _check(self, distances: Floats) -> None:
        """Every comparison with something that is no number is false."""
        if not (self.scores.min() >= 0 and self.scores.max() <= 1 and np.isfinite(distances).all()):
            raise FilterError("the network answers something that is no number or no probability")


class _Cut(Looked):
    """Of a network without its end: how likely each distance is from a place to each side of its box, in
    steps of its stride, (1, 4 · steps, places), and (1, labels, places).

    Li et al. (2020, arXiv:2006.04388), eq. 5: a distance is the mean of the steps, each as likely as it is.
    """

    def __init__(self, distances: Floats, scores: Floats, side: int) -> None:
        self.scores = scores[0]
        self._distances = distances[0]
        self._side = side
        if self._distances.shape[1] != sum((side // stride) ** 2 for stride in _STRIDES):
            raise FilterError(f"the network answers {distances.shape}, which is no NudeNet")
        self._check(self._distances)

    def boxes(self, places: NDArray[np.intp]) -> Floats:
        steps = len(self._distances) // 4
        likely = self._distances[:, places].reshape(4, steps, len(places))
        likely = np.exp(likely - likely.max(1, keepdims=True))
        likely /= likely.sum(1, keepdims=True)
        left, top, right, bottom = np.arange(steps, dtype=np.float32) @ likely
        x, y, stride = _grid(self._side)[:, places]
        boxes: Floats = (np.stack([x - left, y - top, x + right, y + bottom]) * stride).T
        return boxes


def _grid(side: int) -> Floats:
    """(3, places): the middle of each place in its grid, and the grid's stride."""
    grids = []
    for stride in _STRIDES:
        y, x = np.divmod(np.arange((side // stride) ** 2, dtype=np.float32), side // stride)
        grids.append([x + 0.5, y + 0.5, np.full_like(x, stride)])
    return np.concatenate(grids, 1, dtype=np.float32)


def _without_end(path: Path) -> bytes | None:
    """The network up to its distances and scores; None where the package onnx or such an end is missing."""
    try:
        import onnx
    except ImportError:
        return None
    model = onnx.load(path, load_external_data=False)
    makers = {output: node for node in model.graph.node for output in node.output}
    node, way = makers.get(model.graph.output[0].name), []
    for operation, number in (("Concat", -1), ("Sigmoid", 0), ("Split", 0)):
        if node is None or node.op_type != operation:
            return None
        way.append(node)
        node = makers.get(node.input[number])
    _, scores, split = way
    outputs = (split.output[0], scores.output[0])
    nodes, needed = [], set(outputs)
    for each in reversed(model.graph.node):  # what others need comes before them
        if needed.intersection(each.output):
            nodes.append(each)
            needed.update(each.input)
    constants = [each for each in model.graph.initializer if each.name in needed]
    del model.graph.node[:], model.graph.output[:], model.graph.initializer[:]
    model.graph.node.extend(reversed(nodes))
    model.graph.initializer.extend(constants)
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs
    )
    network: bytes = model.SerializeToString()
    return network


def _about(path: Path, said: dict[str, str]) -> tuple[tuple[str, ...], int]:
    try:
        names, sides = ast.literal_eval(said["names"]), ast.literal_eval(said["imgsz"])
        return tuple(str(names[number]) for number in range(len(names))), int(sides[0])
    except (KeyError, IndexError, SyntaxError, TypeError, ValueError) as error:
        raise ModelError(f"{path} names no labels as NudeNet's networks do; give another model.") from error
