"""Makes the deltas that docs/erasing.md measures: four things, each erased in two ways.

python benchmarks/deltas.py FOLDER [NAME ...]
safelight evaluate erasing FOLDER/*.safetensors --steps 15 --out OUT
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from safelight import load_pipeline
from safelight.alignment.diffusion import ESD, UCE
from safelight.storybook.vocabulary import PLACES, STYLES, THINGS

# Public words only, each with and without an article.
_GUN = "gun, a gun, pistol, a pistol, handgun, a handgun"
_BOMB = "bomb, a bomb, dynamite, explosive, an explosive"
_KNIFE = "knife, a knife, blade, a blade, kitchen knife, a kitchen knife"
_SKETCH = "pencil sketch, a pencil sketch, pencil drawing, a pencil drawing, sketch, a sketch"
ERASED = {"gun": [_GUN], "knife": [_KNIFE], "pencil-sketch": [_SKETCH], "gun-and-bomb": [_GUN, _BOMB]}


def uce(concepts: list[str]) -> UCE:
    """Every other public word of the world is preserved."""
    gone = _labels(concepts)
    kept = [each for each in (*THINGS.values(), *PLACES.values(), *STYLES.values()) if each.label not in gone]
    target = "cartoon" if gone & STYLES.keys() else "flower"
    return UCE(concepts, target, [", ".join(each.named) for each in kept])


def esd_x(concepts: list[str]) -> ESD:
    """Towards a flower; a style towards no text."""
    anchor = "" if _labels(concepts) & STYLES.keys() else "a flower"
    steps = 150 * len(concepts)
    return ESD(concepts, "esd-x", anchor=anchor, rate=1e-3, steps=steps, walks=2, steps_of_walk=25)


def _labels(concepts: list[str]) -> set[str]:
    return {concept.partition(",")[0] for concept in concepts}


METHODS: dict[str, Callable[[list[str]], UCE | ESD]] = {"uce": uce, "esd-x": esd_x}


def main(folder: Path, names: list[str]) -> None:
    pipe = load_pipeline("storybook")
    pipe.set_progress_bar_config(disable=True)
    for method, make in METHODS.items():
        for what, concepts in ERASED.items():
            path = folder / f"{what}-{method}.safetensors"
            if not names or path.stem in names:
                make(concepts).edit(pipe).save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
