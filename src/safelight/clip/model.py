"""A CLIP that is loaded once in a process, and embeds an image once, however many filters ask."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from safelight.clip.preprocessing import Floats
from safelight.clip.towers import CheckerTowers, OnnxTowers, Towers, TransformersTowers
from safelight.models.files import read_json
from safelight.models.source import find_source

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

_PACKAGED = {"storybook": Path(__file__).parents[1] / "storybook" / "clip"}
_CHECKER = "StableDiffusionSafetyChecker"
_AT_ONCE = 16
_REMEMBERED = 512


class ClipModel:
    """``scale`` is what the model multiplies cosines with before a softmax; several threads may use it."""

    def __init__(self, towers: Towers) -> None:
        self.version = towers.version
        self.scale = towers.scale
        self.dimensions = towers.dimensions
        self._towers = towers
        self._memory = _Memory(_REMEMBERED)

    def embed_images(self, images: Sequence[Image]) -> Floats:
        """(N, dimensions), each of length one, of images of any size and mode.

        An image that was embedded lately is not embedded again. A row is no number where the model gave
        none.
        """
        rgb = [image.convert("RGB") for image in images]
        return self._embed(rgb, [_digest(image) for image in rgb], self._run)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """(N, dimensions), each of length one. Raises ``ModelError`` if the model has no text tower."""
        return self._embed(texts, list(texts), self._towers.texts)

    def _run(self, images: Sequence[Image]) -> Floats:
        return self._towers.images(np.stack([self._towers.preprocessing(image) for image in images]))

    def _embed(
        self, items: Sequence[T], keys: Sequence[str | bytes], run: Callable[[Sequence[T]], Floats]
    ) -> Floats:
        rows = {key: self._memory.get(key) for key in keys}
        missing = {key: item for key, item in zip(keys, items, strict=True) if rows[key] is None}
        for start in range(0, len(missing), _AT_ONCE):
            new = list(missing)[start : start + _AT_ONCE]
            for key, row in zip(new, _unit(run([missing[key] for key in new])), strict=True):
                rows[key] = row
                self._memory.put(key, row)
        return np.array([rows[key] for key in keys], np.float32).reshape(-1, self.dimensions)


class _Memory:
    """The latest embeddings by what was embedded, which several threads may ask for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: OrderedDict[str | bytes, Floats] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str | bytes) -> Floats | None:
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def put(self, key: str | bytes, row: Floats) -> None:
        with self._lock:
            self._rows[key] = row
            while len(self._rows) > self._size:
                self._rows.popitem(last=False)


def _digest(rgb: Image) -> bytes:
    """By content: images are changed in place, and addresses used again."""
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).digest()


def _unit(rows: Floats) -> Floats:
    """Rows of length one; no numbers where the length is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def load_clip(
    model: str | Path = "storybook", revision: str | None = None, device: str | None = None
) -> ClipModel:
    """The one in this process: a packaged one ("storybook"), a folder, or a hub id with its ``revision``.

    A folder holds either ``image.onnx`` and ``text.onnx`` with ``tokenizer.json``, ``clip.json`` and
    ``hashes.json``, or what transformers saves of a ``CLIPModel`` or diffusers of a
    ``StableDiffusionSafetyChecker`` (which has no text tower). ``revision`` is a commit of forty hex digits;
    ``device`` is for PyTorch. Raises ``ModelError``, and ``MissingExtraError`` where PyTorch is missing.
    """
    source = find_source(_PACKAGED.get(str(model), model), revision)
    with _loading:
        return _loaded(
            source.name if source.folder is None else str(source.folder.resolve()), revision, device
        )


_loading = threading.Lock()


@cache
def _loaded(model: str, revision: str | None, device: str | None) -> ClipModel:
    source = find_source(model, revision)
    if source.folder and (source.folder / "image.onnx").is_file():
        return ClipModel(OnnxTowers(source.folder))
    towers = CheckerTowers if source.folder and _is_checker(source.folder) else TransformersTowers
    return ClipModel(towers(source, device))


def _is_checker(folder: Path) -> bool:
    return _CHECKER in (read_json(folder / "config.json").get("architectures") or ())
