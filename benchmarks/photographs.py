"""Photographs to look at, of what other libraries bring."""

from __future__ import annotations

from pathlib import Path
from random import Random

from PIL import Image

# A policy that looks at them with NudeNet alone.
NUDENET = Path(__file__).with_name("nudenet.toml")


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> list[str]:
    """JPEG files with parts of the photographs that come with Matplotlib and scikit-learn; their paths."""
    from matplotlib import get_data_path
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    photographs.append(Image.open(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg").convert("RGB"))
    random, digits = Random(0), len(str(count - 1))
    for number in range(count):
        whole = photographs[number % len(photographs)]
        width = random.randint(whole.width // 2, whole.width)
        height = min(width * 3 // 4, whole.height)
        left, top = random.randint(0, whole.width - width), random.randint(0, whole.height - height)
        part = whole.crop((left, top, left + width, top + height)).resize(size, Image.Resampling.LANCZOS)
        part.save(folder / f"{number:0{digits}}.jpg", quality=90)
    return sorted(map(str, folder.iterdir()))
