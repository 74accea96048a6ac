"""Time of a lookup among a million known images, and the share of altered copies that is found."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np
import pdqhash
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling, Transpose

from safelight.filters.image.hash_lists import HashList
from safelight.filters.image.known_image import KnownImage
from safelight.hashing.hash_index import MAX_DISTANCE, HashIndex
from safelight.hashing.pdq import PdqHasher
from safelight.storybook import Storybook
from timing import cores

_KNOWN, _SCENES, _TEXTURES, _SEED = 1_000_000, 40, 16, 7
_REFERENCE_SIDE = 512

Hashes = NDArray[np.uint8]


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """Milliseconds are of processor time, one core, medians over 50."""
    rng = np.random.default_rng(_SEED)
    run = {"known images": _KNOWN, "storybook scenes": _SCENES, "textures of a kind": _TEXTURES}
    with cores(1):
        return run, {**_costs(rng), **_copies(rng)}


def _costs(rng: np.random.Generator) -> dict[str, float | None]:
    hashes = rng.integers(0, 256, (_KNOWN, 32), dtype=np.uint8)
    queries = rng.integers(0, 256, (8, 32), dtype=np.uint8)
    index, flat = HashIndex(hashes), faiss.IndexBinaryFlat(256)
    flat.add(hashes)
    faiss.omp_set_num_threads(1)
    image = _texture(rng, 512, 512, 1.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "known.txt"
        path.write_text("".join(f"pdq {bytes(hashed).hex()}\n" for hashed in hashes))
        reading = _milliseconds(lambda: HashList.read(path), times=1)
        known = KnownImage(path)
        whole = _milliseconds(lambda: known.find([image]))
    return {
        "search, 8 orientations: ms": _milliseconds(lambda: index.closest(queries, MAX_DISTANCE)),
        "search, faiss IndexBinaryFlat: ms": _milliseconds(
            lambda: flat.range_search(queries, MAX_DISTANCE + 1)
        ),
        "PDQ of a picture of 512 x 512, 8 orientations: ms": _milliseconds(lambda: PdqHasher()(image)),
        "known-image, whole: ms an image": whole,
        "reading the list: s": reading / 1000,
    }


def _copies(rng: np.random.Generator) -> dict[str, float | None]:
    """Shares of copies that are found on lists that others made of the unspoilt images."""
    sizes = ((640, 480), (1024, 768), (1024, 1024), (500, 400))
    kinds: dict[str, list[Image.Image]] = {
        "storybook": [scene.image for scene in Storybook(_SEED).scenes(_SCENES)]
    }
    for name, slope in (("soft textures", 1.4), ("textures", 1.0), ("harsh textures", 0.6)):
        kinds[name] = [_texture(rng, *sizes[i % len(sizes)], slope) for i in range(_TEXTURES)]
    figures: dict[str, float | None] = {}
    for name, images in kinds.items():
        lists = {"pdqhash": map(_native, images), "the reference": map(_reference, images)}
        listed = {author: list(hashes) for author, hashes in lists.items()}
        for copied, turns in (("scaled and JPEG 60", (None,)), ("turned as well", tuple(Transpose))):
            copies = [list(_spoilt(image, turns)) for image in images]
            for path, hashes in (("ours", _ours), ("at 512", _at_512)):
                found = [[hashes(copy) for copy in some] for some in copies]
                for author, known in listed.items():
                    figures[f"{name}, {copied}, list of {author}, {path}"] = _share(found, known)
    return figures


def _share(found: list[list[Hashes]], listed: list[Hashes]) -> float:
    """Return the number of copies whose hash is near that of their image."""
    pairs = [(hashes, known) for some, known in zip(found, listed, strict=True) for hashes in some]
    return float(np.mean([_bits(hashes, known).min() <= MAX_DISTANCE for hashes, known in pairs]))


def _bits(hashes: Hashes, known: Hashes) -> NDArray[Any]:
    counts: NDArray[Any] = np.bitwise_count(hashes ^ known).sum(axis=1)
    return counts


def _spoilt(image: Image.Image, turns: tuple[Any, ...]) -> Iterator[Image.Image]:
    for turn in turns:
        turned = image if turn is None else image.transpose(turn)
        for scale in (0.75, 1.5):
            size = (round(turned.width * scale), round(turned.height * scale))
            file = io.BytesIO()
            turned.resize(size, Resampling.BICUBIC).save(file, "JPEG", quality=60)
            yield Image.open(file)


def _reference(image: Image.Image) -> Hashes:
    """As PDQ's reference in C++ has it, which scales what is larger by leaving pixels out."""
    side = (_REFERENCE_SIDE, _REFERENCE_SIDE)
    larger = max(image.size) > _REFERENCE_SIDE
    return _native(image.resize(side, Resampling.NEAREST) if larger else image)


def _native(image: Image.Image) -> Hashes:
    return np.packbits(pdqhash.compute(np.asarray(image))[0].astype(np.uint8))


def _ours(image: Image.Image) -> Hashes:
    return PdqHasher()(image).orientations


def _at_512(image: Image.Image) -> Hashes:
    """In the size that PDQ's reference scales to."""
    side = (_REFERENCE_SIDE, _REFERENCE_SIDE)
    bits, _ = pdqhash.compute_dihedral(np.asarray(image.convert("RGB").resize(side, Resampling.BILINEAR)))
    return np.packbits(np.stack(bits).astype(np.uint8), axis=1)


def _texture(rng: np.random.Generator, width: int, height: int, slope: float) -> Image.Image:
    """Noise whose amplitude falls with the frequency to the power of ``slope``; 1 is that of photographs."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    shape = (3, *frequency.shape)
    waves = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / frequency**slope
    pixels = np.fft.irfft2(waves, (height, width))
    scaled = np.clip(128 + 50 * pixels / pixels.std(), 0, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(scaled.transpose(1, 2, 0)))


def _milliseconds(do: Callable[[], object], times: int = 50) -> float:
    return 1000 * median(_seconds(do) for _ in range(times))


def _seconds(do: Callable[[], object]) -> float:
    started = time.process_time()
    do()
    return time.process_time() - started
