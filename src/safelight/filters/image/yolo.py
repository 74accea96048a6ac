"""YOLO networks as ONNX files: every place's scores, and the boxes of those places only that somebody wants.

A sixth of what such a network does is for boxes, and most of what its end does is to turn distances into
boxes at thousands of places, of which a handful is kept, and in most images none. So it is cut in two, and
the part that makes boxes runs for an image only in which something was found; the end is done here.
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

# Places lie in grids of these many pixels; the side of what the network sees must be a multiple of the last.
_STRIDES = (8, 16, 32)
STRIDE = _STRIDES[-1]
# By how much scores, and by how many pixels boxes, may differ, for rounding.
_SAME, _NEAR = 1e-5, 0.01


class Yolo:
    """``labels`` in order, and ``side`` in pixels of the square that it was trained for, as the file says.

    Raises ``ModelError`` for a file that is damaged or names no labels, and for an unknown provider.
    """

    def __init__(self, path: Path, providers: Sequence[str]) -> None:
        self._session = open_session(path, providers)
        self.labels, self.side = _about(path, self._session.get_modelmeta().custom_metadata_map)
        self._boxes: onnxruntime.InferenceSession | None = None
        if halves := _halves(path):
            self._try(path, providers, *halves)

    def look(self, pixels: Floats) -> Looked:
        """At (1, 3, side, side) in [0, 1]. Raises ``FilterError`` if what it answers is no YOLO's."""
        output = _run(self._session, [pixels])
        if self._boxes:
            return _Halved(output, self._boxes, pixels.shape[-1])
        return Looked(output[0], len(self.labels))

    def _try(self, path: Path, providers: Sequence[str], network: bytes, boxes: bytes) -> None:
        """Takes the two halves if they give the same on noise."""
        noise = np.random.default_rng(0).random((1, 3, self.side, self.side), np.float32)
        whole, session = self.look(noise), self._session
        everywhere = np.arange(whole.scores.shape[1])
        try:
            self._session, self._boxes = (open_session(path, providers, half) for half in (network, boxes))
            other = self.look(noise)
            same = np.abs(other.scores - whole.scores).max() < _SAME
            same = same and np.abs(other.boxes(everywhere) - whole.boxes(everywhere)).max() < _NEAR
        except (FilterError, ModelError, ValueError):
            same = False
        if not same:
            self._session, self._boxes = session, None


class Looked:
    """What the network saw: ``scores`` are (labels, places)."""

    def __init__(self, output: Floats, labels: int) -> None:
        if output.ndim != 3 or output.shape[:2] != (1, 4 + labels):
            raise FilterError(f"the network answers {output.shape}, which is no NudeNet; give another model")
        self._output = output[0]
        self.scores: Floats = self._output[4:]
        _check(np.isfinite(self._output).all() and self.scores.min() >= 0 and self.scores.max() <= 1)

    def boxes(self, places: NDArray[np.intp]) -> Floats:
        """(places, 4): left, top, right and bottom in pixels of what the network saw.

        Raises ``FilterError`` where they are no numbers.
        """
        centres, sizes = self._output[:4, places].reshape(2, 2, -1)
        return np.concatenate([centres - sizes / 2, centres + sizes / 2]).T


class _Halved(Looked):
    """Of a network in two halves: ``seen`` is what the first one answers, for each grid how likely each label
    is as a logit, (1, labels, height, width), then all that the second half needs.

    That one tells how likely each distance is from a place to each side of its box, in steps of its stride:
    (1, 4 · steps, height, width). Li et al. (2020, arXiv:2006.04388), eq. 5: a distance is the mean of the
    steps, each as likely as it is.
    """

    def __init__(self, seen: Sequence[Floats], boxes: onnxruntime.InferenceSession, side: int) -> None:
        logits = _places(seen[: len(_STRIDES)], side)
        _check(np.isfinite(logits).all())
        self.scores = 1 / (1 + np.exp(-logits.clip(-50, 50)))
        self._seen = seen[len(_STRIDES) :]
        self._boxes = boxes
        self._side = side

    def boxes(self, places: NDArray[np.intp]) -> Floats:
        if not len(places):
            return np.zeros((0, 4), np.float32)
        likely = _places(_run(self._boxes, self._seen), self._side)[:, places]
        likely = likely.reshape(4, -1, len(places))
        likely = np.exp(likely - likely.max(1, keepdims=True))
        likely /= likely.sum(1, keepdims=True)
        left, top, right, bottom = np.arange(likely.shape[1], dtype=np.float32) @ likely
        x, y, stride = _grid(self._side)[:, places]
        boxes: Floats = (np.stack([x - left, y - top, x + right, y + bottom]) * stride).T
        _check(np.isfinite(boxes).all())
        return boxes


def _run(session: onnxruntime.InferenceSession, inputs: Sequence[Floats]) -> list[Any]:
    names = [each.name for each in session.get_inputs()]
    answers: list[Any] = session.run(None, dict(zip(names, inputs, strict=True)))
    return answers


def _check(holds: bool | np.bool_) -> None:
    if not holds:
        raise FilterError("the network answers something that is no number or no probability")


def _places(maps: Sequence[Floats], side: int) -> Floats:
    """(values, places) of a map for each grid."""
    if [each.shape[2:] for each in maps] != [(side // stride,) * 2 for stride in _STRIDES]:
        raise FilterError(f"the network answers {[each.shape for each in maps]}, which is no NudeNet")
    return np.concatenate([each[0].reshape(each.shape[1], -1) for each in maps], 1)


def _grid(side: int) -> Floats:
    """(3, places): the middle of each place in its grid, and the grid's stride."""
    grids = []
    for stride in _STRIDES:
        y, x = np.divmod(np.arange((side // stride) ** 2, dtype=np.float32), side // stride)
        grids.append([x + 0.5, y + 0.5, np.full_like(x, stride)])
    return np.concatenate(grids, 1, dtype=np.float32)


def _halves(path: Path) -> tuple[bytes, bytes] | None:
    """The network that tells the labels, and the one that makes distances of what the first has seen; None
    where the package onnx or such an end is missing.
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
    """The names of the distances and of the logits, one of each for each grid: what the end first joins."""
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


def _about(path: Path, said: dict[str, str]) -> tuple[tuple[str, ...], int]:
    try:
        names, sides = ast.literal_eval(said["names"]), ast.literal_eval(said["imgsz"])
        return tuple(str(names[number]) for number in range(len(names))), int(sides[0])
    except (KeyError, IndexError, SyntaxError, TypeError, ValueError) as error:
        raise ModelError(f"{path} names no labels as NudeNet's networks do; give another model.") from error
