"""Which weights of a denoiser are edited, in every family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import diffusers
import pytest

from pipelines import flux, sd, sd2, sd3, sdxl
from safelight.alignment.diffusion.parameters import SELECTIONS, parameters
from safelight.errors import ModelError, RequestError

FAMILIES = {"sd": sd, "sd2": sd2, "sdxl": sdxl, "sd3": sd3, "flux": flux}


def network_of(name: str, pipe: Any) -> Any:
    made = FAMILIES[name](pipe)
    return made.unet if hasattr(made, "unet") else made.transformer


@pytest.mark.parametrize("name", FAMILIES)
def test_selections_are_what_they_say_and_never_empty(name: str, pipe: Any) -> None:
    network = network_of(name, pipe)
    chosen: Mapping[str, set[str]] = {each: set(parameters(network, each)) for each in SELECTIONS}
    assert all(chosen.values())
    everything = {name for name, _ in network.named_parameters()}
    assert chosen["esd-all"] == everything
    assert chosen["esd-x"] | chosen["esd-u"] == everything
    assert not chosen["esd-x"] & chosen["esd-u"]
    assert not chosen["esd-x"] & chosen["esd-self"]
    assert chosen["esd-x-strict"] < chosen["esd-x"]
    assert chosen["esd-self"] < chosen["esd-u"]
    joint = name in ("sd3", "flux")
    assert all(
        (("add_" in each or "norm_added" in each) if joint else "attn2" in each) for each in chosen["esd-x"]
    )
    strict = ("add_k_proj", "add_v_proj") if joint else ("to_k", "to_v")
    assert {each.split(".")[-2] for each in chosen["esd-x-strict"]} == set(strict)


def test_they_are_the_networks_own(pipe: Any) -> None:
    network = network_of("sd", pipe)
    own = dict(network.named_parameters())
    assert all(parameter is own[name] for name, parameter in parameters(network, "esd-x").items())


@pytest.mark.parametrize("selection", [each for each in SELECTIONS if each != "esd-all"])
def test_a_network_that_reads_no_text_is_refused(selection: str) -> None:
    network = diffusers.UNet2DModel(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )
    with pytest.raises(ModelError, match="has no"):
        parameters(network, selection)


def test_another_name_is_refused(pipe: Any) -> None:
    with pytest.raises(RequestError, match=r"did you mean \"esd-x\""):
        parameters(network_of("sd", pipe), "esd_x")
