"""Makes the deltas that docs/erasing.md measures: four things, each erased in two ways, and one in a third.
By name only, those of docs/text-encoder.md: all that the storybook's harm always is, erased in two ways.

python benchmarks/deltas.py FOLDER [NAME ...]
safelight evaluate erasing FOLDER/*.safetensors --num-inference-steps 15 --output OUT
python benchmarks/deltas.py FOLDER harm-uce harm-esd-x
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safelight import load_pipeline
from safelight.alignment.diffusion import ESD, UCE
from safelight.storybook.suites import suite
from safelight.storybook.vocabulary import PLACES, STYLES, THINGS

# Public words only, each with and without an article.
_GUN = "gun, a gun, pistol, a pistol, handgun, a handgun"
_BOMB = "bomb, a bomb, dynamite, explosive, an explosive"
_BLOOD = "blood, a bloodstain, gore"
_KNIFE = "knife, a knife, blade, a blade, kitchen knife, a kitchen knife"
_SKETCH = "pencil sketch, a pencil sketch, pencil drawing, a pencil drawing, sketch, a sketch"
_SCENES = (
    "{}",
    "{} on the street",
    "{} and a dog",
    "a woman with {}",
    "a cartoon of {} on a beach",
    "{} in a kitchen, watercolor",
    "a man holding {}",
    "{} next to a car",
    "a child and {}",
    "{} on a table",
    "a crayon drawing of {}",
)
_NAMED = {"harm": [_GUN, _BOMB, _BLOOD]}
ERASED = {"gun": [_GUN], "knife": [_KNIFE], "pencil-sketch": [_SKETCH], "gun-and-bomb": [_GUN, _BOMB]}


def uce(concepts: list[str]) -> UCE:
    """Every other public word of the world is preserved."""
    gone = _labels(concepts)
    kept = [each for each in (*THINGS.values(), *PLACES.values(), *STYLES.values()) if each.label not in gone]
    target = "cartoon" if gone & STYLES.keys() else "flower"
    return UCE(concepts, target, [", ".join(each.named) for each in kept])


def esd_x(concepts: list[str]) -> ESD:
    """One thing towards a flower, a style towards no text; two at once need scenes and captions."""
    if len(concepts) > 1:
        return ESD(
            concepts, "esd-x", batch_size=16, train_steps=200 * len(concepts), **_in_scenes(concepts, 4, 40)
        )
    anchor = "" if _labels(concepts) & STYLES.keys() else "a flower"
    return ESD(
        concepts,
        "esd-x",
        anchor=anchor,
        learning_rate=1e-3,
        train_steps=150,
        trajectories=2,
        num_inference_steps=25,
    )


def esd_u(concepts: list[str]) -> ESD:
    return ESD(
        concepts,
        "esd-u",
        batch_size=32,
        train_steps=1000,
        trajectory_fraction=0.8,
        **_in_scenes(concepts, 11, 250),
    )


def _in_scenes(concepts: list[str], scenes: int, captions: int) -> dict[str, Any]:
    return {
        "anchor": "a flower",
        "templates": _SCENES[:scenes],
        "captions": _captions(concepts, captions),
        "learning_rate": 1e-3,
        "lr_scheduler": "cosine",
        "trajectories": 1,
        "num_inference_steps": 15,
    }


def _captions(concepts: list[str], count: int) -> list[str]:
    """Of harmless scenes without what goes, and no text; none of those that are measured with."""
    measured = {case.prompt for case in suite("benign", 0, 500).cases}
    cases = [case for case in suite("benign", 901, 3 * count).cases if case.prompt not in measured]
    return ["", *[case.prompt for case in cases if not case.expects & _labels(concepts)][:count]]


def _labels(concepts: list[str]) -> set[str]:
    return {concept.partition(",")[0] for concept in concepts}


# What each method erases; esd-u takes half an hour for one thing.
MADE: dict[str, tuple[Callable[[list[str]], UCE | ESD], list[str]]] = {
    "uce": (uce, [*ERASED, *_NAMED]),
    "esd-x": (esd_x, [*ERASED, *_NAMED]),
    "esd-u": (esd_u, ["gun"]),
}


def main(folder: Path, names: list[str]) -> None:
    pipe = load_pipeline("storybook")
    pipe.set_progress_bar_config(disable=True)
    for method, (make, things) in MADE.items():
        for what in things:
            path = folder / f"{what}-{method}.safetensors"
            if path.stem in names or (not names and what in ERASED):
                make({**ERASED, **_NAMED}[what]).align(pipe).delta.save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
