"""NudeNet: finds the parts of a body. Its code and its weights are AGPL-3.0, so it is an extra.

Of the package only the network is used, an ONNX file; its code is never imported. What it gets wrong around
the network is done otherwise here: a network made for RGB is shown BGR, a place can have one label only,
boxes are moved where they are cut, scores are searched one by one, and the batch is slower than the single
image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.util import find_spec
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.concurrency.thread_count import cores
from safelight.errors import FilterError, MissingExtraError, ModelError, no_such
from safelight.filters.image.yolo import STRIDE, Looked, Yolo
from safelight.models.files import file_sha256
from safelight.registry import register
from safelight.types import Box, Finding

if TYPE_CHECKING:
    Floats = NDArray[np.float32]

_NETWORK = "320n.onnx"
# Of the network that comes with nudenet 3.4.2.
_SHA256 = "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f"


@register("image_filter", "nudenet")
class NudeNet:
    """Reports the parts of a body as NudeNet calls them (``FACE_FEMALE`` …), each with its box.

    A label is reported wherever its score reaches ``threshold``, or the label's own in ``thresholds``; of
    boxes of one label that overlap by more than ``iou`` only the best. With ``class_agnostic`` every place
    has its likeliest label alone, as in the package, and a part can hide behind another.

    ``model`` is another network of NudeNet's, say 640m, and ``sha256`` its hash. ``side`` is that of the
    square it looks at, in pixels; by default what the network was trained for. ``providers`` are ONNX
    Runtime's; images are looked at on so many ``threads``, by default one a core.

    Raises ``MissingExtraError`` where NudeNet is not installed, ``ModelError`` for a network that was altered
    or is no NudeNet, and for an unknown provider, ``FilterError`` for options that make no sense. An image
    that cannot be read is blocked. https://github.com/notAI-tech/NudeNet
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
        self._thread_count = threads or cores()

    def find(self, images: Sequence[Image.Image]) -> list[list[Finding] | FilterError]:
        """One image at a time on every thread: on a CPU a batch of images is slower than its images."""
        run = map if min(len(images), self._thread_count) < 2 else self._threads.map
        return list(run(self._findings, images))

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._thread_count)

    def _findings(self, image: Image.Image) -> list[Finding] | FilterError:
        try:
            looked = self._network.look(_pixels(image, self._side))
            labels, places = self._kept(looked)
            boxes, scores = looked.boxes(places), looked.scores[labels, places]
        except (FilterError, OSError, SyntaxError, ValueError) as error:  # SyntaxError: Pillow's, for PNGs
            return FilterError(str(error))
        boxes *= np.tile(np.float32(max(image.size) / self._side) / np.array(image.size, np.float32), 2)
        boxes = boxes.clip(0, 1)
        groups = np.zeros_like(labels) if self._class_agnostic else labels
        return [
            Finding(self._network.labels[labels[i]], scores[i].item(), self.name, Box(*boxes[i].tolist()))
            for i in _best(boxes, scores, groups, self._iou)
        ]

    def _kept(self, looked: Looked) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which labels, and at which places, reach their thresholds."""
        reach = looked.scores >= self._thresholds[:, None]
        if self._class_agnostic:
            reach &= looked.scores.argmax(0) == np.arange(len(reach))[:, None]
        # Of two axes numpy finds them more slowly.
        labels, places = np.divmod(np.flatnonzero(reach), reach.shape[1])
        return labels, places


def _pixels(image: Image.Image, side: int) -> Floats:
    """(1, 3, side, side), RGB in [0, 1]: the image in the upper left, as large as fits, the rest black.

    By OpenCV, between the four nearest pixels, whatever the scale: the network tells even that apart, and was
    never used with another.
    """
    import cv2

    whole = max(image.size)
    if min(image.size) * side <= whole:  # less than a pixel would be left of it
        raise FilterError("it is empty, or too long and thin to be seen")
    # Black is put around the image only up to where pixels of both sizes begin together.
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


def _best(boxes: Floats, scores: Floats, groups: NDArray[np.intp], iou: float) -> list[int]:
    """Which boxes are left, best first, once none overlaps a better one of its group by more than ``iou``."""
    kept = []
    rest = np.argsort(-scores, kind="stable")
    while rest.size:
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        rest = rest[(groups[rest] != groups[best]) | (_overlaps(boxes[best], boxes[rest]) <= iou)]
    return kept


def _overlaps(box: Floats, others: Floats) -> Floats:
    """Of ``box`` (4,) with each of ``others`` (n, 4): what both cover by what either covers, in [0, 1]."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = sides.clip(0).prod(1)
    either = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - both
    share: Floats = both / np.maximum(either, np.finfo(np.float32).tiny)
    return share


def _network(model: str | Path | None) -> Path:
    """The file of the network. The package is found without importing it."""
    if find_spec("cv2") is None:
        raise MissingExtraError('the image filter "nudenet"', "nudenet")
    if model:
        return Path(model)
    package = find_spec("nudenet")
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError('the image filter "nudenet"', "nudenet")
    return Path(package.submodule_search_locations[0]) / _NETWORK


def _check_hash(path: Path, pinned: str) -> str:
    """The sha256 of the file. Raises ``ModelError`` if it is not the one that was ``pinned``."""
    if not path.is_file():
        raise ModelError(f"there is no network at {path}; give the ONNX file of a NudeNet.")
    found = file_sha256(path)
    if found != pinned:
        why = "is not the network that was pinned" if pinned else "is pinned by no hash"
        raise ModelError(f'{path} {why}; if you trust it, set the option sha256 to "{found}".')
    return found


def _thresholds(labels: Sequence[str], threshold: float, own: Mapping[str, float]) -> Floats:
    for label in own:
        if label not in labels:
            raise FilterError(no_such("label", label, labels))
    given = {"threshold": threshold, **own}
    for name, value in given.items():
        _check_unit(name, value)
    return np.array([own.get(label, threshold) for label in labels], np.float32)


def _check(iou: float, side: int | None, threads: int | None) -> None:
    _check_unit("iou", iou)
    if side is not None and (side < STRIDE or side % STRIDE):
        raise FilterError(f"side is {side}; it must be a multiple of {STRIDE}.")
    if threads is not None and threads < 1:
        raise FilterError(f"threads is {threads}; give at least 1, or leave it out for one a core.")


def _check_unit(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise FilterError(f"{name} is {value}; it must be above 0 and at most 1.")
