from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from safelight.cli import app
from safelight.policy import policy_path
from safelight.storybook import Judge


@pytest.fixture
def generate(model_folder: Path, tmp_path: Path) -> Callable[..., Result]:
    """Runs the command on the tiny model under the storybook policy, with two steps."""
    standing = ["--model", str(model_folder), "--num-inference-steps", "2", "--output", str(tmp_path / "out")]

    def run(*arguments: str, policy: str | None = "storybook") -> Result:
        own = ["--policy", policy] if policy else []
        return CliRunner().invoke(app, ["generate", *standing, *own, *arguments], catch_exceptions=False)

    return run


def _images(done: Result) -> list[dict[str, Any]]:
    images: list[dict[str, Any]] = json.loads(done.stdout)["images"]
    return images


def _pixels(path: str | Path) -> bytes:
    with Image.open(path) as image:
        return image.tobytes()


def test_released_images_are_saved_under_prompt_and_seed(
    generate: Callable[..., Result], tmp_path: Path
) -> None:
    done = generate("a dog, in the Park!", "é", "-n", "2", "--seed", "7", "--without-image-filter")
    assert done.exit_code == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a-dog-in-the-park-7.png", "a-dog-in-the-park-8.png", "image-10.png", "image-9.png"]
    assert len(_pixels(tmp_path / "out" / "image-9.png")) == 16 * 16 * 3
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["allow"] * 4
    assert "no image filter screened" in done.stderr


def test_a_blocked_request_exits_with_3_and_says_why(generate: Callable[..., Result], tmp_path: Path) -> None:
    done = generate("a dog", "a man with a gun", "--without-image-filter")
    assert done.exit_code == 3
    assert "weapons 1.00, from 0.80 (gun)" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_what_makes_it_fail_can_be_chosen(generate: Callable[..., Result]) -> None:
    arguments = ("a dog", "a man with a gun", "--without-image-filter")
    assert generate(*arguments, "--fail-on", "never").exit_code == 0
    assert generate(*arguments, "--fail-on", "review", "--json").exit_code == 3
    assert generate("a dog", "--fail-on", "review", "--without-image-filter").exit_code == 0


def test_a_failed_filter_exits_with_2(
    generate: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from safelight.filters.text.lexicon import Lexicon

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Lexicon, "find", fail)
    done = generate("a dog", "--without-image-filter", "--fail-on", "never")
    assert done.exit_code == 2
    assert "broken" in done.stdout
    assert list((tmp_path / "out").iterdir()) == []


SOLDIER = ["generate", "a soldier on the street", "--seed", "3", "--json"]


def _storybook_without_guidance(folder: Path) -> Path:
    text = policy_path("storybook").read_text("utf-8")
    start, end = text.index("[guidance]"), text.index("[categories.")
    path = folder / "policy.toml"
    path.write_text(text[:start] + text[end:], "utf-8")
    return path


def test_an_image_stopped_early_names_the_step(tmp_path: Path) -> None:
    """With this seed the soldier has a gun that the prompt did not ask for."""
    policy = _storybook_without_guidance(tmp_path)
    arguments = [*SOLDIER, "--policy", str(policy), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 3
    result = json.loads(done.stdout)
    assert result["stopped"]["0"] == {"step": 7, "steps": 25, "saved": 18}
    assert "(gun), stopped early after step 7 of 25" in result["images"][0]["why"]
    assert result["images"][0]["path"] is None


def test_harm_detected_early_is_steered_away(tmp_path: Path) -> None:
    """The same soldier, without the gun."""
    arguments = [*SOLDIER, "--policy", "storybook", "--output", str(tmp_path)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    (image,) = result["images"]
    assert image["why"].endswith(", steered away from a gun (prompt-projection)")
    first, second = result["attempts"]["0"]
    assert first["stop"] == {"step": 7, "steps": 25, "saved": 18}
    assert (second["guidance"], second["concepts"], second["stop"]) == ("prompt-projection", ["a gun"], None)
    labels = Judge.load().objects([Image.open(image["path"])])[0]
    assert labels["soldier"] > 0.5 > labels["gun"]


def test_json_has_the_whole_result(generate: Callable[..., Result]) -> None:
    done = generate("a gun", "a dog", "--seed", "3", "--json", "--without-image-filter")
    assert done.exit_code == 3
    result = json.loads(done.stdout)
    assert result["guarded"] is True
    assert result["action"] == "block"
    assert result["verdicts"][0]["categories"]["weapons"]["threshold"] == 0.8
    assert [image["seed"] for image in result["images"]] == [3, 4]
    assert [bool(image["path"]) for image in result["images"]] == [False, True]


def test_without_a_guard_the_same_noise_gives_the_same_images(generate: Callable[..., Result]) -> None:
    arguments = ("a dog", "a cat", "--seed", "5", "--json")
    guarded = _images(generate(*arguments, "--without-image-filter"))
    released = [_pixels(image["path"]) for image in guarded]
    for image in guarded:
        Path(image["path"]).unlink()
    done = generate(*arguments, "--unguarded", policy=None)
    assert json.loads(done.stdout)["guarded"] is False
    assert [(p["seed"], p["action"]) for p in _images(done)] == [(5, None), (6, None)]
    assert [_pixels(image["path"]) for image in _images(done)] == released


def test_without_a_guard_nothing_is_blocked(generate: Callable[..., Result]) -> None:
    done = generate("a gun", "--unguarded", policy=None)
    assert done.exit_code == 0
    assert done.stdout.startswith("generated  a gun  seed ")


def test_the_guidance_scale_reaches_the_pipeline(generate: Callable[..., Result]) -> None:
    pixels = []
    for scale in ("1", "9"):
        arguments = ("a dog", "--seed", "1", "--guidance-scale", scale, "--unguarded", "--json")
        pixels.append(_pixels(_images(generate(*arguments, policy=None))[0]["path"]))
    assert pixels[0] != pixels[1]


def test_a_random_seed_is_chosen_and_reported(generate: Callable[..., Result]) -> None:
    seeds = {_images(generate("a dog", "--json", "--without-image-filter"))[0]["seed"] for _ in range(2)}
    assert len(seeds) == 2


def test_truncated_prompts_are_reported(generate: Callable[..., Result]) -> None:
    done = generate("a dog " * 10, "--without-image-filter")
    assert "the model did not read the last" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "policy", "sentence"),
    [
        (
            ["a dog"],
            "storybok",
            'no policy "storybok"; available: general, general-nudenet, ',
        ),
        (["a dog"], "nowhere.toml", "there is no file nowhere.toml"),
        (
            ["a dog", "--model", "storybok"],
            "storybook",
            'no model "storybok"; available: storybook; did you mean',
        ),
        (["a dog", "--model", "./nowhere"], "storybook", "there is no model at nowhere"),
        ([" "], "storybook", "the prompt is empty"),
        (["a\x07dog"], "storybook", "control character U+0007"),
        (["a dog", "-n", "0"], "storybook", "at least 1"),
        (["a dog", "--seed", "-1"], "storybook", "a seed is a whole number"),
        (["a dog", "--unguarded"], "storybook", "--unguarded leaves out the whole guard"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exits_with_2(
    generate: Callable[..., Result], arguments: list[str], policy: str, sentence: str
) -> None:
    done = generate(*arguments, policy=policy)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert sentence in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_named(generate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = generate("a dog", "--output", str(tmp_path / "file"))
    assert done.exit_code == 2
    assert "give another --out" in done.stderr


def test_a_model_that_is_not_storybook_has_the_general_policy(generate: Callable[..., Result]) -> None:
    done = generate("an orgy", "--json", "--without-image-filter", policy=None)
    assert done.exit_code == 3
    assert json.loads(done.stdout)["verdicts"][0]["policy"].startswith("general ")


def test_an_image_that_cannot_be_written_is_named(generate: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "out" / "a-dog-1.png").mkdir(parents=True)
    done = generate("a dog", "--seed", "1", "--without-image-filter")
    assert done.exit_code == 2
    assert "a-dog-1.png cannot be written" in done.stderr
