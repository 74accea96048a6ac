"""Fine-tuning of parts of a pipeline: trained, written down as a delta, and put back as they were."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safelight.alignment.delta.adapter import Adapter, LowRank, Whole
from safelight.alignment.delta.delta import Delta, Provenance, part_sha256
from safelight.alignment.method.tuning import Curve, Loss, Measure, Plan, Tell, Tuning
from safelight.errors import ModelError, RequestError
from safelight.models.pipelines import name_of

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class TrainedMethod(ABC):
    """``steps`` to ``patience`` are those of ``Plan``. With a ``lora_rank`` what is trained is a change of
    that rank beside the matrices, and nothing is copied; else the weights themselves.

    Raises ``RequestError`` for settings that make no sense.
    """

    steps: int = 200
    rate: float = 1e-4
    falling: bool = False
    accumulate: int = 1
    checkpoint_every: int = 50
    measured_every: int = 0
    patience: int = 2
    lora_rank: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise RequestError(f"lora_rank is {self.lora_rank}; give at least 1, or 0 for whole weights.")

    @property
    def is_first(self) -> bool:
        """Of several processes that tune together, the one that says and writes what came of it."""
        return True

    @abstractmethod
    def tune(
        self,
        pipe: Any,
        folder: Path | None = None,
        measure: Measure | None = None,
        tell: Tell | None = None,
    ) -> tuple[Delta, Curve]:
        """The delta that was learnt, and how; ``pipe`` is afterwards what it was.

        Checkpoints are kept in ``folder``, from which a tuning that was stopped goes on. ``measure`` says how
        much of the concepts is left. Raises ``RequestError`` for a concept that the model cannot read,
        ``ModelError`` as ``FineTuning``.
        """

    def edit(self, pipe: Any) -> Delta:
        """The delta that was learnt; as ``tune``."""
        return self.tune(pipe)[0]

    def plan(self) -> Plan:
        return Plan(
            self.steps,
            self.rate,
            self.accumulate,
            self.checkpoint_every,
            self.measured_every,
            self.patience,
            self.falling,
        )

    def adapter(self, module: nn.Module, chosen: Mapping[str, nn.Parameter]) -> Adapter:
        if self.lora_rank:
            return LowRank(module, chosen, self.lora_rank, self.seed)
        return Whole(module, chosen)


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What ``method`` with its ``settings`` takes out, and the ``adapters`` of the parts that it trains."""

    pipe: Any
    adapters: Mapping[str, Adapter]
    method: str
    concepts: tuple[str, ...]
    settings: Mapping[str, Any]
    plan: Plan
    accelerator: Accelerator | None = None

    def run(
        self,
        loss: Loss,
        folder: Path | None = None,
        measure: Measure | None = None,
        tell: Tell | None = None,
    ) -> tuple[Delta, Curve]:
        """The delta that was learnt, and how; the pipeline is afterwards bit for bit what it was.

        Raises ``ModelError`` as ``Tuning`` and ``Delta.of``.
        """
        try:
            base = {part: part_sha256(self.pipe, part) for part in self.adapters}
            about = Provenance(self.method, self.concepts, name_of(self.pipe), base, self.settings)
            tuning = Tuning(
                self._parameters(), self.plan, folder, {**self.settings, "base": base}, self.accelerator
            )
            curve = tuning.run(loss, measure, tell)
            done = {**self.settings, "steps_done": tuning.done, "rates": curve.rates}
            return Delta.of(self._differences(), replace(about, settings=done)), curve
        finally:
            for adapter in self.adapters.values():
                adapter.remove()

    def _parameters(self) -> dict[str, Any]:
        return {
            f"{part}.{name}": each
            for part, adapter in self.adapters.items()
            for name, each in adapter.parameters.items()
        }

    def _differences(self) -> dict[str, Any]:
        return {
            f"{part}.{name}": each
            for part, adapter in self.adapters.items()
            for name, each in adapter.differences().items()
        }


@contextmanager
def checkpointing(network: Any) -> Iterator[None]:
    """Raises ``ModelError`` for a network that cannot."""
    if not getattr(network, "_supports_gradient_checkpointing", False):
        raise ModelError(f"a {type(network).__name__} keeps all it works out; leave checkpointing off.")
    before = network.is_gradient_checkpointing
    network.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if not before:
            network.disable_gradient_checkpointing()
