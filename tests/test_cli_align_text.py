"""Text encoders are fine-tuned on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from safelight.alignment.delta.delta import Delta
from safelight.cli import app
from safelight.experiments.storybook_suites import suite
from safelight.models.pipelines import load_pipeline

FAST = ["--iterations", "4", "--rate", "0.01", "--num-images", "1", "--steps", "2", "--own", "300"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["align", "text-encoder", "--concept", "a gun", *map(str, arguments)])


def says(done: Result) -> str:
    return " ".join(done.stderr.split())


def test_the_storybook_is_trained_on_its_own_prompts_but_none_that_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "gun.safetensors"
    done = run("--out", out, *FAST, "--json")
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
    assert run("--out", tmp_path / "other.safetensors", *FAST, "--apart", measured).exit_code == 0


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
    done = run("--model", model_folder, "--method", "safe-clip", *files, "--out", out, *FAST)
    assert done.exit_code == 0, done.stderr
    prompts = Delta.load(out).about.settings["prompts"]
    assert [prompts[kind] for kind in ("unsafe", "safe", "pairs")] == [2, 3, 3]


def test_what_is_measured_with_must_not_be_trained_on(model_folder: Path, tmp_path: Path) -> None:
    for name, text in (("unsafe", "a gun"), ("safe", "a dog\na cat"), ("apart", "A  DOG")):
        (tmp_path / f"{name}.txt").write_text(text)
    files = [f"--{name}={tmp_path / name}.txt" for name in ("unsafe", "safe", "apart")]
    done = run("--model", model_folder, *files, "--out", tmp_path / "gun.safetensors", *FAST)
    assert done.exit_code == 2
    assert "1 prompts" in says(done)
    assert not (tmp_path / "gun.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "safetex"], "safetext"),
        (["--alpha", "1"], "--alpha is not for safetext"),
        (["--away", "cosines"], 'did you mean "cosine"'),
        (["--method", "des", "--inner-steps", "3"], "--inner-steps is not for des"),
        (["--weight", "0"], "above 0"),
        (["--encoder", "text_encoder_2"], "text_encoder"),
        (["--unsafe", "nowhere.txt"], "there is no file nowhere.txt"),
        (["--layers", "9"], "has 4"),
    ],
)
def test_what_makes_no_sense_is_said(options: list[str], said: str, tmp_path: Path) -> None:
    done = run("--out", tmp_path / "gun.safetensors", *FAST, *options)
    assert done.exit_code == 2
    assert said in says(done)
    assert not list(tmp_path.iterdir())


def test_other_models_need_prompts(model_folder: Path, tmp_path: Path) -> None:
    done = run("--model", model_folder, "--out", tmp_path / "gun.safetensors")
    assert done.exit_code == 2
    assert "no prompts to train on" in says(done)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("pairs.csv", "unsafe,harmless\na gun,a ball\n", "safe"),
        ("pairs.jsonl", '{"unsafe": "a gun", "safe": 3}\n', "no text"),
        ("pairs.jsonl", '{"unsafe": "a gun"\n', "not valid JSON"),
    ],
)
def test_files_that_cannot_be_read_are_said(name: str, content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    done = run("--pairs", tmp_path / name, "--out", tmp_path / "gun.safetensors")
    assert done.exit_code == 2
    assert said in says(done)
