from __future__ import annotations

import pytest
from PIL import Image

from safelight.filters.image.storybook import StorybookImage
from safelight.storybook import Storybook, detector
from safelight.storybook.detector import Sighting


def test_sightings_become_findings_with_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    box = (0.1, 0.2, 0.3, 0.4)
    sighting = Sighting(
        {"knife": 0.9, "bread": 0.05, "cat": 0.04}, {"knife": box}, {"park": 1.0}, {"cartoon": 1.0}
    )
    monkeypatch.setattr(detector.Detector, "detect", lambda self, images: [sighting for _ in images])
    (found,) = StorybookImage(name="mine").find([Image.new("RGB", (64, 64))])
    assert [(f.label, f.score, f.filter) for f in found] == [("knife", 0.9, "mine"), ("bread", 0.05, "mine")]
    assert found[0].evidence is not None
    assert (found[0].evidence.left, found[0].evidence.bottom) == (0.1, 0.4)  # type: ignore[union-attr]
    assert found[1].evidence is None


def test_styles_are_reported_on_request() -> None:
    scenes = {scene.style: scene for scene in Storybook(seed=2).scenes(40)}
    assert len(scenes) == 3
    plain, styled = StorybookImage(), StorybookImage(styles=True)
    assert styled.labels - plain.labels == set(scenes)
    for style, scene in scenes.items():
        (found,), (without,) = styled.find([scene.image]), plain.find([scene.image])
        assert [f.label for f in found if f.label in scenes and f.score > 0.5] == [style]
        assert [f for f in found if f.label not in scenes] == without


def test_a_score_that_is_no_number_is_never_dropped_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    sighting = Sighting({"knife": float("nan")}, {}, {}, {})
    monkeypatch.setattr(detector.Detector, "detect", lambda self, images: [sighting for _ in images])
    with pytest.raises(ValueError, match=r"not in \[0, 1\]"):
        StorybookImage().find([Image.new("RGB", (64, 64))])
