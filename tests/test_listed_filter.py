"""Filters of a policy are checked at start-up, and not when the first request comes."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safelight import registry
from safelight.errors import MissingExtraError, PolicyError, SafelightError
from safelight.guard.guard import Guard
from safelight.policy import Policy
from safelight.screening.listed_filter import ListedFilter
from safelight.screening.presets import preset_names

WITHOUT = [
    ("nudenet", "nudenet", "", "nudenet"),
    ("nudenet", "cv2", 'model = "policy.toml"\n', "nudenet"),
    ("known-image", "pdqhash", 'lists = ["policy.toml"]\n', "hashes"),
    ("vision-language-model", "httpx", 'url = "http://localhost/"\nmodel = "x"\n', "language-model"),
    ("image-classifier", "torch", 'model = "./"\n', "generate"),
    ("object-detector", "transformers", 'model = "./"\n', "generate"),
    ("clip", "torch", 'model = "./"\n', "generate"),
]


def _with_image_filter(write_policy: Callable[..., Path], name: str, options: str) -> Path:
    table = f"[filters.options.{name}]\n{options}\n[filters.options.lexicon]"
    return write_policy(('image = ["never"]', f'image = ["{name}"]'), ("[filters.options.lexicon]", table))


@pytest.mark.parametrize(("name", "module", "options", "extra"), WITHOUT)
def test_a_missing_extra_is_named_at_start_up(
    write_policy: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    module: str,
    options: str,
    extra: str,
) -> None:
    path = _with_image_filter(write_policy, name, options)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf'image filter "{name}" needs the extra "{extra}"') as error:
        Guard.from_policy(path)
    assert "or ask for stages other than image" in str(error.value)
    guard = Guard.from_policy(path, stages=("prompt",))
    assert guard.load().screen_prompts(["a gun"])[0].action == "block"
    assert Guard.from_policy(path, without_image_filter=True).stages == ("prompt", "pair")


def test_a_missing_word_list_is_named_at_start_up(write_policy: Callable[..., Path]) -> None:
    path = write_policy(('words = "storybook"', 'words = "lists/ours.toml"'))
    with pytest.raises(
        PolicyError, match=r"policy.toml, line 11: there is no file or folder .*lists/ours.toml"
    ):
        Guard.from_policy(path)
    Guard.from_policy(path, stages=("image",)).load()


def test_thresholds_at_a_stage_without_filters_are_refused_at_start_up(
    write_policy: Callable[..., Path],
) -> None:
    path = write_policy(("# pair", "pair"))
    with pytest.raises(PolicyError, match=r'line 20: nothing .* "violence": the policy lists no pair filter'):
        Guard.from_policy(path)
    Guard.from_policy(path, stages=("prompt", "image"))


def test_load_makes_the_filters_and_refuses_thresholds_that_none_reaches(
    write_policy: Callable[..., Path],
) -> None:
    assert Guard.from_policy(write_policy()).load().screen_prompts(["a cat"])[0].action == "allow"
    blind = Guard.from_policy(write_policy(('[categories."violence"]', '[categories."hate"]')))
    with pytest.raises(PolicyError, match=r'line 18: nothing can reach the prompt thresholds of "hate"'):
        blind.load()
    misspelt = Guard.from_policy(write_policy(("bomb = [", "bmob = [")))
    with pytest.raises(PolicyError, match=r'line 24: no filter .* reports the label "bmob"'):
        misspelt.load()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("nudenet", 'threshold = "high"\nmodel = "policy.toml"'),
        ("clip", "concepts = 3"),
        ("clip", 'concepts = { gun = ["a gun"] }\ncalibration = 1979-05-27'),
        ("known-image", "lists = 3"),
        ("vision-language-model", 'url = "x"\nmodel = "x"\nanswers = 3'),
        ("vision-language-model", 'url = "x"\nmodel = "x"\nattempts = "many"'),
        ("image-classifier", "model = 3"),
    ],
)
def test_options_of_another_type_are_errors_of_ours(
    write_policy: Callable[..., Path], name: str, options: str
) -> None:
    with pytest.raises(SafelightError):
        Guard.from_policy(_with_image_filter(write_policy, name, options)).load()


def test_stages_are_named_as_they_are() -> None:
    wrong: Any = ("promt",)
    with pytest.raises(PolicyError, match=r'no stage "promt".*did you mean "prompt"'):
        Guard.from_policy("storybook", stages=wrong)


def policy_of(folder: Path, text: str) -> Policy:
    path = folder / "policy.toml"
    path.write_text(
        f'name = "ours"\nversion = "1"\n{text}[categories."sexual.explicit"]\nimage = {{ block = 0.5 }}\n'
    )
    return Policy.load(path)


@pytest.mark.parametrize("name", preset_names("image"))
def test_a_preset_needs_only_its_name_in_a_policy(name: str, tmp_path: Path) -> None:
    policy = policy_of(tmp_path, f'[filters]\nimage = ["{name}"]\n')
    listed = ListedFilter.of(policy, "image", name)
    assert name not in registry.names("image_filter")
    assert listed.component in registry.names("image_filter")
    assert listed.options["model"].count("/") == 1
    assert listed.paths == {}


def test_a_preset_that_is_a_hub_model_is_pinned(tmp_path: Path) -> None:
    listed = ListedFilter.of(policy_of(tmp_path, '[filters]\nimage = ["falconsai"]\n'), "image", "falconsai")
    assert re.fullmatch("[0-9a-f]{40}", listed.options["revision"])
    assert listed.options["labels"] == {"nsfw": "sexual.explicit"}


def test_options_change_single_keys_of_a_preset(tmp_path: Path) -> None:
    text = '[filters]\nimage = ["llavaguard"]\n[filters.options.llavaguard]\nurl = "http://127.0.0.1:9/v1/"\n'
    listed = ListedFilter.of(policy_of(tmp_path, text), "image", "llavaguard")
    assert (listed.options["url"], listed.options["answers"]) == ("http://127.0.0.1:9/v1/", "llava-guard")


def test_a_filter_of_a_presets_name_with_another_use_takes_nothing_from_it(tmp_path: Path) -> None:
    text = '[filters]\nimage = ["falconsai"]\n[filters.options.falconsai]\nuse = "nsfwjs"\n'
    listed = ListedFilter.of(policy_of(tmp_path, text), "image", "falconsai")
    assert (listed.component, listed.options) == ("nsfwjs", {})
