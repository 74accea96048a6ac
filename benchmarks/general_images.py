"""Speed of the image filters of the policy general and of its start, beside one common classifier in PyTorch.

The environment variable HARMLESS_IMAGES names a folder with the images of ``harmless_images.tsv``, as
``safelight evaluate harmless-images`` takes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import Any

from PIL import Image

import safelight
from safelight.experiments.harmless_images import image_kinds
from safelight.filters.image.text_gate import TextGate
from timing import seconds

_COUNT, _SIDE, _AT_ONCE, _SEED = 192, 512, 32, 1
_START = (
    "import safelight; from PIL import Image; "
    "guard = safelight.Guard.from_policy('general', stages=('image',)).load(); "
    "guard.screen_images([Image.new('RGB', (512, 512))])"
)

Reader = Callable[[Sequence[Path]], object]


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """The images are random photographs, scaled to 512 x 512 pixels, as JPEG files on disk."""
    guard = safelight.Guard.from_policy("general", stages=("image",)).load()
    filters = guard.policy.filters.image
    with tempfile.TemporaryDirectory() as folder:
        paths = _photographs(Path(os.environ["HARMLESS_IMAGES"]), Path(folder))
        ours, peer = _milliseconds(guard.screen_images, paths), _milliseconds(_transformers(), paths)
        gate = TextGate()
        figures: dict[str, float | None] = {
            "images a second, all cores": 1000 / ours,
            "transformers, ViT-B/16, fp32: images a second, all cores": 1000 / peer,
            "policy general / transformers, ViT-B/16, fp32": ours / peer,
            **{
                f"{name}: ms an image, all cores": _milliseconds(_only(name).screen_images, paths)
                for name in filters
            },
            "share in which text is looked for": mean(gate.passes(Image.open(path)) for path in paths),
            "start and first image, s": median(_start() for _ in range(5)),
        }
    return {"images": _COUNT, "side": _SIDE, "filters": list(filters)}, figures


def _photographs(images: Path, folder: Path) -> list[Path]:
    kinds = image_kinds(images)
    names = sorted(name for name, kind in kinds.items() if kind == "photograph")
    for name in Random(_SEED).sample(names, _COUNT):
        image = Image.open(images / name).convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        image.save((folder / name).with_suffix(".jpg"), quality=90)
    return sorted(folder.iterdir())


def _transformers() -> Reader:
    """A classifier of the usual size in PyTorch; its weights do not matter for its speed."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    model, processor = ViTForImageClassification(ViTConfig(num_labels=2)).eval(), ViTImageProcessorPil()

    @torch.inference_mode()
    def read(paths: Sequence[Path]) -> object:
        images = [Image.open(path).convert("RGB") for path in paths]
        return model(**processor(images, return_tensors="pt"))

    return read


def _milliseconds(read: Reader, paths: Sequence[Path]) -> float:
    """Return the time for an image, in batches; the first batch, which builds the filters, is not counted."""

    def read_all(some: Sequence[Path]) -> None:
        for start in range(0, len(some), _AT_ONCE):
            read(some[start : start + _AT_ONCE])

    read_all(paths[:_AT_ONCE])
    return 1000 * seconds(lambda: read_all(paths)) / len(paths)


def _only(name: str) -> safelight.Guard:
    """Return a guard by the policy general with one of its image filters."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "only.toml"
        path.write_text(f'extends = "general"\nname = "only"\nversion = "1"\n[filters]\nimage = ["{name}"]\n')
        return safelight.Guard.from_policy(path, stages=("image",))


def _start() -> float:
    return seconds(lambda: subprocess.run([sys.executable, "-c", _START], check=True))
