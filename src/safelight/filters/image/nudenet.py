"""NudeNet: detects exposed and covered body parts. Code and weights are AGPL-3.0, so it is an extra.

Only the ONNX network of the package is used; its code is never imported. The code around the network is
replaced because the package passes BGR to a network trained on RGB, allows one label per anchor only, moves
boxes when it clips them, searches scores one by one, and is slower on a batch than on single images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.concurrency.thread_map import ThreadMap
from safelight.errors import FilterError, MissingExtraError, ModelError, unknown_name
from safelight.filters.image.options import check_share, check_threads
from safelight.filters.image.yolo import STRIDE, Detections, Yolo
from safelight.models.files import file_sha256, package_folder
from safelight.registry import register
from safelight.types import Box, Finding

if TYPE_CHECKING:
    Floats = NDArray[np.float32]

_NETWORK = "320n.onnx"
# The hash of the network in nudenet 3.4.2.
_SHA256 = "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f"


@register("image_filter", "nudenet")
class NudeNet:
    """Reports body parts under NudeNet's labels (``FACE_FEMALE`` …), each with its box.

    A label is reported wherever its score reaches ``threshold``, or the label's own value in ``thresholds``.
    Non-maximum suppression keeps the best of boxes of one label whose intersection over union exceeds
    ``iou``. With ``class_agnostic`` every anchor has only its likeliest label, as in the package, and boxes
    also suppress those of other labels, so one part can hide another.

    ``model`` is the file of another NudeNet network, such as 640m, and ``sha256`` its hash. ``side`` is the
    side of the square input in pixels, by default the one that the network was trained for. ``providers`` are
    ONNX Runtime's execution providers; ``threads`` is the number of threads, by default one per CPU core.

    Raises ``MissingExtraError`` if NudeNet is not installed, ``ModelError`` for a network that was altered or
    is not NudeNet and for an unknown provider, and ``FilterError`` for invalid options. An image that cannot
    be read is blocked. https://github.com/notAI-tech/NudeNet
    """

    @staticmethod
    def requires(options: Mapping[str, Any]) -> Mapping[str, str]:
        package = {} if options.get("model") else {"nudenet": "nudenet"}
        return {**package, "cv2": "nudenet"}

    def __init__(
        self,
        threshold: float = 0.25,
        thresholds: Mapping[str, float] | None = None,
        iou: float = 0.45,
        class_agnostic: bool = False,
        model: str | Path | None = None,
        sha256: str = "",
        side: int | None = None,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int | None = None,
        name: str = "nudenet",
    ) -> None:
        _check(iou, side, threads)
        path = _network(model)
        found = _check_hash(path, sha256 or ("" if model else _SHA256))
        self.name = name
        self.version = f"{path.stem} {found[:12]}"
        self._network = Yolo(path, providers)
        self.labels = frozenset(self._network.labels)
        self._thresholds = _thresholds(self._network.labels, threshold, thresholds or {})
        self._side = side or self._network.side
        self._iou = iou
        self._class_agnostic = class_agnostic
        self._map = ThreadMap(threads)

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        """Process images one by one on several threads: on a CPU a batch is slower than single images."""
        return self._map(self._findings, images)

    def _findings(self, image: Image.Image) -> list[Finding] | FilterError:
        try:
            detections = self._network.detect(_pixels(image, self._side))
            labels, anchors = self._above_threshold(detections)
            boxes, scores = detections.boxes(anchors), detections.scores[labels, anchors]
        except (FilterError, OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, for PNGs
            return FilterError(str(error))
        boxes *= np.tile(np.float32(max(image.size) / self._side) / np.array(image.size, np.float32), 2)
        boxes = boxes.clip(0, 1)
        groups = np.zeros_like(labels) if self._class_agnostic else labels
        return [
            Finding(self._network.labels[labels[i]], scores[i].item(), self.name, Box(*boxes[i].tolist()))
            for i in _non_maximum_suppression(boxes, scores, groups, self._iou)
        ]

    def _above_threshold(self, detections: Detections) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the indices of the labels and anchors whose scores reach their thresholds."""
        reach = detections.scores >= self._thresholds[:, None]
        if self._class_agnostic:
            reach &= detections.scores.argmax(0) == np.arange(len(reach))[:, None]
        # ``np.nonzero`` on two axes is slower.
        labels, anchors = np.divmod(np.flatnonzero(reach), reach.shape[1])
        return labels, anchors


def _pixels(image: Image.Image, side: int) -> Floats:
    """Return RGB pixels (1, 3, side, side) in [0, 1]: the image resized into the top left, padded with black.

    The image is resized by OpenCV with bilinear interpolation at any scale, as in the package: the network is
    sensitive to the interpolation method.
    """
    import cv2

    whole = max(image.size)
    if min(image.size) * side <= whole:  # less than one pixel would be left
        raise FilterError("it is empty, or too long and thin to be resized")
    # The image is padded only up to sizes at which the pixel grids before and after resizing are aligned.
    together = whole // gcd(whole, side)
    width, height = (-(-length // together) * together for length in image.size)
    rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    if (width, height) != image.size:
        padding = ((0, height - image.height), (0, width - image.width), (0, 0))
        rgb = np.pad(rgb, padding)
    width, height = width * side // whole, height * side // whole
    pixels = np.zeros((1, 3, side, side), np.float32)
    planes = cv2.resize(rgb, (width, height)).transpose(2, 0, 1)
    np.multiply(planes, np.float32(1 / 255), out=pixels[0, :, :height, :width])
    return pixels


def _non_maximum_suppression(
    boxes: Floats, scores: Floats, groups: NDArray[np.intp], iou: float
) -> list[int]:
    """Return the indices of the boxes that non-maximum suppression within each group keeps, best first."""
    kept = []
    rest = np.argsort(-scores, kind="stable")
    while rest.size:
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        rest = rest[
            (groups[rest] != groups[best]) | (_intersection_over_union(boxes[best], boxes[rest]) <= iou)
        ]
    return kept


def _intersection_over_union(box: Floats, others: Floats) -> Floats:
    """Return the intersection over union, in [0, 1], of ``box`` (4,) with each of ``others`` (n, 4)."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = sides.clip(0).prod(1)
    either = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - both
    share: Floats = both / np.maximum(either, np.finfo(np.float32).tiny)
    return share


def _network(model: str | Path | None) -> Path:
    """Return the file of the network. The package is located without importing it."""
    if find_spec("cv2") is None:
        raise MissingExtraError('the image filter "nudenet"', "nudenet")
    if model:
        return Path(model)
    package = package_folder("nudenet")
    if not package:
        raise MissingExtraError('the image filter "nudenet"', "nudenet")
    return package / _NETWORK


def _check_hash(path: Path, pinned: str) -> str:
    """Return the sha256 of the file. Raises ``ModelError`` if it differs from ``pinned``."""
    if not path.is_file():
        raise ModelError(f"there is no network at {path}; give the ONNX file of a NudeNet.")
    found = file_sha256(path)
    if found != pinned:
        why = "does not have the pinned sha256" if pinned else "is not pinned"
        raise ModelError(f'{path} {why}; if you trust it, set the option sha256 to "{found}".')
    return found


def _thresholds(labels: Sequence[str], threshold: float, own: Mapping[str, float]) -> Floats:
    for label in own:
        if label not in labels:
            raise FilterError(unknown_name("label", label, labels))
    given = {"threshold": threshold, **own}
    for name, value in given.items():
        check_share(name, value)
    return np.array([own.get(label, threshold) for label in labels], np.float32)


def _check(iou: float, side: int | None, threads: int | None) -> None:
    check_share("iou", iou)
    if side is not None and (side < STRIDE or side % STRIDE):
        raise FilterError(f"side is {side}; it must be a multiple of {STRIDE}.")
    check_threads(threads)
