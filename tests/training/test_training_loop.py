"""The loop that fine-tunes."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from safelight.errors import ModelError, RequestError
from safelight.training.loop import TrainingLoop
from safelight.training.plan import TrainingPlan

START = 4.0


def parameter(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    return {"w": nn.Parameter(torch.full((2,), START, dtype=dtype))}


def noisy(chosen: dict[str, nn.Parameter]) -> Callable[[int], Tensor]:
    """A parabola whose middle depends on the step."""
    return lambda step: (chosen["w"] - torch.sin(torch.tensor(float(step)))).square().sum()


def test_the_first_step_of_adam_is_the_rate_towards_less_loss() -> None:
    """Kingma & Ba (2015): whatever the gradient, the first step is as long as the rate."""
    chosen = parameter()
    curve = TrainingLoop(chosen, TrainingPlan(train_steps=1, learning_rate=0.25)).run(
        lambda _: chosen["w"].sum() * 3
    )
    assert chosen["w"].tolist() == pytest.approx([START - 0.25] * 2, abs=1e-6)
    assert curve.loss == [2 * START * 3]


def test_a_falling_rate_follows_half_a_cosine() -> None:
    """Of four steps: 1, cos² 22.5°, 1/2 and cos² 67.5° of it; of a constant slope each step is as long."""
    chosen = parameter()
    TrainingLoop(chosen, TrainingPlan(train_steps=4, learning_rate=0.1, lr_scheduler="cosine")).run(
        lambda _: chosen["w"].sum()
    )
    shares = [1, 0.853553, 0.5, 0.146447]
    assert chosen["w"].tolist() == pytest.approx([START - 0.1 * sum(shares)] * 2, abs=1e-5)


def test_batches_of_a_step_count_as_one() -> None:
    one, two = parameter(), parameter()
    TrainingLoop(one, TrainingPlan(train_steps=3, learning_rate=0.1)).run(
        lambda step: (one["w"] * (2 * step + 0.5)).square().mean()
    )
    batches: list[int] = []

    def loss(number: int) -> Tensor:
        batches.append(number)
        step, part = divmod(number, 2)
        exact = (two["w"] * (2 * step + 0.5)).square().mean()
        return exact * (1.5 if part else 0.5)

    TrainingLoop(two, TrainingPlan(train_steps=3, learning_rate=0.1, gradient_accumulation=2)).run(loss)
    assert batches == [0, 1, 2, 3, 4, 5]
    assert torch.allclose(one["w"], two["w"])


def test_steps_too_small_for_half_precision_are_not_lost() -> None:
    """2⁻¹² is less than half of what separates 4 from its neighbours in half precision."""
    chosen = parameter(torch.float16)
    TrainingLoop(chosen, TrainingPlan(train_steps=16, learning_rate=2.0**-12)).run(
        lambda _: chosen["w"].float().sum()
    )
    assert chosen["w"].dtype == torch.float16
    assert chosen["w"].tolist() == pytest.approx([START - 16 * 2.0**-12] * 2, abs=1e-3)
    assert chosen["w"][0] < START


def test_resumed_is_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    plan = TrainingPlan(train_steps=10, learning_rate=0.1, checkpoint_every=3, eval_every=2)
    whole = parameter()
    expected = TrainingLoop(whole, plan).run(noisy(whole), lambda step: 1 / (step + 1))

    def stop(step: int, _: float) -> None:
        if step == 7:
            raise KeyboardInterrupt

    begun = parameter()
    with pytest.raises(ModelError, match=r"stopped after 7 of 10 steps; it can resume from .*checkpoint"):
        TrainingLoop(begun, plan, tmp_path / "checkpoint.safetensors").run(
            noisy(begun), lambda step: 1 / (step + 1), stop
        )
    again = parameter()
    loop = TrainingLoop(again, plan, tmp_path / "checkpoint.safetensors")
    assert loop.steps_done == 7
    assert loop.run(noisy(again), lambda step: 1 / (step + 1)) == expected
    assert torch.equal(again["w"], whole["w"])
    done = parameter()
    assert TrainingLoop(done, plan, tmp_path / "checkpoint.safetensors").run(noisy(done)) == expected
    assert torch.equal(done["w"], whole["w"])


def test_a_loss_that_is_no_number_loses_nothing(tmp_path: Path) -> None:
    chosen, plan = parameter(), TrainingPlan(train_steps=10, learning_rate=0.1, checkpoint_every=2)
    kept: list[Tensor] = []

    def loss(step: int) -> Tensor:
        if step == 4:
            kept.append(chosen["w"].detach().clone())
        return chosen["w"].sum() * (float("nan") if step == 5 else 1.0)

    with pytest.raises(ModelError, match="loss of step 6 is not finite; the weights are those after step 4"):
        TrainingLoop(chosen, plan, tmp_path / "checkpoint.safetensors").run(loss)
    assert torch.equal(chosen["w"], kept[0])
    with pytest.raises(ModelError, match="lower the learning rate"):
        TrainingLoop(parameter(), plan).run(lambda _: torch.tensor(float("inf")))


@pytest.mark.parametrize(
    ("rates", "steps"),
    [
        ([0.9, 0.5, 0.0, 0.0], 2),
        ([0.9, 0.5, 0.5, 0.6, 0.1], 3),
        ([0.9, 0.8, 0.7, 0.6, 0.5], 4),
        ([0.9, 0.9, 1.0, 0.9, 0.9], 4),
    ],
)
def test_it_ends_where_the_rate_falls_no_more(rates: list[float], steps: int) -> None:
    chosen = parameter()
    loop = TrainingLoop(chosen, TrainingPlan(train_steps=4, learning_rate=0.1, eval_every=1))
    curve = loop.run(noisy(chosen), lambda step: rates[step])
    assert loop.steps_done == steps
    assert list(curve.rates.values()) == rates[: steps + 1]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    for wrong in (
        {"train_steps": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"gradient_accumulation": 0},
        {"checkpoint_every": 0},
    ):
        with pytest.raises(RequestError, match="must be"):
            TrainingPlan(**{"train_steps": 1, "learning_rate": 0.1, **wrong})  # type: ignore[arg-type]
    chosen = parameter()
    TrainingLoop(
        chosen, TrainingPlan(train_steps=1, learning_rate=0.1), tmp_path / "checkpoint.safetensors"
    ).run(noisy(chosen))
    with pytest.raises(ModelError, match="is of another training"):
        TrainingLoop(
            chosen, TrainingPlan(train_steps=2, learning_rate=0.1), tmp_path / "checkpoint.safetensors"
        )
    with pytest.raises(ModelError, match="is of another training"):
        TrainingLoop(
            chosen,
            TrainingPlan(train_steps=1, learning_rate=0.1),
            tmp_path / "checkpoint.safetensors",
            {"concept": "a cat"},
        )
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no checkpoint")
    with pytest.raises(ModelError, match="is not a checkpoint"):
        TrainingLoop(
            chosen, TrainingPlan(train_steps=1, learning_rate=0.1), tmp_path / "checkpoint.safetensors"
        )


def test_a_disk_that_is_full_ends_it_at_the_last_checkpoint(tmp_path: Path) -> None:
    """No file may grow beyond 100 bytes any more, as if nothing more fitted on the disk."""
    chosen, plan = parameter(), TrainingPlan(train_steps=6, learning_rate=0.1, checkpoint_every=2)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(step: int, _: float) -> None:
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))

    kept = parameter()
    TrainingLoop(kept, TrainingPlan(train_steps=2, learning_rate=0.1)).run(noisy(kept))
    try:
        with pytest.raises(ModelError, match=r"checkpoint.safetensors cannot be written: .* nothing was"):
            TrainingLoop(chosen, plan, tmp_path / "checkpoint.safetensors").run(noisy(chosen), progress=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    loop = TrainingLoop(parameter(), plan, tmp_path / "checkpoint.safetensors")
    assert loop.steps_done == 2
    assert torch.equal(loop._parameters["w"], kept["w"])
