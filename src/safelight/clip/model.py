"""CLIP models, which are loaded once per process and cache their embeddings for all filters."""

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
_BATCH_SIZE = 16
_CACHE_SIZE = 512


class ClipModel:
    """A CLIP model with a cache of embeddings; it is thread-safe.

    ``scale`` is the factor on cosine similarities before a softmax.
    """

    def __init__(self, towers: Towers) -> None:
        self.version = towers.version
        self.scale = towers.scale
        self.dimensions = towers.dimensions
        self._towers = towers
        self._cache = _EmbeddingCache(_CACHE_SIZE)

    def embed_images(self, images: Sequence[Image]) -> Floats:
        """Return unit-length embeddings (N, dimensions) of images of any size and mode.

        Recent embeddings are taken from the cache. A row is NaN if the model's output is NaN or zero.
        """
        rgb = [image.convert("RGB") for image in images]
        return self._embed(rgb, [_digest(image) for image in rgb], self._run)

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Return unit-length embeddings (N, dimensions) of texts.

        Raises ``ModelError`` if the model has no text tower.
        """
        return self._embed(texts, list(texts), self._towers.encode_texts)

    def _run(self, images: Sequence[Image]) -> Floats:
        return self._towers.encode_images(np.stack([self._towers.preprocessing(image) for image in images]))

    def _embed(
        self, items: Sequence[T], keys: Sequence[str | bytes], run: Callable[[Sequence[T]], Floats]
    ) -> Floats:
        rows = {key: self._cache.get(key) for key in keys}
        missing = {key: item for key, item in zip(keys, items, strict=True) if rows[key] is None}
        for start in range(0, len(missing), _BATCH_SIZE):
            new = list(missing)[start : start + _BATCH_SIZE]
            for key, row in zip(new, _normalized(run([missing[key] for key in new])), strict=True):
                rows[key] = row
                self._cache.put(key, row)
        return np.array([rows[key] for key in keys], np.float32).reshape(-1, self.dimensions)


class _EmbeddingCache:
    """A thread-safe LRU cache of embeddings."""

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
    """Return a cache key of the image's content, since images can be modified in place and ids reused."""
    return hashlib.sha256(f"{rgb.size}".encode() + rgb.tobytes()).digest()


def _normalized(rows: Floats) -> Floats:
    """Return the rows scaled to unit length; NaN for rows of length 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def load_clip(
    model: str | Path = "storybook", revision: str | None = None, device: str | None = None
) -> ClipModel:
    """Return a CLIP model, which is loaded once per process.

    ``model`` is a packaged model ("storybook"), a folder, or a hub id with its ``revision``, a commit of 40
    hexadecimal digits. A folder contains either ``image.onnx`` and ``text.onnx`` with ``tokenizer.json``,
    ``clip.json`` and ``hashes.json``, or a ``CLIPModel`` saved by transformers, or a
    ``StableDiffusionSafetyChecker`` saved by diffusers, which has no text tower. ``device`` is PyTorch's.
    Raises ``ModelError`` if the model cannot be loaded, and ``MissingExtraError`` if PyTorch is missing.
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
