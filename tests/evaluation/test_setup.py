"""The parts that an evaluation of prompts is built from."""

from __future__ import annotations

from pathlib import Path

import pytest

from safelight.alignment.guidance import is_guided
from safelight.errors import RegistryError, RequestError
from safelight.evaluation.prompts import Setup
from safelight.evaluation.system import GuardedSystem


def test_no_image_is_guided_by_the_policy_and_from_outside() -> None:
    setup = Setup("storybook", "storybook", guidance="sld-weak", policy="storybook")
    with pytest.raises(RequestError, match=r'"storybook" guides images itself; write the guidance into its'):
        setup.build()


def test_guidance_around_a_policy_without_guidance_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('extends = "storybook"\nname = "plain"\nversion = "1"\nguidance = false\n')
    system, _, _ = Setup("storybook", "storybook", guidance="sld-weak", policy=str(path)).build()
    assert isinstance(system, GuardedSystem)
    assert system.settings["guidance"] == "sld-weak"
    assert is_guided(system.pipe)


def test_concepts_need_a_guidance_that_exists() -> None:
    with pytest.raises(RequestError, match="name a guidance as well"):
        Setup("storybook", "storybook", concepts=("a gun",)).build()
    with pytest.raises(RegistryError, match='did you mean "sld-weak"'):
        Setup("storybook", "storybook", guidance="sld-weka").build()
