"""The training loop: float32 master weights, learning rate schedule, EMA, evaluation and checkpoints."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.errors import ModelError
from safelight.training.curve import Curve
from safelight.training.plan import TrainingPlan

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# A function that returns the loss of the batch with this number, counted from 0.
Loss = Callable[[int], "Tensor"]
# A function of the number of steps done that returns a rate in [0, 1], which training should bring down.
Evaluate = Callable[[int], float]
# A function that is called with the number of steps done and the loss of the last step.
Progress = Callable[[int, float], None]


class TrainingLoop:
    """Trains ``parameters``, given by name, in place.

    If the file ``checkpoint`` exists, the training resumes from it. On a CPU the final weights are then bit
    for bit those of an uninterrupted training, provided that a batch's loss depends only on the weights and
    the batch's number. Parameters in half precision are trained as float32 copies, because half precision
    would round small steps away. ``buffers`` of the network (the statistics of batch normalization) are part
    of checkpoints and of the moving average. With several processes of ``torch.distributed``, each has its
    own batches, gradients are averaged, and the first process writes the checkpoints.

    Raises ``ModelError`` if the checkpoint is of another plan or of other ``settings``.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        plan: TrainingPlan,
        checkpoint: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._parameters = dict(parameters)
        self._plan = plan
        self._about = json.dumps({**(settings or {}), "plan": asdict(plan)}, sort_keys=True)
        self._file = checkpoint
        self._masters = {name: _master(each) for name, each in self._parameters.items()}
        self._buffers = dict(buffers or {})
        averaged = {**self._masters, **self._buffers} if plan.ema_decay else {}
        self._averages = {n: e.detach().clone() for n, e in averaged.items() if e.is_floating_point()}
        self._optimizer = _adam(list(self._masters.values()), plan)
        self._stepping = False
        self.curve = Curve()
        self.steps_done = 0
        self._load()

    def run(self, loss_of: Loss, evaluate: Evaluate | None = None, progress: Progress | None = None) -> Curve:
        """Train to the end, write the result to the parameters, and return the loss curve.

        Raises ``ModelError`` for a loss that is not finite, after restoring the weights of the last
        checkpoint, and on Ctrl-C, after saving a checkpoint.
        """
        try:
            self._evaluate(evaluate)
            while self.steps_done < self._plan.train_steps and not self._is_enough():
                self._step(loss_of)
                if progress:
                    progress(self.steps_done, self.curve.loss[-1])
                self._evaluate(evaluate)
                if self._is_saved_at(self.steps_done):
                    self._save()
        except KeyboardInterrupt:
            if not self._stepping:  # training cannot resume in the middle of a step
                self._save()
            kept = f"; it can resume from {self._file}" if self._file and self._file.exists() else ""
            raise ModelError(
                f"stopped after {self.steps_done} of {self._plan.train_steps} steps{kept}."
            ) from None
        self._put({**self._masters, **self._averages})
        return self.curve

    def _evaluate(self, evaluate: Evaluate | None) -> None:
        every = self._plan.eval_every
        if evaluate and every and self.steps_done % every == 0 and self.steps_done not in self.curve.rates:
            self.curve.rates[self.steps_done] = evaluate(self.steps_done)

    def _step(self, loss_of: Loss) -> None:
        from safelight.training import processes

        # The mean is not finite in any process if it is not finite in one, so all of them fail.
        if not math.isfinite(loss := self._mean(self._backward(loss_of))):
            self._fail()
        processes.average([master.grad for master in self._masters.values() if master.grad is not None])
        self._clip()
        for group in self._optimizer.param_groups:
            group["lr"] = self._plan.learning_rate_at(self.steps_done)
        self._stepping = True
        self._optimizer.step()
        self._put(self._masters)
        self._average_weights()
        self.curve.loss.append(loss)
        self.steps_done += 1
        self._stepping = False

    def _backward(self, loss_of: Loss) -> float:
        for parameter in self._parameters.values():
            parameter.grad = None
        batches, total = self._plan.gradient_accumulation, 0.0
        for part in range(batches):
            loss = loss_of(self.steps_done * batches + part) / batches
            total += loss.item()
            if math.isfinite(total):
                loss.backward()
        for name, master in self._masters.items():
            gradient = self._parameters[name].grad
            master.grad = None if gradient is None else gradient.to(master)
        return total

    def _mean(self, loss: float) -> float:
        """Return the mean over all processes."""
        import torch

        from safelight.training import processes

        if processes.workers() == 1:
            return loss
        mean = torch.tensor([loss], device=next(iter(self._masters.values())).device)
        processes.average([mean])
        return float(mean)

    def _clip(self) -> None:
        import torch

        if self._plan.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(list(self._masters.values()), self._plan.max_grad_norm)

    def _average_weights(self) -> None:
        decay = self._plan.ema_decay_at(self.steps_done)
        for name, average in self._averages.items():
            now = self._masters[name] if name in self._masters else self._buffers[name]
            average.lerp_(now.detach(), 1 - decay)

    def _put(self, weights: Mapping[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, each in weights.items():
                place = self._parameters[name] if name in self._parameters else self._buffers[name]
                if each is not place:
                    place.copy_(each)

    def _is_enough(self) -> bool:
        """Return whether the rate is 0 or no longer falls; a constant rate at the start does not count."""
        rates = list(self.curve.rates.values())
        if rates and rates[-1] == 0:
            return True
        before = rates[: -self._plan.patience]
        return len(before) > 0 and min(before) < rates[0] and min(rates) == min(before)

    def _is_saved_at(self, step: int) -> bool:
        return step % self._plan.checkpoint_every == 0 or step == self._plan.train_steps

    def _fail(self) -> None:
        step = self.steps_done + 1
        if self._file and self._file.exists():
            self._load()
            raise ModelError(
                f"the loss of step {step} is not finite; the weights are those after step {self.steps_done}."
            )
        raise ModelError(f"the loss of step {step} is not finite; lower the learning rate.")

    def _save(self) -> None:
        import torch

        from safelight.storage.tensor_file import write_tensors
        from safelight.training import processes

        if not self._file or processes.rank() != 0:
            return
        tensors = {f"weights.{name}": master.detach() for name, master in self._masters.items()}
        for name, master in self._masters.items():
            state = self._optimizer.state[master]
            tensors |= {f"{key}.{name}": state[key] for key in ("exp_avg", "exp_avg_sq") if key in state}
        tensors |= {f"average.{name}": each for name, each in self._averages.items()}
        # Tied weights share their memory, and safetensors refuses to write shared tensors twice.
        tensors |= {f"buffers.{name}": each.detach().clone() for name, each in self._buffers.items()}
        tensors["steps"] = torch.tensor(self.steps_done)
        tensors["loss"] = torch.tensor(self.curve.loss, dtype=torch.float64)
        tensors["rates"] = torch.tensor(list(self.curve.rates.items()), dtype=torch.float64).reshape(-1, 2)
        write_tensors(tensors, self._file, {"about": self._about})

    def _load(self) -> None:
        import torch

        if not self._file or not self._file.exists():
            return
        tensors, about = read_checkpoint(self._file)
        names = {name.removeprefix("weights.") for name in tensors if name.startswith("weights.")}
        if about != self._about or names != self._masters.keys():
            raise ModelError(f"{self._file} is of another training; use another folder, or remove it.")
        self.steps_done = int(tensors["steps"])
        self.curve = Curve(
            tensors["loss"].tolist(), {int(step): rate for step, rate in tensors["rates"].tolist()}
        )
        with torch.no_grad():
            for name, master in self._masters.items():
                master.copy_(tensors[f"weights.{name}"])
                if f"exp_avg.{name}" in tensors:
                    self._optimizer.state[master] = _moments(master, name, tensors, self.steps_done)
            for name, average in self._averages.items():
                average.copy_(tensors[f"average.{name}"])
            for name, buffer in self._buffers.items():
                buffer.copy_(tensors[f"buffers.{name}"])
        self._put(self._masters)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a checkpoint, and its description of the training.

    Raises ``ModelError`` for a file that is not a checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = (file.metadata() or {}).get("about", "")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path} is not a checkpoint; remove it to begin again.") from error


def _moments(master: Tensor, name: str, tensors: Mapping[str, Tensor], steps: int) -> dict[str, Tensor]:
    """Return the optimizer state of AdamW.

    Its fused kernel needs moments in the memory format of the parameter, which may differ from that of the
    file.
    """
    import torch

    def placed(key: str) -> Tensor:
        return torch.empty_like(master).detach().copy_(tensors[f"{key}.{name}"])

    step = torch.full((), float(steps), device=master.device)
    return {"step": step, "exp_avg": placed("exp_avg"), "exp_avg_sq": placed("exp_avg_sq")}


def _master(parameter: nn.Parameter) -> Tensor:
    import torch

    if parameter.dtype == torch.float32:
        return parameter
    return parameter.detach().float().clone().requires_grad_()


def _adam(masters: list[Tensor], plan: TrainingPlan) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(
        masters, lr=plan.learning_rate, betas=plan.betas, weight_decay=plan.weight_decay, fused=True
    )
