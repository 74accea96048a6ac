"""The settings of a training loop: steps, learning rate, optimizer, evaluation and checkpoints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from safelight.errors import RequestError, unknown_name

LrScheduler = Literal["constant", "cosine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """The settings of a training loop.

    A step takes ``gradient_accumulation`` batches. The learning rate rises linearly over
    ``lr_warmup_steps`` steps; with the scheduler "cosine" it then falls along half a cosine to
    ``min_lr_rate`` times its peak. The optimizer is AdamW with ``betas`` and ``weight_decay``. Gradients with
    a norm above ``max_grad_norm`` are scaled down to it; 0 leaves them as they are. With an ``ema_decay``
    above 0 the result is the exponential moving average of the weights.

    With ``eval_every`` above 0, the training is evaluated every ``eval_every`` steps. It ends early once the
    evaluated rate is 0, or once the rate, after falling at first, has not fallen over the last ``patience``
    evaluations. A checkpoint is saved every ``checkpoint_every`` steps.

    Raises ``RequestError`` for invalid values.
    """

    train_steps: int
    learning_rate: float
    lr_scheduler: LrScheduler = "constant"
    lr_warmup_steps: int = 0
    min_lr_rate: float = 0.0
    gradient_accumulation: int = 1
    checkpoint_every: int = 50
    eval_every: int = 0
    patience: int = 2
    ema_decay: float = 0.0
    max_grad_norm: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        for name in ("train_steps", "gradient_accumulation", "checkpoint_every", "patience"):
            if getattr(self, name) < 1:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("lr_warmup_steps", "eval_every"):
            if getattr(self, name) < 0:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be at least 0.")
        if not 0 < self.learning_rate < math.inf:
            raise RequestError(f"learning_rate is {self.learning_rate}; it must be a number above 0.")
        if self.lr_scheduler not in get_args(LrScheduler):
            raise RequestError(unknown_name("lr_scheduler", self.lr_scheduler, get_args(LrScheduler)))
        if not 0 <= self.ema_decay < 1:
            raise RequestError(f"ema_decay is {self.ema_decay}; it must be at least 0 and below 1.")
        if not 0 <= self.max_grad_norm < math.inf:
            raise RequestError(f"max_grad_norm is {self.max_grad_norm}; it must be at least 0.")

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        rate = self.learning_rate
        if self.lr_warmup_steps:
            rate *= min(1.0, (step + 1) / self.lr_warmup_steps)
        if self.lr_scheduler == "cosine":
            cosine = (1 + math.cos(math.pi * step / self.train_steps)) / 2
            rate *= self.min_lr_rate + (1 - self.min_lr_rate) * cosine
        return rate

    def ema_decay_at(self, step: int) -> float:
        """Return the decay of the moving average after ``step`` steps.

        It is below ``ema_decay`` at first, so that the initial weights lose their influence soon, even in a
        short training.
        """
        return min(self.ema_decay, (1 + step) / (10 + step))
