"""Text encoders are fine-tuned on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from safelight.alignment.delta.delta import Delta
from safelight.cli import app
from safelight.cli.align import prompt_files
from safelight.models.pipelines import load_pipeline
from safelight.storybook.suites import suite

FAST = ["--train-steps", "4", "--learning-rate", "0.01", "--num-images", "1", "--num-inference-steps", "2"]
FAST += ["--num-prompts", "300"]


def run(*arguments: str | Path, method: str = "safetext") -> Result:
    return CliRunner().invoke(app, ["align", method, "--concept", "a gun", *map(str, arguments)])


def says(done: Result) -> str:
    return " ".join(done.stderr.split())


def test_the_storybook_is_trained_on_its_own_prompts_but_none_that_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_files, "_SEEDS", 1)
    out = tmp_path / "gun.safetensors"
    done = run("--output", out, *FAST, "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["concepts"]["a gun"]["largest"] > 1 / 255
    delta = Delta.load(out)
    assert delta.parts == ("text_encoder",)
    assert delta.about.method == "safetext"
    assert delta.about.settings["prompts"]["safe"] == 300
    assert "# SAFETEXT: a gun" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".curve.png").exists()
    pipe = load_pipeline("storybook")
    with delta.attach(pipe):
        pass
    measured = tmp_path / "measured.txt"
    measured.write_text("\n".join(case.prompt for case in suite("harmful").cases))
    assert run("--output", tmp_path / "other.safetensors", *FAST, "--held-out", measured).exit_code == 0


def test_prompts_and_pairs_come_from_files(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "unsafe.txt").write_text("a gun in a park\n\na big gun\n")
    (tmp_path / "safe.csv").write_text("text,id\na dog,1\na cat,2\n")
    (tmp_path / "more.jsonl").write_text('{"text": "a boat"}\n')
    (tmp_path / "pairs.csv").write_text("unsafe,safe\na gun,a ball\na bomb,an apple\n")
    (tmp_path / "pairs.jsonl").write_text('{"unsafe": "a bomb in a park", "safe": "a cow in a park"}\n')
    out = tmp_path / "gun.safetensors"
    files: list[str | Path] = ["--unsafe", tmp_path / "unsafe.txt", "--column", "text"]
    files += ["--safe", tmp_path / "safe.csv", "--safe", tmp_path / "more.jsonl"]
    files += ["--pairs", tmp_path / "pairs.csv", "--pairs", tmp_path / "pairs.jsonl"]
    done = run("--model", model_folder, *files, "--output", out, *FAST, method="safe-clip")
    assert done.exit_code == 0, done.stderr
    prompts = Delta.load(out).about.settings["prompts"]
    assert [prompts[kind] for kind in ("unsafe", "safe", "pairs")] == [2, 3, 3]


def test_what_is_measured_with_must_not_be_trained_on(model_folder: Path, tmp_path: Path) -> None:
    for name, text in (("unsafe", "a gun"), ("safe", "a dog\na cat"), ("held-out", "A  DOG")):
        (tmp_path / f"{name}.txt").write_text(text)
    files = [f"--{name}={tmp_path / name}.txt" for name in ("unsafe", "safe", "held-out")]
    done = run("--model", model_folder, *files, "--output", tmp_path / "gun.safetensors", *FAST)
    assert done.exit_code == 2
    assert "1 prompts" in says(done)
    assert not (tmp_path / "gun.safetensors").exists()


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("safetex", [], 'did you mean "safetext"'),
        ("safetext", ["--alpha", "1"], "--alpha"),
        ("safetext", ["--unsafe-objective", "cosines"], 'did you mean "cosine"'),
        ("des", ["--attack-steps", "3"], "--attack-steps"),
        ("adversarial", ["--unsafe-weight", "0"], "above 0"),
        ("safetext", ["--encoder", "text_encoder_2"], "text_encoder"),
        ("safetext", ["--unsafe", "nowhere.txt"], "there is no file nowhere.txt"),
        ("safetext", ["--num-layers", "9"], "has 4"),
    ],
)
def test_what_makes_no_sense_is_said(method: str, options: list[str], said: str, tmp_path: Path) -> None:
    done = run("--output", tmp_path / "gun.safetensors", *FAST, *options, method=method)
    assert done.exit_code == 2
    assert said in says(done)
    assert not list(tmp_path.iterdir())


def test_the_command_of_before_is_understood(model_folder: Path, tmp_path: Path) -> None:
    """One command trained all text encoders: `align text-encoder --method safe-clip --iterations 4 …`."""
    (tmp_path / "pairs.csv").write_text("unsafe,safe\na gun,a ball\na bomb,an apple\n")
    out = tmp_path / "gun.safetensors"
    old = ["--method", "safe-clip", "--iterations", "1", "--rate=0.01", "--pictures", "1", "--steps", "2"]
    done = run("--model", model_folder, *old, "--pairs", tmp_path / "pairs.csv", "--out", out,
               method="text-encoder")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert Delta.load(out).about.method == "safe-clip"
    assert "text-encoder" not in CliRunner().invoke(app, ["align", "--help"]).stdout


def test_other_models_need_prompts(model_folder: Path, tmp_path: Path) -> None:
    done = run("--model", model_folder, "--output", tmp_path / "gun.safetensors")
    assert done.exit_code == 2
    assert "no prompts to train on" in says(done)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pairs.csv", "unsafe,harmless\na gun,a ball\n", "safe"),
        ("pairs.jsonl", '{"unsafe": "a gun", "safe": 3}\n', "not text"),
        ("pairs.jsonl", '{"unsafe": "a gun"\n', "not valid JSON"),
    ],
)
def test_files_that_cannot_be_read_are_said(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    done = run("--pairs", tmp_path / name, "--output", tmp_path / "gun.safetensors")
    assert done.exit_code == 2
    assert said in says(done)
