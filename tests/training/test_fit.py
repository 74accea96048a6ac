"""A network is trained from random weights, and a training that was stopped goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from safelight.concurrency import thread_count
from safelight.training import fit as fitting
from safelight.training import processes
from safelight.training.fit import fit, from_scratch, load_averaged


def line(seed: int = 0) -> tuple[nn.Linear, list[float]]:
    """A model of y = 2x - 1 and a place for what its losses were."""
    torch.manual_seed(seed)
    return nn.Linear(1, 1).to(processes.device()), []


def loss_of(model: nn.Linear) -> object:
    def loss(rng: np.random.Generator) -> Tensor:
        x = torch.from_numpy(rng.uniform(-1, 1, (32, 1)).astype(np.float32)).to(processes.device())
        return (model(x) - (2 * x - 1)).pow(2).mean()

    return loss


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_loop_fits_a_line(bfloat16: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "bfloat16_pays", lambda: bfloat16)
    model, _ = line()
    averaged = fit(
        model,
        loss_of(model),
        from_scratch(400, 0.05, ema_decay=0.9, lr_warmup_steps=10),
        tmp_path,
        "line",
        seed=1,
    )
    assert averaged.weight.item() == pytest.approx(2, abs=0.05)
    assert averaged.bias.item() == pytest.approx(-1, abs=0.05)
    assert averaged.weight.dtype == torch.float32


def test_what_a_short_training_gives_is_not_how_it_began(tmp_path: Path) -> None:
    model, _ = line()
    averaged = fit(
        model,
        loss_of(model),
        from_scratch(300, 0.05, ema_decay=0.999, lr_warmup_steps=10),
        tmp_path,
        "line",
        seed=1,
    )
    assert averaged.weight.item() == pytest.approx(2, abs=0.05)
    assert averaged.bias.item() == pytest.approx(-1, abs=0.05)


def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    plan = from_scratch(60, 0.05, ema_decay=0.9, lr_warmup_steps=10, checkpoint_every=20)
    whole, _ = line()
    fit(whole, loss_of(whole), plan, tmp_path / "whole", "line", seed=1)

    broken, _ = line()

    class KilledError(Exception):
        pass

    steps = 0

    def dies(rng: np.random.Generator) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 50:
            raise KilledError
        return loss_of(broken)(rng)

    with pytest.raises(KilledError):
        fit(broken, dies, plan, tmp_path / "broken", "line", seed=1)
    resumed, _ = line(seed=7)
    fit(resumed, loss_of(resumed), plan, tmp_path / "broken", "line", seed=1)
    assert resumed.weight.item() == pytest.approx(whole.weight.item(), abs=1e-6)
    restored = load_averaged(line(seed=9)[0], tmp_path / "broken" / "line.safetensors")
    assert restored.weight.item() != pytest.approx(line(seed=9)[0].weight.item(), abs=1e-3)


@pytest.mark.parametrize(("limit", "count"), [("", 8), ("3", 3)])
def test_a_process_for_each_core_that_may_be_used(
    limit: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_count.os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert processes.processes() == (1 if torch.cuda.is_available() else count)
