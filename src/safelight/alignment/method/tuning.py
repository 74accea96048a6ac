"""The one loop that fine-tunes weights: masters in full precision, checkpoints that resume, the curve."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.alignment.delta.delta import write_tensors
from safelight.errors import ModelError, RequestError
from safelight.training.average import decay_at

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor, nn

# Is given the step, counted from 0, and gives the loss of that step's batch.
Loss = Callable[[int], "Tensor"]
# Says after so many steps how much of the concept is left, in [0, 1].
Measure = Callable[[int], float]
Tell = Callable[[int, float], None]

_BETAS = (0.9, 0.999)


@dataclass(frozen=True, slots=True)
class Plan:
    """``accumulate`` batches make a step. The concept rate is ``measured_every`` so many steps, and the
    tuning ends where it is 0, or has fallen and fell no more for ``patience`` measures; a checkpoint is kept
    ``checkpoint_every`` so many. With ``falling`` the rate falls to nothing along half a cosine. With an
    ``average`` what is learnt is the weights' moving average of this decay, less at first; gradients longer
    than ``clip`` are cut to it, unless it is 0."""

    steps: int
    rate: float
    accumulate: int = 1
    checkpoint_every: int = 50
    measured_every: int = 0
    patience: int = 2
    falling: bool = False
    average: float = 0.0
    clip: float = 0.0

    def rate_of(self, step: int) -> float:
        """Of the step with this number, counted from 0."""
        return self.rate * (1 + math.cos(math.pi * step / self.steps)) / 2 if self.falling else self.rate

    def __post_init__(self) -> None:
        whole = {"steps": self.steps, "accumulate": self.accumulate, "patience": self.patience}
        whole["checkpoint_every"] = self.checkpoint_every
        for name, value in whole.items():
            if value < 1:
                raise RequestError(f"{name} is {value}; it must be at least 1.")
        if not 0 < self.rate < math.inf:
            raise RequestError(f"the rate is {self.rate}; it must be a number above 0.")
        if not 0 <= self.average < 1:
            raise RequestError(f"average is {self.average}; it must be at least 0 and below 1.")
        if not 0 <= self.clip < math.inf:
            raise RequestError(f"clip is {self.clip}; it must be at least 0.")


@dataclass
class Curve:
    """The loss of each step, and the concept rate where it was measured."""

    loss: list[float] = field(default_factory=list)
    rates: dict[int, float] = field(default_factory=dict)


class Tuning:
    """Fits ``parameters`` of a network, by name, in place.

    Where ``folder`` has a checkpoint it goes on from it, and ends with the same weights, bit for bit on a
    CPU, as if it had never stopped: each step's loss is to depend on nothing but the weights and its number.
    Of several processes of an ``accelerator`` each has a loss of its own; the step follows the mean gradient,
    and the first one keeps the checkpoints. Raises ``ModelError`` if the checkpoint is of another plan, or of
    other ``settings`` of the method.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        plan: Plan,
        folder: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        accelerator: Accelerator | None = None,
    ) -> None:
        self._parameters = dict(parameters)
        self._plan = plan
        self._about = json.dumps({**(settings or {}), "plan": asdict(plan)}, sort_keys=True)
        self._file = folder / "checkpoint.safetensors" if folder else None
        self._masters = {name: _master(each) for name, each in self._parameters.items()}
        self._averages = {name: each.detach().clone() for name, each in self._masters.items() if plan.average}
        self._optimiser = _adam(list(self._masters.values()), plan)
        self._accelerator = accelerator
        self.curve = Curve()
        self.done = 0
        self._load()

    def run(self, loss_of: Loss, measure: Measure | None = None, tell: Tell | None = None) -> Curve:
        """Raises ``ModelError`` for a loss that is no number, with the weights of the last checkpoint back in
        place, and on Ctrl-C, with a checkpoint of all that was done."""
        try:
            self._measure(measure)
            while self.done < self._plan.steps and not self._enough():
                self._step(loss_of)
                if tell:
                    tell(self.done, self.curve.loss[-1])
                self._measure(measure)
                if self.done % self._plan.checkpoint_every == 0 or self.done == self._plan.steps:
                    self._save()
        except KeyboardInterrupt:
            self._save()
            kept = f"; it goes on from {self._file}" if self._file else ""
            raise ModelError(f"stopped after {self.done} of {self._plan.steps} steps{kept}.") from None
        self._put(self._averages or self._masters)
        return self.curve

    def _measure(self, measure: Measure | None) -> None:
        every = self._plan.measured_every
        if measure and every and self.done % every == 0 and self.done not in self.curve.rates:
            self.curve.rates[self.done] = measure(self.done)

    def _step(self, loss_of: Loss) -> None:
        for parameter in self._parameters.values():
            parameter.grad = None
        total = 0.0
        for part in range(self._plan.accumulate):
            loss = loss_of(self.done * self._plan.accumulate + part) / self._plan.accumulate
            total += loss.item()
            if math.isfinite(total):
                loss.backward()
        # All processes fail where one does.
        if not math.isfinite(total := self._mean(total)):
            self._fail()
        self._take_gradients()
        for group in self._optimiser.param_groups:
            group["lr"] = self._plan.rate_of(self.done)
        self._optimiser.step()
        self._put(self._masters)
        self._average()
        self.curve.loss.append(total)
        self.done += 1

    def _take_gradients(self) -> None:
        import torch

        for name, master in self._masters.items():
            gradient = self._parameters[name].grad
            if gradient is not None and self._accelerator:
                gradient = self._accelerator.reduce(gradient, "mean")
            master.grad = None if gradient is None else gradient.to(master)
        if self._plan.clip:
            torch.nn.utils.clip_grad_norm_(list(self._masters.values()), self._plan.clip)

    def _mean(self, loss: float) -> float:
        """Over all processes."""
        import torch

        if not self._accelerator or self._accelerator.num_processes == 1:
            return loss
        mine = torch.tensor(loss, device=self._accelerator.device)
        return float(self._accelerator.reduce(mine, "mean"))

    def _average(self) -> None:
        kept = decay_at(self.done, self._plan.average)
        for name, average in self._averages.items():
            average.lerp_(self._masters[name].detach(), 1 - kept)

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, each in weights.items():
                if each is not self._parameters[name]:
                    self._parameters[name].copy_(each)

    def _enough(self) -> bool:
        """Whether the concept rate has stopped falling: at first, before much is learnt, it stands still."""
        rates = list(self.curve.rates.values())
        if rates and rates[-1] == 0:
            return True
        before = rates[: -self._plan.patience]
        return len(before) > 0 and min(before) < rates[0] and min(rates) == min(before)

    def _fail(self) -> None:
        step = self.done + 1
        if self._file and self._file.exists():
            self._load()
            raise ModelError(
                f"the loss of step {step} is no number; the weights are those of step {self.done}."
            )
        raise ModelError(f"the loss of step {step} is no number; lower the rate.")

    def _save(self) -> None:
        import torch

        if not self._file or not (self._accelerator is None or self._accelerator.is_main_process):
            return
        tensors = {f"weights.{name}": master.detach() for name, master in self._masters.items()}
        for name, master in self._masters.items():
            state = self._optimiser.state[master]
            tensors |= {f"{key}.{name}": state[key] for key in ("exp_avg", "exp_avg_sq") if key in state}
        tensors |= {f"average.{name}": each for name, each in self._averages.items()}
        tensors["steps"] = torch.tensor(self.done)
        tensors["loss"] = torch.tensor(self.curve.loss, dtype=torch.float64)
        tensors["rates"] = torch.tensor(list(self.curve.rates.items()), dtype=torch.float64).reshape(-1, 2)
        write_tensors(tensors, self._file, {"about": self._about})

    def _load(self) -> None:
        import torch
        from safetensors import SafetensorError, safe_open

        if not self._file or not self._file.exists():
            return
        try:
            with safe_open(self._file, "pt") as file:
                said = (file.metadata() or {}).get("about")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ModelError(f"{self._file} is no checkpoint; remove it to begin anew.") from error
        names = {name.removeprefix("weights.") for name in tensors if name.startswith("weights.")}
        if said != self._about or names != self._masters.keys():
            raise ModelError(f"{self._file} is of another tuning; give another folder, or remove it.")
        self.done = int(tensors["steps"])
        self.curve = Curve(
            tensors["loss"].tolist(), {int(step): rate for step, rate in tensors["rates"].tolist()}
        )
        with torch.no_grad():
            for name, master in self._masters.items():
                master.copy_(tensors[f"weights.{name}"])
                if name in self._averages:
                    self._averages[name].copy_(tensors[f"average.{name}"])
                if f"exp_avg.{name}" in tensors:
                    self._optimiser.state[master] = {
                        "step": torch.tensor(float(self.done)),
                        "exp_avg": tensors[f"exp_avg.{name}"].to(master.device),
                        "exp_avg_sq": tensors[f"exp_avg_sq.{name}"].to(master.device),
                    }
        self._put(self._masters)


def _master(parameter: nn.Parameter) -> Tensor:
    """Steps are too small for half precision, which would round them away."""
    import torch

    if parameter.dtype == torch.float32:
        return parameter
    return parameter.detach().float().clone().requires_grad_()


def _adam(masters: list[Tensor], plan: Plan) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(masters, lr=plan.rate, betas=_BETAS, weight_decay=0.0)
