from __future__ import annotations

import io
import sys

import numpy as np
import pdqhash
import pytest
from PIL import Image
from PIL.Image import Resampling, Transpose

from safelight.errors import MissingExtraError
from safelight.hashing.pdq import PdqHasher
from safelight.storybook import Storybook

TURNS = [
    None,
    Transpose.ROTATE_90,
    Transpose.ROTATE_180,
    Transpose.ROTATE_270,
    Transpose.FLIP_TOP_BOTTOM,
    Transpose.FLIP_LEFT_RIGHT,
    Transpose.TRANSPOSE,
    Transpose.TRANSVERSE,
]


def _scenes(count: int) -> list[Image.Image]:
    return [scene.image for scene in Storybook(seed=0).scenes(count)]


def _texture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise whose amplitude falls with its frequency, as it does in photographs."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    waves = (rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)) / frequency
    pixels = np.fft.irfft2(waves, (height, width))
    return Image.fromarray(np.clip(128 + 50 * pixels / pixels.std(), 0, 255).astype(np.uint8))


def _bits(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.unpackbits(one ^ other).sum())


def _native(image: Image.Image) -> np.ndarray:
    """The hash as pdqhash has it, of the image in its own size."""
    return np.packbits(pdqhash.compute(np.asarray(image.convert("RGB")))[0].astype(np.uint8))


def test_hashes_and_qualities_are_pdqhashs_own() -> None:
    for image in _scenes(5):
        ours = PdqHasher()(image)
        pixels = np.asarray(image.resize((320, 320), Resampling.BILINEAR))
        bits, quality = pdqhash.compute(pixels)
        assert ours.hex == f"{int(''.join(map(str, bits)), 2):064x}"
        assert ours.quality == quality


def test_they_are_close_to_hashes_of_the_image_in_its_own_size() -> None:
    images = [*_scenes(30), *(_texture(640, 480, seed) for seed in range(5)), _texture(1024, 1024)]
    assert max(_bits(PdqHasher()(image).orientations[0], _native(image)) for image in images) <= 16


@pytest.mark.parametrize("size", [(64, 64), (640, 480), (512, 512), (333, 777)])
def test_the_eight_orientations_are_those_of_the_turned_image(size: tuple[int, int]) -> None:
    image = _texture(*size)
    ours = PdqHasher()(image).orientations
    turned = [image if turn is None else image.transpose(turn) for turn in TURNS]
    hashes = [PdqHasher()(each).orientations[0] for each in turned]
    assert max(_bits(hashed, expected) for hashed, expected in zip(ours, hashes, strict=True)) <= 6
    assert len({bytes(hashed) for hashed in ours}) == 8


def test_a_turned_copy_scaled_and_compressed_stays_within_31_bits_of_a_hash_made_by_others() -> None:
    for seed in range(3):
        image = _texture(640, 480, seed)
        for turn in TURNS:
            copy = (image if turn is None else image.transpose(turn)).reduce(2)
            file = io.BytesIO()
            copy.save(file, "JPEG", quality=60)
            ours = PdqHasher()(Image.open(file)).orientations
            assert min(_bits(hashed, _native(image)) for hashed in ours) <= 16


def test_other_images_are_far_apart() -> None:
    hashes = [PdqHasher()(_texture(96, 96, seed)).orientations[0] for seed in range(20)]
    apart = [_bits(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 60


def test_an_image_with_nothing_on_it_has_no_quality() -> None:
    hasher = PdqHasher()
    blank = [Image.new("L", (1, 1)), Image.new("RGBA", (2000, 3)), Image.new("1", (64, 64), 1)]
    assert [hasher(image).quality for image in blank] == [0, 0, 0]


def test_modes_do_not_matter() -> None:
    image = _texture(64, 64)
    assert {PdqHasher()(image.convert(mode)).hex for mode in ("L", "RGB", "RGBA", "LA")} == {
        PdqHasher()(image).hex
    }


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[hashes\]"'):
        PdqHasher()
