from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import safelight
from safelight.cli import app

COMMANDS = ["generate", "screen", "demo", "train", "evaluate"]


def _run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(app, arguments, catch_exceptions=False, **options)


def _python(code: str, *arguments: str) -> str:
    source = str(Path(safelight.__file__).parents[1])
    command = [sys.executable, "-c", code, *arguments]
    environment = {**os.environ, "PYTHONPATH": source}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


def test_help_names_every_command_and_the_exit_codes() -> None:
    help_ = _run("--help")
    assert help_.exit_code == 0
    assert all(f"  {command} " in help_.stdout for command in COMMANDS)
    assert "2 an error" in " ".join(help_.stdout.split())


@pytest.mark.parametrize("command", [*COMMANDS, "evaluate model", "evaluate judge", "evaluate filter"])
def test_every_command_explains_itself(command: str) -> None:
    help_ = _run(*command.split(), "--help")
    assert help_.exit_code == 0
    assert command == "evaluate" or "--json" in help_.stdout


@pytest.mark.parametrize("command", ["generate", "screen", "demo", "train", "evaluate model"])
def test_help_has_examples_that_parse(command: str) -> None:
    lines = _run(*command.split(), "--help").stdout.splitlines()
    examples = [line.strip() for line in lines if line.strip().startswith("safelight ")]
    assert examples
    assert all(example.startswith(f"safelight {command}") for example in examples)


def test_the_module_is_the_program() -> None:
    source = str(Path(safelight.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "safelight", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert done.stdout == f"safelight {safelight.__version__}\n"


def test_without_a_command_there_is_help() -> None:
    assert "Commands:" in _run().output


def test_an_unknown_command_names_the_closest() -> None:
    done = _run("genrate")
    assert done.exit_code == 2
    assert "'generate'" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["screen", "--policy", "storybook", "a gun"]])
def test_help_and_screening_text_load_nothing_heavy(arguments: Sequence[str]) -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from safelight.cli import app; "
        "done = CliRunner().invoke(app, sys.argv[1:]); "
        "print(done.exit_code, *{'torch', 'diffusers', 'transformers', 'onnxruntime'} & sys.modules.keys())"
    )
    assert _python(code, *arguments).split() == ["0"]


def test_training_calls_the_training_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from safelight.storybook.training import detector, storybook

    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(storybook, "train_storybook", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(detector, "train_detector", lambda *arguments: calls.append(arguments))
    work = tmp_path / "work"
    assert _run("train", "--work", str(work), "--share", "0.5").exit_code == 0
    done = _run("train", "judge", "--out", "judge.onnx", "--work", str(work), "--json")
    assert json.loads(done.stdout) == {"trained": "judge", "out": "judge.onnx"}
    (tmp_path / "unet").mkdir()
    assert _run("train", "--start", str(tmp_path), "--work", str(work)).exit_code == 0
    assert calls == [
        (Path("runs/storybook"), work, 0.5, None),
        ("judge", Path("judge.onnx"), work, 1.0),
        (Path("runs/storybook"), work, 1.0, tmp_path),
    ]


def test_training_further_needs_a_storybook_model(tmp_path: Path) -> None:
    for what, said in (("storybook", "there is no storybook model"), ("judge", "leave it out")):
        done = _run("train", what, "--start", str(tmp_path))
        assert done.exit_code == 2
        assert said in done.stderr


def test_training_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safelight.storybook.training.detector", None)
    done = _run("train")
    assert done.exit_code == 2
    assert 'pip install ".[generate,dev]"' in done.stderr


def test_training_something_unknown_is_refused() -> None:
    done = _run("train", "jugde")
    assert done.exit_code == 2
    assert "storybook" in done.stderr


@pytest.mark.parametrize("name", ["judge", "filter"])
def test_evaluating_a_detector_gives_its_results(name: str, tmp_path: Path) -> None:
    arguments = ["evaluate", name, "--scenes", "100", "--output", str(tmp_path)]
    results = json.loads(_run(*arguments, "--json").stdout)
    assert results["run"]["detector"] == name
    assert results["tables"].keys() == json.loads((tmp_path / "results.json").read_text())["tables"].keys()
    plain = _run(*arguments)
    assert "mean_iou  " in plain.stdout
    for table, rows in results["tables"].items():
        for row in rows:
            assert f"{table}  {row['group']}  {row['rate']:.1%}  " in plain.stdout
    assert "100 of 100" in plain.stderr


def test_on_a_terminal_a_long_evaluation_has_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = _run("evaluate", "filter", "--scenes", "100", "--output", str(tmp_path))
    assert "━" in done.stderr
    assert "95 % interval" in done.stdout


def test_evaluating_too_few_scenes_is_refused(tmp_path: Path) -> None:
    done = _run("evaluate", "judge", "--scenes", "3", "--output", str(tmp_path))
    assert done.exit_code == 2
    assert "at least 100" in done.stderr


def test_evaluating_a_model_gives_its_results(model_folder: Path, tmp_path: Path) -> None:
    arguments = [
        "--model",
        str(model_folder),
        "--output",
        str(tmp_path),
        "--limit",
        "2",
        "--num-inference-steps",
        "1",
    ]
    results = json.loads(_run("evaluate", "model", *arguments, "--json").stdout)
    assert results["run"]["images"] == 2
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) >= 2


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (["train", "prompt-classifier"], "give --data FILE"),
        (
            ["train", "judge", "--data", "prompts.parquet"],
            "for storybook, prompt-classifier and text-gate only",
        ),
        (["train", "storybook", "--data", "nowhere"], "nowhere has no cleaned data in it"),
        (["train", "storybook", "--data", "a", "--start", "."], "there is no storybook model in"),
        (["train", "prompt-classifier", "--data", "none.parquet", "--encoder", "nowhere"], "nowhere has no"),
        (["train", "--lora-rank", "4"], "--rank is for --model; leave it out"),
        (["train", "--resume"], "--resume is for --model; leave it out"),
        (["train", "--iterations", "4"], "--train-steps is for --model; leave it out"),
        (["train", "--model", "storybook", "--out", "a.safetensors"], "give --data FOLDER"),
        (["train", "--model", "storybook", "--data", "a"], "give --output safer.safetensors"),
        (["train", "judge", "--model", "storybook", "--data", "a"], "leave the other options out"),
        (
            ["train", "--model", "storybook", "--data", "nowhere", "--out", "a.safetensors"],
            "nowhere has no cleaned data in it",
        ),
        (
            ["train", "--model", "x", "--data", "a", "--out", "a.safetensors", "--precision", "fp8"],
            'there is no precision "fp8"',
        ),
        (["evaluate", "prompt-classifier", "--data", "x.parquet", "--encoder", "nowhere"], "nowhere has no"),
        (["evaluate", "prompt-filter", "--data", "none.parquet"], "cannot be read"),
    ],
)
def test_trainings_and_evaluations_say_what_they_need(order: list[str], said: str) -> None:
    done = _run(*order)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
