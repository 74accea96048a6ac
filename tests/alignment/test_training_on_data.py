"""Models that are trained further on images with captions."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import draw, flux, sd, sd2, sd3, sdxl
from safelight.errors import ModelError, RequestError
from safelight.models.denoiser import denoiser_of
from safelight.models.noise_schedule import predicted_original
from safelight.models.patched_method import patched_method
from safelight.safe_training import Objective, SafeTraining
from safelight.training.encoded import Data, Example
from safelight.types import AlignmentRun

MAKERS = {"sd": sd, "sd2": sd2, "sdxl": sdxl, "sd3": sd3, "flux": flux}


def _png(colour: tuple[int, int, int], size: tuple[int, int] = (24, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def data() -> Data:
    examples = [Example(_png((220, 30, 30)), "a red wall"), Example(_png((20, 40, 230)), "a lake")]
    return Data(examples, "two")


def _made(name: str, pipe: Any) -> Any:
    torch.manual_seed(0)
    made = MAKERS[name](pipe)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_target_is_what_leads_back_to_the_image(kind: str) -> None:
    scheduler = diffusers.DDIMScheduler(prediction_type=kind, clip_sample=False)
    original = torch.linspace(-2, 2, 3 * 4 * 4).view(3, 1, 4, 4)
    asked = Objective(scheduler).question(original, torch.Generator().manual_seed(1))
    assert len(set(asked.timestep.tolist())) == 3, "each row has its own"
    for row in range(3):
        found = predicted_original(scheduler, asked.target[row], asked.timestep[row], asked.sample[row])
        assert torch.allclose(found, original[row], atol=1e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_flow_goes_straight_from_noise_to_the_image(shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    original = torch.full((4000, 1, 1, 1), 2.0)
    asked = Objective(scheduler).question(original, torch.Generator().manual_seed(1))
    t = (asked.timestep / 1000).view(-1, 1, 1, 1)
    assert torch.allclose(asked.sample - t * asked.target, original, atol=1e-5)
    # Half of all logits are below 0, and t = 1/2 becomes s / (1 + s).
    below = (t < shift / (1 + shift)).float().mean().item()
    assert below == pytest.approx(0.5, abs=0.03)


def test_an_unknown_scheduler_is_refused() -> None:
    with pytest.raises(ModelError, match="is not supported"):
        Objective(diffusers.ScoreSdeVeScheduler())


@pytest.mark.parametrize("name", MAKERS)
def test_every_family_is_asked_as_its_pipeline_asks(name: str, pipe: Any, data: Data, tmp_path: Path) -> None:
    """The calls of a training have the same arguments, shapes and types as those of a generation."""
    made = _made(name, pipe)
    denoiser = denoiser_of(made)
    calls: list[Mapping[str, Any]] = []

    def listening(network: Any) -> Any:
        def ask(*args: Any, **kwargs: Any) -> Any:
            calls.append(denoiser.bind_arguments(args, kwargs))
            return network(*args, **kwargs)

        return ask

    with patched_method(denoiser.module, denoiser.call_attribute, listening):
        SafeTraining(data, batch_size=2, train_steps=1, learning_rate=1e-3).align(
            made, AlignmentRun(tmp_path)
        )
        asked, trained = calls[0], calls[-1]
        assert trained.keys() == asked.keys()
    sample = denoiser.sample(trained)
    assert sample.shape == (2, *denoiser.sample(asked).shape[1:])
    assert trained["encoder_hidden_states"].shape[1:] == asked["encoder_hidden_states"].shape[1:]
    assert trained["timestep"].shape == (2,)
    assert trained["timestep"].min() >= 0
    assert trained["timestep"].max() <= (1 if name == "flux" else 1000)
    if name == "sdxl":
        told = trained["added_cond_kwargs"]["time_ids"][0].tolist()
        side = int(made.unet.config.sample_size) * int(made.vae_scale_factor)
        assert told == [16, 24, 0, 4 * side // 16, side, side]


def test_latents_are_those_that_the_decoder_turns_back(pipe: Any) -> None:
    """Decode latents as FLUX's pipeline does: unpack them, then undo the shift and scale."""
    made = _made("flux", pipe)
    images = torch.linspace(-1, 1, 3 * 16 * 16).view(1, 3, 16, 16)
    packed = denoiser_of(made).latents(images)
    factor = made.vae_scale_factor
    latents = made._unpack_latents(packed, 16 * factor, 16 * factor, factor)
    mode = made.vae.encode(images).latent_dist.mode()
    config = made.vae.config
    assert torch.allclose(latents / config.scaling_factor + config.shift_factor, mode, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_model_learns_and_is_left_as_it_was(rank: int, pipe: Any, data: Data, tmp_path: Path) -> None:
    made = _made("sd", pipe)
    before = copy.deepcopy(made.unet.state_dict())
    image = draw(made)
    training = SafeTraining(data, batch_size=8, train_steps=80, learning_rate=1e-2, ema_decay=0.9, rank=rank)
    result = training.align(made, AlignmentRun(tmp_path))
    delta = result.delta
    assert np.mean(result.loss[-20:]) < 0.9 * np.mean(result.loss[:20])
    assert all(torch.equal(now, before[name]) for name, now in made.unet.state_dict().items())
    assert delta.about.method == "safe-training"
    assert delta.about.settings["data"] == "two"
    assert "a red wall" not in str(delta.about)
    with delta.attach(made):
        assert not np.array_equal(draw(made), image)
    assert np.array_equal(draw(made), image)


def test_it_goes_on_where_it_was_stopped_and_reads_no_image_again(
    pipe: Any, data: Data, tmp_path: Path
) -> None:
    plan: dict[str, Any] = {
        "batch_size": 2,
        "train_steps": 6,
        "learning_rate": 1e-3,
        "ema_decay": 0.5,
        "checkpoint_every": 2,
    }
    whole = SafeTraining(data, **plan).align(_made("sd", pipe), AlignmentRun(tmp_path / "whole")).delta

    def stop(step: int, _: float) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(ModelError, match="stopped after 3 of 6 steps"):
        SafeTraining(data, **plan).align(_made("sd", pipe), AlignmentRun(tmp_path / "begun", progress=stop))
    gone = Data((), "two")
    resumed = SafeTraining(gone, **plan).align(_made("sd", pipe), AlignmentRun(tmp_path / "begun")).delta
    assert resumed.tensors.keys() == whole.tensors.keys()
    assert all(torch.equal(resumed.tensors[name], each) for name, each in whole.tensors.items())
    with pytest.raises(RequestError, match="has other data in it"):
        SafeTraining(Data((), "three"), **plan).align(_made("sd", pipe), AlignmentRun(tmp_path / "begun"))


def test_what_is_learnt_is_the_average(pipe: Any, data: Data, tmp_path: Path) -> None:
    """After two steps with decays (1 + n) / (10 + n), n = 0 and 1, of weights w0, w1, w2."""
    plan: dict[str, Any] = {"batch_size": 2, "learning_rate": 1e-3}

    def learnt(steps: int, average: float) -> Mapping[str, torch.Tensor]:
        folder = tmp_path / f"{steps}-{average}"
        training = SafeTraining(data, train_steps=steps, ema_decay=average, **plan)
        return training.align(_made("sd", pipe), AlignmentRun(folder)).delta.tensors

    one, two, averaged = learnt(1, 0), learnt(2, 0), learnt(2, 0.9999)
    first, second = 1 / 10, 2 / 11
    for name in averaged:
        expected = second * ((1 - first) * one[name]) + (1 - second) * two[name]
        assert torch.allclose(averaged[name], expected, atol=1e-6)


def test_a_long_gradient_is_cut(tmp_path: Path, pipe: Any, data: Data) -> None:
    plan: dict[str, Any] = {"batch_size": 2, "train_steps": 1, "learning_rate": 1e-3}
    kept: list[float] = []
    made = _made("sd", pipe)
    real = torch.nn.utils.clip_grad_norm_

    def noting(parameters: Any, most: float) -> Any:
        whole = real(parameters, most)
        kept.append(
            float(torch.stack([each.grad.norm() for each in parameters if each.grad is not None]).norm())
        )
        return whole

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", noting)
        SafeTraining(data, **plan, max_grad_norm=1e-3).align(made, AlignmentRun(tmp_path / "a"))
        SafeTraining(data, **plan, max_grad_norm=0.0).align(made, AlignmentRun(tmp_path / "b"))
    assert kept == [pytest.approx(1e-3, rel=1e-2)]


def test_bfloat16_is_for_the_network_alone(pipe: Any, data: Data, tmp_path: Path) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()
    try:
        half = Accelerator(cpu=True, mixed_precision="bf16")
        plan: dict[str, Any] = {"batch_size": 2, "train_steps": 2, "learning_rate": 1e-3, "ema_decay": 0.0}
        rough = SafeTraining(data, **plan, accelerator=half).align(
            _made("sd", pipe), AlignmentRun(tmp_path / "a")
        )
    finally:
        AcceleratorState._reset_state()
    expected = SafeTraining(data, **plan).align(_made("sd", pipe), AlignmentRun(tmp_path / "b"))
    assert rough.loss != expected.loss
    assert rough.loss == pytest.approx(expected.loss, rel=0.02)
    assert all(each.dtype == torch.float32 for each in rough.delta.tensors.values())


_TWO = """
import math, sys
from pathlib import Path
import torch
from accelerate import Accelerator
from safelight.errors import ModelError
from safelight.training.loop import TrainingLoop
from safelight.training.plan import TrainingPlan

accelerator, out = Accelerator(cpu=True), Path(sys.argv[1])
first = accelerator.is_main_process
w = torch.nn.Parameter(torch.tensor([4.0]))

def loop(steps, *checkpoint):
    return TrainingLoop({"w": w}, TrainingPlan(train_steps=steps, learning_rate=0.25), *checkpoint)

try:
    curve = loop(1, out / "checkpoint.safetensors").run(lambda _: (3 if first else -1) * w.sum())
    try:
        loop(2).run(lambda _: w.sum() * (1 if first else math.nan))
        failed = False
    except ModelError:
        failed = True
    (out / f"{accelerator.process_index}.txt").write_text(f"{w.item()} {curve.loss[0]} {failed}")
finally:
    accelerator.end_training()  # a process group that outlives the interpreter aborts the process
"""


def test_two_processes_take_one_step(tmp_path: Path) -> None:
    """Of gradients 3 and -1 the mean is 1, and Adam's first step is the rate; of losses 12 and -4 it is 4. A
    loss of one that is no number ends both."""
    script = tmp_path / "two.py"
    script.write_text(_TWO)
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run([*launched, script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"{i}.txt").read_text() for i in range(2)] == ["3.75 4.0 True"] * 2
    assert (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"proportion_empty_prompts": 1.0}, "proportion_empty_prompts is"),
        ({"ema_decay": 1.0}, "ema_decay is"),
        ({"max_grad_norm": -1.0}, "max_grad_norm is"),
        ({"resolution": 13}, "does not generate images of 13 pixels"),
    ],
)
def test_what_makes_no_sense_is_refused(
    wrong: dict[str, Any], said: str, pipe: Any, data: Data, tmp_path: Path
) -> None:
    with pytest.raises((RequestError, ModelError), match=said):
        SafeTraining(data, **wrong).align(_made("sd", pipe), AlignmentRun(tmp_path))
    with pytest.raises(RequestError, match="needs a folder"):
        SafeTraining(data).align(_made("sd", pipe))
