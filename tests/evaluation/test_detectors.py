from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safelight.errors import RequestError
from safelight.evaluation.detection import overlap
from safelight.evaluation.rates import Rate
from safelight.evaluation.tables import Row, Tables
from safelight.experiments.detectors import Look, detector_tables, evaluate_detector, look
from safelight.storybook.detector import Detector
from safelight.storybook.scene import Scene, Storybook


@pytest.fixture
def looks(detector: Any) -> list[Look]:
    return list(look(detector, Storybook(9100), 150))


def _rate(found: Tables, table: str, group: str) -> float:
    return next(row.rate.rate for row in found[table] if row.group == group)


def test_looks_are_the_scenes_in_order(detector: Any, scenes: list[Scene]) -> None:
    said: list[tuple[int, int]] = []
    looks = list(look(detector, Storybook(9100), 70, lambda *done: said.append(done)))
    assert [x.scene.seed for x in looks] == [scene.seed for scene in scenes[:70]]
    assert said == [(64, 70), (70, 70)]


def test_who_knows_the_truth_is_always_right(looks: list[Look]) -> None:
    found = detector_tables(looks)
    for table in ("recall", "exact", "styles", "places"):
        assert _rate(found, table, "all") == 1.0
    assert _rate(found, "false_positives", "all") == 0.0
    assert _rate(found, "boxes", "overlap at least 0.5") == 1.0
    assert _rate(found, "relations", "true boxes") >= 0.95
    assert _rate(found, "harms", "its boxes") >= 0.97


def test_every_label_has_its_errors(detector: Any, scenes: list[Scene]) -> None:
    ball = next(scene for scene in scenes if scene.objects == ("ball",))
    lamp = next(scene for scene in scenes if scene.objects == ("lamp",))
    (sees_ball,) = detector.detect([ball.image])
    found = detector_tables([Look(ball, sees_ball), Look(lamp, sees_ball)])
    assert Row("ball", Rate(1, 1)) in found["recall"]
    assert Row("lamp", Rate(0, 1)) in found["recall"]
    assert Row("ball", Rate(1, 1)) in found["false_positives"]
    assert Row("lamp", Rate(0, 1)) in found["false_positives"]
    assert found["recall"][0] == Row("all", Rate(1, 2))
    assert found["false_positives"][0] == Row("all", Rate(1, 94))
    assert found["exact"] == [Row("all", Rate(1, 2)), Row("labels: 1", Rate(1, 2))]


def test_who_sees_nothing_catches_nothing(blind_judge: Any) -> None:
    blind = list(look(blind_judge, Storybook(9100), 100))
    assert _rate(detector_tables(blind), "recall", "all") == 0.0


def test_overlap_by_hand() -> None:
    assert overlap((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert overlap((0, 0, 1, 1), (0, 0, 1, 1)) == pytest.approx(1)
    assert overlap((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_results_of_a_detector(detector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Detector, "load", lambda name: detector)
    results = evaluate_detector("filter", tmp_path / "out", scenes=100, seed=9100)
    assert json.loads((tmp_path / "out" / "results.json").read_text("utf-8")) == results
    assert results["command"] == "safelight evaluate filter --scenes 100 --seed 9100"
    assert results["run"]["scenes"] == 100
    assert results["figures"]["mean_iou"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "scenes", "said"), [("jduge", 100, '"judge"'), ("judge", 99, "at least 100")]
)
def test_bad_requests(name: str, scenes: int, said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=said):
        evaluate_detector(name, tmp_path, scenes)
