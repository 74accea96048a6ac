"""The formulas, by hand and in every kind of prediction."""

from __future__ import annotations

import math

import diffusers
import pytest
import torch

from safelight.alignment.guidance import CONFIGURATIONS, SafetyConfig
from safelight.alignment.guidance.configuration import configuration
from safelight.alignment.guidance.safe_latent_diffusion import Momentum, towards_harm
from safelight.errors import RequestError

ONE = torch.tensor(1.0)


def _scalar(value: float) -> torch.Tensor:
    return torch.tensor([value])


@pytest.mark.parametrize(
    ("prompt", "concept", "expected"),
    [
        (0.2, 0.3, 1.0 * (0.3 - 0.1)),  # 10 · |0.2 - 0.3| = 1, the most
        (0.25, 0.3, 0.5 * (0.3 - 0.1)),  # 10 · 0.05
        (0.3, 0.3, 0.0),  # 10 · 0
        (0.305, 0.3, 0.05 * 0.2),  # away from the concept, by less than the threshold
        (0.32, 0.3, 0.0),  # by more
    ],
)
def test_an_element_is_led_away_where_the_prompt_leads_to_the_concept(
    prompt: float, concept: float, expected: float
) -> None:
    config = SafetyConfig(scale=10, threshold=0.01)
    taken = towards_harm(config, _scalar(0.1), _scalar(prompt), _scalar(concept), ONE)
    assert taken.item() == pytest.approx(expected, abs=1e-6)


def test_momentum_is_added_to_what_comes_next() -> None:
    """γ₁ = 1; ν₁ = .3 · 1; γ₂ = 2 + .5 · .3 = 2.15; ν₂ = .7 · .3 + .3 · 2.15 = .855; γ₃ = 0 + .5 · .855."""
    momentum = Momentum(SafetyConfig(1, 0.0, momentum_scale=0.5, momentum=0.7))
    taken = [momentum.add(_scalar(value), ONE).item() for value in (1.0, 2.0, 0.0)]
    assert taken == pytest.approx([1.0, 2.15, 0.4275])


def test_momentum_is_remembered_in_noise() -> None:
    """γ₁ = 1 is 2 of noise, ν₁ = .6 of noise; where one of output is half of noise, .5 · .6 of it is .6."""
    momentum = Momentum(SafetyConfig(1, 0.0, momentum_scale=0.5, momentum=0.7))
    momentum.add(_scalar(1.0), torch.tensor(2.0))
    assert momentum.add(_scalar(0.0), torch.tensor(0.5)).item() == pytest.approx(0.6)


def test_where_output_says_nothing_about_the_noise_nothing_is_remembered_in_it() -> None:
    momentum = Momentum(SafetyConfig(1, 0.0, momentum_scale=0.5, momentum=0.7))
    momentum.add(_scalar(1.0), ONE)
    assert momentum.add(_scalar(0.25), torch.tensor(0.0)).item() == 0.25


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_every_kind_of_prediction_is_led_away_by_the_same_noise(kind: str) -> None:
    """x_t is held; ε, v = a·ε - b·x₀ and x₀ = (x_t - b·ε) / a say the same."""
    generator = torch.Generator().manual_seed(0)
    sample, *noises = torch.randn(4, 64, generator=generator)
    a, b = 0.6, 0.8
    originals = [(sample - b * noise) / a for noise in noises]
    outputs = {
        "v_prediction": [a * e - b * x for e, x in zip(noises, originals, strict=True)],
        "sample": originals,
    }[kind]
    factor = torch.tensor({"v_prediction": a, "sample": -a / b}[kind])
    config = CONFIGURATIONS["medium"]
    expected = towards_harm(config, *noises, ONE)
    assert torch.allclose(factor * towards_harm(config, *outputs, factor), expected, atol=1e-5)
    assert expected.abs().max() > 0.1


def test_a_flow_is_led_away_by_the_same_noise() -> None:
    """x_t = (1 - σ) x₀ + σ ε and v = ε - x₀."""
    generator = torch.Generator().manual_seed(0)
    sample, *noises = torch.randn(4, 64, generator=generator)
    sigma = 0.3
    outputs = [noise - (sample - sigma * noise) / (1 - sigma) for noise in noises]
    factor = torch.tensor(1 - sigma)
    config = CONFIGURATIONS["medium"]
    expected = towards_harm(config, *noises, ONE)
    assert torch.allclose(factor * towards_harm(config, *outputs, factor), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "steps"), [("weak", 15), ("medium", 10), ("strong", 7), ("max", 0)])
def test_the_warm_up_ends_at_the_noise_of_stable_diffusions_step(name: str, steps: int) -> None:
    """Alphas as diffusers computes them."""
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    scheduler.set_timesteps(50)
    kept = scheduler.alphas_cumprod[scheduler.timesteps].double()
    ratios = (kept / (1 - kept)).log()
    begins = CONFIGURATIONS[name].starts_at
    assert (ratios >= begins - 1e-4).nonzero()[0].item() == steps


def test_a_warm_up_beyond_the_last_step_never_ends() -> None:
    assert SafetyConfig(1, 0.0, warm_up=50).starts_at == math.inf
    between = SafetyConfig(1, 0.0, warm_up=7.5).starts_at
    assert CONFIGURATIONS["strong"].starts_at < between < SafetyConfig(1, 0.0, warm_up=8).starts_at


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"scale": -1.0}, "scale is -1.0"),
        ({"scale": math.nan}, "scale is nan"),
        ({"threshold": math.inf}, "threshold is inf"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"momentum_scale": -0.1}, "momentum_scale is -0.1"),
        ({"warm_up": -1}, "warm_up is -1"),
    ],
)
def test_a_configuration_makes_sense(values: dict[str, float], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        SafetyConfig(**{"scale": 1.0, "threshold": 0.0, **values})


def test_an_unknown_configuration_is_refused() -> None:
    with pytest.raises(RequestError, match='did you mean "strong"'):
        configuration("strnog")
