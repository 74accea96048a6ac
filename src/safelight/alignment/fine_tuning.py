"""Fine-tuning of parts of a pipeline: trained, written down as a delta, and put back as they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safelight.alignment.adapter import Adapter
from safelight.alignment.delta import Delta, Provenance, part_sha256
from safelight.alignment.tuning import Curve, Loss, Measure, Plan, Tell, Tuning
from safelight.models import name_of


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What ``method`` with its ``settings`` takes out, and the ``adapters`` of the parts that it trains."""

    pipe: Any
    adapters: Mapping[str, Adapter]
    method: str
    concepts: tuple[str, ...]
    settings: Mapping[str, Any]
    plan: Plan

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
            tuning = Tuning(self._parameters(), self.plan, folder, {**self.settings, "base": base})
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
