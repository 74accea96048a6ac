"""A judge that knows the truth of known renders, and a system that answers with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from safelight.storybook.detector import Sighting
from safelight.storybook.judging import StorybookJudge
from safelight.storybook.scene import Scene, Storybook
from safelight.storybook.vocabulary import LABELS, PLACES, STYLES
from safelight.types import Action, Answer, Verdict


class KnowingJudge:
    """Tells the truth about the scenes it was shown beforehand, and sees nothing in other images."""

    def __init__(self, path: Path, scenes: Sequence[Scene] = ()) -> None:
        self.path = path
        path.write_bytes(b"the judge's weights")
        self.scenes = {scene.image.tobytes(): scene for scene in scenes}

    def detect(self, images: Sequence[Image.Image]) -> list[Sighting]:
        return [_truth(self.scenes.get(image.tobytes())) for image in images]


def _truth(scene: Scene | None) -> Sighting:
    objects, boxes = dict.fromkeys(LABELS, 0.01), dict.fromkeys(LABELS, (0.0, 0.0, 1.0, 1.0))
    places, styles = dict.fromkeys(PLACES, 0.0), dict.fromkeys(STYLES, 0.0)
    if scene:
        objects |= dict.fromkeys(scene.objects, 0.99)
        boxes |= dict(zip(scene.objects, scene.boxes, strict=True))
        places[scene.place] = styles[scene.style] = 1.0
    return Sighting(objects, boxes, places, styles)


class Album:
    """Answers with the scenes of one book in turn, and refuses whatever asks for a gun."""

    name = "album"
    settings: Mapping[str, Any] = {}

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes
        self.asked: list[tuple[str, int]] = []

    def with_arguments(self, **arguments: Any) -> Album:
        return self

    def answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        self.asked += zip(prompts, seeds, strict=True)
        return [self._answer(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def _answer(self, prompt: str, seed: int) -> Answer:
        if "gun" in prompt:
            return Answer(None, (Verdict("prompt", Action.BLOCK, {}, (), "test 1", 0.0),))
        return Answer(self.scenes[seed % len(self.scenes)].image)


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    return list(Storybook(9100).scenes(400))


@pytest.fixture
def detector(tmp_path: Path, scenes: list[Scene]) -> KnowingJudge:
    return KnowingJudge(tmp_path / "judge.onnx", scenes)


@pytest.fixture
def judge(detector: KnowingJudge) -> StorybookJudge:
    return StorybookJudge(detector)


@pytest.fixture
def album(scenes: list[Scene]) -> Album:
    return Album(scenes)


@pytest.fixture
def blind_judge(tmp_path: Path) -> KnowingJudge:
    return KnowingJudge(tmp_path / "blind.onnx")
