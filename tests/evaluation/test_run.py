from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safelight.errors import ModelError, RequestError
from safelight.evaluation.record import Record
from safelight.evaluation.run import evaluate, image_seed
from safelight.storybook.scene import Scene
from safelight.types import Answer, Case, Suite

SUITE = Suite("test", 0, tuple(Case(f"c{i}", f"prompt {i}") for i in range(40)))


def test_records_say_what_the_judge_saw(album: Any, judge: Any, scenes: list[Scene], tmp_path: Path) -> None:
    records = evaluate(album, SUITE, judge, tmp_path / "r")
    assert [record.case for record in records] == [case.id for case in SUITE.cases]
    for record in records:
        scene = scenes[record.seed % len(scenes)]
        assert record.labels.keys() == set(scene.objects)
        assert (record.details["style"], record.details["place"]) == (scene.style, scene.place)
        boxes = record.details["boxes"]
        for label, box in zip(scene.objects, scene.boxes, strict=True):
            assert scene.objects.count(label) > 1 or boxes[label] == list(box)
        assert record.action == "allow"
    assert any(record.harms for record in records)
    assert sum(r.harms == scenes[r.seed % len(scenes)].harms for r in records) >= 39


def test_a_refused_prompt_has_no_image_and_no_harm(album: Any, judge: Any, tmp_path: Path) -> None:
    suite = Suite("test", 0, (Case("a", "a gun"), Case("b", "a cat")))
    refused, answered = evaluate(album, suite, judge, tmp_path / "r")
    assert (refused.action, refused.labels, refused.features, refused.details) == ("block", {}, (), {})
    assert (refused.harms, refused.released, answered.released) == ((), False, True)


def test_a_run_is_taken_up_where_it_stopped(
    album: Any, judge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(album, SUITE, judge, tmp_path / "whole")
    album.asked.clear()
    answer = album.answer

    def once(prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        if album.asked:
            raise KeyboardInterrupt
        return answer(prompts, seeds)

    monkeypatch.setattr(album, "answer", once)
    with pytest.raises(KeyboardInterrupt):
        evaluate(album, SUITE, judge, tmp_path / "r")
    assert len(album.asked) == 16
    monkeypatch.setattr(album, "answer", answer)
    again = evaluate(album, SUITE, judge, tmp_path / "r")
    assert len(album.asked) == 40
    assert [_timeless(record) for record in again] == [_timeless(record) for record in whole]


def test_a_limit_takes_the_first_cases_and_can_be_raised(album: Any, judge: Any, tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    records = evaluate(album, SUITE, judge, tmp_path / "r", limit=3)
    assert [record.case for record in records] == ["c0", "c1", "c2"]
    evaluate(album, SUITE, judge, tmp_path / "r", progress=lambda *done: said.append(done))
    assert len(album.asked) == 40
    assert said == [(19, 40), (35, 40), (40, 40)]


def test_each_seed_gives_each_case_noise_of_its_own(album: Any, judge: Any, tmp_path: Path) -> None:
    records = evaluate(album, SUITE, judge, tmp_path / "r", seeds=[0, 1])
    assert len({record.seed for record in records}) == 80
    assert records[40].seed == image_seed(1, SUITE.cases[0])


def test_another_judge_suite_seed_or_system_is_refused(album: Any, judge: Any, tmp_path: Path) -> None:
    def refuses(key: str, suite: Suite = SUITE, seed: int = 0) -> None:
        with pytest.raises(RequestError, match=f'"{key}" differs'):
            evaluate(album, suite, judge, tmp_path / "r", seeds=[seed], limit=1)

    evaluate(album, SUITE, judge, tmp_path / "r", limit=1)
    refuses("suite_sha256", suite=replace(SUITE, cases=(*SUITE.cases, Case("new", "a cat"))))
    refuses("seeds", seed=1)
    judge.detector.path.write_bytes(b"other weights")
    refuses("judge_sha256")
    judge.detector.path.write_bytes(b"the judge's weights")
    album.name = "other"
    refuses("system")


def test_a_limit_is_positive(album: Any, judge: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="at least 1"):
        evaluate(album, SUITE, judge, tmp_path / "r", limit=0)


def test_a_system_answers_every_prompt(
    album: Any, judge: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = album.answer
    monkeypatch.setattr(album, "answer", lambda *asked: answer(*asked)[1:])
    with pytest.raises(ModelError, match="15 answers to 16 prompts"):
        evaluate(album, SUITE, judge, tmp_path / "r")


def _timeless(record: Record) -> Record:
    return replace(record, elapsed_ms=0)
