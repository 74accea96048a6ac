"""Configurations of Safe Latent Diffusion: the four published ones, and custom ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from safelight.errors import RequestError, unknown_name

# The paper counts 50 steps of Stable Diffusion, at the timesteps 981, 961, … 1.
_FIRST, _APART, _STEPS = 981, 20, 50
# Stable Diffusion's variances β range between the squares of these numbers (Rombach et al. 2022).
_BETA_START, _BETA_END, _TIMESTEPS = 0.00085**0.5, 0.012**0.5, 1000


@dataclass(frozen=True, slots=True)
class SafetyConfig:
    """The hyperparameters of Safe Latent Diffusion (Schramowski et al. 2023, table 1).

    They are ``scale`` s_S, ``threshold`` λ, ``momentum_scale`` s_m, ``momentum`` β_m and ``warm_up`` δ, the
    latter in steps out of 50. λ and s_S are in units of predicted noise. Raises ``RequestError`` for invalid
    values.
    """

    scale: float
    threshold: float
    momentum_scale: float = 0.0
    momentum: float = 0.0
    warm_up: float = 0.0

    def __post_init__(self) -> None:
        for name in ("scale", "momentum_scale", "warm_up"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RequestError(
                    f"{name} is {getattr(self, name)}; it must be a finite number that is at least 0."
                )
        if not math.isfinite(self.threshold):
            raise RequestError(f"threshold is {self.threshold}; it must be a finite number.")
        if not 0 <= self.momentum < 1:
            raise RequestError(f"momentum is {self.momentum}; it must be at least 0 and below 1.")

    @property
    def does_nothing(self) -> bool:
        """Whether the configuration never has an effect, because μ and the momentum are always 0."""
        return self.scale == 0

    @property
    def uses_momentum(self) -> bool:
        """Whether the steps of the warm-up have an effect after it."""
        return self.momentum_scale > 0

    @property
    def starts_at(self) -> float:
        """The log signal-to-noise ratio at which guidance starts.

        A warm-up counted in steps would end at a different noise level for every number of steps, scheduler
        and model family: 20 % of Stable Diffusion's steps correspond to 37 % of those of a flow with shift 3.
        """
        if self.warm_up == 0:
            return -math.inf
        timestep = _FIRST - _APART * self.warm_up
        return math.inf if timestep < 0 else _log_signal_to_noise(timestep)


# The scale of SLD-Weak is 200 in the paper and its model card, but 20 in SafetyConfig.WEAK of diffusers and
# in results published with it.
CONFIGURATIONS: Mapping[str, SafetyConfig] = {
    "weak": SafetyConfig(200, 0.0, warm_up=15),
    "medium": SafetyConfig(1000, 0.01, 0.3, 0.4, 10),
    "strong": SafetyConfig(2000, 0.025, 0.5, 0.7, 7),
    "max": SafetyConfig(5000, 1.0, 0.5, 0.7, 0),
}


def configuration(named: str | SafetyConfig) -> SafetyConfig:
    """Return a configuration by name. Raises ``RequestError`` if it is not in ``CONFIGURATIONS``."""
    if isinstance(named, SafetyConfig):
        return named
    if named not in CONFIGURATIONS:
        raise RequestError(unknown_name("configuration of guidance", named, CONFIGURATIONS))
    return CONFIGURATIONS[named]


def _log_signal_to_noise(timestep: float) -> float:
    """Return the log signal-to-noise ratio of Stable Diffusion, interpolated between whole timesteps."""
    whole = int(timestep)
    share = timestep - whole
    here, later = (_log_ratio(min(t, _TIMESTEPS - 1)) for t in (whole, whole + 1))
    return (1 - share) * here + share * later


def _log_ratio(timestep: int) -> float:
    kept = math.prod(1 - _beta(i) for i in range(timestep + 1))
    return math.log(kept / (1 - kept))


def _beta(timestep: int) -> float:
    share = timestep / (_TIMESTEPS - 1)
    root: float = _BETA_START + share * (_BETA_END - _BETA_START)
    return root * root
