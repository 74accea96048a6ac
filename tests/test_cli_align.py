"""Concepts are taken out of a model, and what was changed is put on it again, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from safelight.alignment.delta.delta import Delta
from safelight.cli import app
from safelight.models.pipelines import load_pipeline

FAST = ["--num-images", "2", "--num-inference-steps", "2"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(scope="module")
def delta(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("delta") / "cat.safetensors"
    done = run("align", "uce", "--model", model_folder, "--concept", "cat, kitten", "--target", "dog",
               "--preserve", "cow", "--ridge", "0.01", "--output", out, *FAST, "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["delta"] == str(out)
    assert said["tensors"] == 8
    assert said["concepts"]["cat, kitten"]["largest"] > 1 / 255
    assert said["concepts"]["cat, kitten"]["before"] is None, "nobody can say what such a model draws"
    assert said["preserved"]["cow"]["num_images"] == 2
    return out


def test_the_card_says_how_to_make_it_again(delta: Path) -> None:
    card = delta.with_suffix(".md").read_text()
    assert card.startswith("---\nbase_model: ")
    assert "# UCE: cat, kitten" in card
    assert "| cow | preserved | 2 |" in card
    with Image.open(delta.with_suffix(".png")) as sheet:
        assert sheet.size == (2 * 128, 2 * 128), "of what was preserved alone: others may show anything"
    about = Delta.load(delta).about
    assert (about.method, about.concepts, about.settings["target"]) == ("uce", ("cat, kitten",), "dog")
    assert about.proof["concepts"]["cat, kitten"]["num_images"] == 2


def draw(pipe: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    return np.asarray(pipe("cat", num_inference_steps=2, generator=generator, output_type="np").images)


def test_a_model_with_the_delta_is_written(delta: Path, model_folder: Path, tmp_path: Path) -> None:
    done = run("apply", "--model", model_folder, "--delta", delta, "--out", tmp_path / "edited")
    assert done.exit_code == 0, done.stderr
    modes = {path.stat().st_mode for path in (tmp_path / "edited").rglob("*") if path.is_file()}
    assert len(modes) == 1, "whoever reads its index reads its weights"
    pipe = load_pipeline(model_folder, device="cpu")
    with Delta.load(delta).attach(pipe):
        expected = draw(pipe)
    assert np.abs(draw(load_pipeline(tmp_path / "edited", device="cpu")) - expected).max() < 1e-5
    again = run("apply", "--model", model_folder, "--delta", delta, "--out", tmp_path / "edited")
    assert again.exit_code == 2
    assert "exists already" in " ".join(again.stderr.split())


def test_what_was_changed_is_written_alone(delta: Path, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "unet.safetensors"
    done = run("apply", "--model", model_folder, "--delta", delta, "--scale", "0.5", "--as", "parameters",
               "--out", out, "--json")  # fmt: skip
    assert json.loads(done.stdout) == {"out": str(out), "as": "parameters"}
    changes, network = Delta.load(delta).tensors, load_pipeline(model_folder, device="cpu").unet
    written = load_file(out)
    assert {f"unet.{name}" for name in written} == changes.keys()
    for name, value in written.items():
        assert torch.allclose(value, network.get_parameter(name) + 0.5 * changes[f"unet.{name}"])


def test_a_lora_of_full_rank_draws_the_same(delta: Path, model_folder: Path, tmp_path: Path) -> None:
    done = run("apply", "--model", model_folder, "--delta", delta, "--as", "lora", "--rank", "8",
               "--out", tmp_path / "lora", "--json")  # fmt: skip
    assert json.loads(done.stdout)["left_out"] < 1e-3
    pipe = load_pipeline(model_folder, device="cpu")
    with Delta.load(delta).attach(pipe):
        expected = draw(pipe)
    before = draw(pipe)
    pipe.load_lora_weights(tmp_path / "lora")
    assert np.abs(expected - before).max() > 1e-3
    assert np.abs(draw(pipe) - expected).max() < 1e-4
    low = run("apply", "--model", model_folder, "--delta", delta, "--as", "lora", "--rank", "1",
              "--out", tmp_path / "low")  # fmt: skip
    assert "leaves out" in low.stdout
    assert "0.00 %" not in low.stdout


def test_the_judge_says_what_became_of_a_storybook_concept(tmp_path: Path) -> None:
    out = tmp_path / "boat.safetensors"
    done = run("align", "uce", "--concept", "a boat, boat, ship", "--target", "flower", "--preserve", "dog",
               "--output", out, "--num-images", "3", "--num-inference-steps", "10", "--json")  # fmt: skip
    said = json.loads(done.stdout)
    assert said["concepts"]["a boat, boat, ship"]["before"] == 1
    assert said["concepts"]["a boat, boat, ship"]["after"] == 0
    assert said["preserved"]["dog"]["after"] == 1
    assert Delta.load(out).about.base == "storybook"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--concept", "cat", "--output", "cat.bin"], "ends with .safetensors"),
        (["--concept", ",", "--output", "cat.safetensors"], "there is no concept"),
        (["--concept", "cat", "--preserve", "cat", "--output", "cat.safetensors"], "is both removed and"),
        (["--concept", "cat", "--target", "cat", "--output", "cat.safetensors"], "be edited to mean itself"),
        (["--concept", "cat", "--ridge", "1e30", "--output", "cat.safetensors"], "was changed"),
    ],
)
def test_nothing_is_written_for_what_is_no_edit(
    arguments: list[str], said: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("align", "uce", "--model", model_folder, *FAST, *arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_deltas_are_for_their_model(delta: Path, model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "edited"
    for arguments, said in (
        (["--delta", delta], "for another model"),
        (["--delta", delta, "--model", model_folder, "--scale", 1, "--scale", 2], "1 deltas and 2 scales"),
        (["--delta", delta, "--delta", delta, "--model", model_folder, "--as", "lora"], "made of one delta"),
        (["--delta", tmp_path / "gone.safetensors", "--model", model_folder], "there is no delta"),
    ):
        done = run("apply", "--out", out, *map(str, arguments))
        assert done.exit_code == 2
        assert said in " ".join(done.stderr.split())
        assert not out.exists()


ESD = (
    "align",
    "esd",
    "--concept",
    "cat",
    "--train-steps",
    "4",
    "--trajectories",
    "1",
    "--checkpoint-every",
    "2",
    "--learning-rate",
    "0.05",
)


def test_a_training_that_was_stopped_goes_on(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safelight.training.loop import TrainingLoop

    whole, out = tmp_path / "whole.safetensors", tmp_path / "cat.safetensors"
    done = run(*ESD, "--model", model_folder, "--output", whole, *FAST, "--json")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "whole.curve.png").exists()
    assert len(json.loads((tmp_path / "whole.curve.json").read_text())) == 4
    assert not (tmp_path / "whole.checkpoint").exists()
    step = TrainingLoop._step

    def stop(loop: TrainingLoop, loss: Any) -> None:
        if loop.steps_done == 3:
            raise KeyboardInterrupt
        step(loop, loss)

    monkeypatch.setattr(TrainingLoop, "_step", stop)
    stopped = run(*ESD, "--model", model_folder, "--output", out, *FAST)
    assert stopped.exit_code == 2
    assert "stopped after 3 of 4 steps" in " ".join(stopped.stderr.split())
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("cat")] == ["cat.checkpoint"]
    monkeypatch.setattr(TrainingLoop, "_step", step)
    again = run(*ESD, "--model", model_folder, "--output", out, *FAST)
    assert "give --resume" in " ".join(again.stderr.split())
    resumed = run(*ESD, "--model", model_folder, "--output", out, *FAST, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    one, other = (Delta.load(path).tensors for path in (whole, out))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_nobody_can_measure_an_unknown_model(model_folder: Path, tmp_path: Path) -> None:
    done = run(*ESD, "--model", model_folder, "--output", tmp_path / "cat.safetensors", "--eval-every", "2")
    assert done.exit_code == 2
    assert "no judge of this model" in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_training_ends_where_nothing_is_left(tmp_path: Path) -> None:
    """After as many steps as it takes the storybook to forget boats, and no more."""
    out = tmp_path / "boat.safetensors"
    done = run("align", "esd", "--concept", "boat", "--anchor", "flower", "--learning-rate", "3e-3",
               "--trajectories", "1", "--trajectory-steps", "12", "--train-steps", "100", "--eval-every", "5",
               "--output", out, *FAST, "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    settings = Delta.load(out).about.settings
    assert settings["steps_done"] < 100
    assert list(settings["rates"].values())[-1] == 0


def test_scenes_are_erased_and_captions_from_files_stay(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("a dog, a ball\na boat at sea\n")
    out = tmp_path / "cat.safetensors"
    arguments = ["align", "esd", "--model", model_folder, "--concept", "cat", "--output", out, *FAST]
    arguments += [
        "--trajectories",
        "1",
        "--train-steps",
        "2",
        "--learning-rate",
        "0.01",
        "--captions",
        tmp_path / "kept.txt",
    ]
    done = run(*arguments, "--template", "{}", "--template", "{} in a park")
    assert done.exit_code == 0, done.stderr
    settings = Delta.load(out).about.settings
    assert (settings["templates"], settings["captions"]["count"]) == (["{}", "{} in a park"], 2)
    for wrong, said in (
        (("--template", "park"), "must have exactly one {}"),
        (("--captions", "no.txt"), "no file"),
    ):
        done = run(*arguments, "--output", tmp_path / "other.safetensors", *wrong)
        assert done.exit_code == 2
        assert said in done.stderr


def test_what_a_word_brings_along_is_evened_out(tmp_path: Path) -> None:
    out = tmp_path / "pet.safetensors"
    arguments = ("align", "debias", "--concept", "a pet", "--output", out, "--images-per-round", "8",
                 "--rounds", "1", "--num-inference-steps", "8")  # fmt: skip
    done = run(*arguments, "--attribute", "dog=3", "--attribute", "bird")
    assert done.exit_code == 0, done.stderr
    about = Delta.load(out).about
    assert (about.method, about.settings["attributes"]) == ("debias", {"dog": 3.0, "bird": 1.0})
    before, after = (each["dog"] for each in about.settings["shares"])
    assert after > before or about.settings["add"]["dog"] < 0
    assert f"dog  {100 * before:.0f} %  {100 * after:.0f} %" in done.stdout
    for wrong, said in ((("dog=much", "cat"), '"much" is not a number'), (("dog",), "at least two")):
        refused = run(*arguments, *(part for each in wrong for part in ("--attribute", each)))
        assert refused.exit_code == 2
        assert said in " ".join(refused.stderr.split())


def test_what_nobody_sees_cannot_be_evened_out(model_folder: Path, tmp_path: Path) -> None:
    refused = run("align", "debias", "--model", model_folder, "--concept", "a pet", "--attribute", "dog",
                  "--attribute", "cat", "--output", tmp_path / "pet.safetensors")  # fmt: skip
    assert refused.exit_code == 2
    assert "there is no judge of this model's images" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("method", "value"), [("debias", "--attribute NAME[=SHARE]"), ("uce", "--add WORD=FACTOR")]
)
def test_help_says_how_the_value_of_a_mapping_is_written(method: str, value: str) -> None:
    assert value in " ".join(run("align", method, "--help").stdout.split())
