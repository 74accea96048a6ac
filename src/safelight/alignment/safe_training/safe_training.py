"""A model trained further on images with captions, all of its denoiser or a change of low rank."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safelight.alignment.delta.delta import Delta, part_sha256
from safelight.alignment.method.fine_tuning import FineTuning, TrainedMethod, checkpointing
from safelight.alignment.method.tuning import Curve, Measure, Plan, Tell
from safelight.alignment.safe_training.objective import Objective
from safelight.errors import ModelError, RequestError
from safelight.models.conditioning import ConditioningBatch
from safelight.models.denoiser import Arguments, Denoiser, denoiser_of
from safelight.models.patched_method import Method, patched_method
from safelight.training.encoded import Data, Encoded, encode

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class SafeTraining(TrainedMethod):
    """The denoiser's own objective (``Objective``) on ``data``, of which each image is cut to a square,
    ``resolution`` pixels wide, by default as wide as the model draws.

    Of ``unconditional`` of the captions nothing is told, for classifier-free guidance (Ho & Salimans 2022,
    arXiv:2207.12598). A ``batch`` is what one process sees at once. What is learnt is the moving
    ``average`` of the weights. With ``checkpointing`` less memory is kept, and more worked out.

    Raises ``RequestError`` for settings that make no sense.
    """

    data: Data
    resolution: int = 0
    batch: int = 4
    unconditional: float = 0.1
    checkpointing: bool = False
    steps: int = field(default=1000, kw_only=True)
    rate: float = field(default=1e-5, kw_only=True)
    average: float = field(default=0.9999, kw_only=True)
    clip: float = field(default=1.0, kw_only=True)
    accelerator: Accelerator | None = field(default=None, kw_only=True)

    concepts: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1 or self.resolution < 0:
            raise RequestError(f"a batch of {self.batch} at {self.resolution} pixels is none.")
        if not 0 <= self.unconditional < 1:
            raise RequestError(f"unconditional is {self.unconditional}; it must be from 0 to below 1.")

    def plan(self) -> Plan:
        return replace(super().plan(), average=self.average, clip=self.clip)

    def tune(
        self,
        pipe: Any,
        folder: Path | None = None,
        measure: Measure | None = None,
        tell: Tell | None = None,
    ) -> tuple[Delta, Curve]:
        """As ``TrainedMethod.tune``; ``folder`` keeps what images and captions became, too, and is needed.

        Raises ``RequestError`` if there is no image with a caption, or ``folder`` has other data.
        """
        if folder is None:
            raise RequestError("training on data needs a folder to work in; give one.")
        denoiser = denoiser_of(pipe)
        side = self.resolution or _side(pipe)
        template = _template(denoiser, side)
        encoded = self._encoded(denoiser, side, folder / "data")
        with checkpointing(denoiser.module) if self.checkpointing else nullcontext():
            adapter = self.adapter(denoiser.module, dict(denoiser.module.named_parameters()))
            work = FineTuning(
                pipe,
                {denoiser.component: adapter},
                "safe-training",
                (),
                self.settings(),
                self.plan(),
                self.accelerator,
            )
            loss = _Batches(self, denoiser, template, encoded).loss
            return work.run(loss, folder, measure, tell)

    def settings(self) -> Mapping[str, Any]:
        """Without the data themselves, and without what they are worked on with."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "accelerator"}
        return {**own, "data": self.data.about, "processes": self._processes}

    @property
    def is_first(self) -> bool:
        return self.accelerator is None or self.accelerator.is_main_process

    @property
    def _processes(self) -> int:
        return self.accelerator.num_processes if self.accelerator else 1

    def _encoded(self, denoiser: Denoiser, side: int, folder: Path) -> Encoded:
        """The first process makes what all read."""
        vae = part_sha256(denoiser.pipe, "vae")

        def encoder(images: NDArray[np.uint8]) -> NDArray[np.float16]:
            import torch

            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
            latents: NDArray[np.float16] = denoiser.latents(pixels).half().cpu().numpy()
            return latents

        with self.accelerator.main_process_first() if self.accelerator else nullcontext():
            return encode(self.data, folder, side, encoder, vae)


class _Batches:
    """Batches of images; which come in a step depends on the seed, the process and the step alone."""

    def __init__(
        self, training: SafeTraining, denoiser: Denoiser, template: Arguments, encoded: Encoded
    ) -> None:
        self._training = training
        self._denoiser = denoiser
        self._rows = ConditioningBatch(denoiser)
        self._objective = Objective(denoiser.pipe.scheduler)
        self._call = self._rows.joined([template] * training.batch)
        self._encoded = encoded
        self._device = next(denoiser.module.parameters()).device

    def loss(self, number: int) -> Tensor:
        import torch

        training, encoded = self._training, self._encoded
        random = torch.Generator().manual_seed(self._seed(number))
        rows = torch.randint(len(encoded), (training.batch,), generator=random).numpy()
        told = torch.rand(training.batch, generator=random) >= training.unconditional
        captions = [encoded.captions[row] if tell else "" for row, tell in zip(rows, told, strict=True)]
        original = torch.from_numpy(encoded.latents[rows]).to(self._device, torch.float32)
        asked = self._objective.question(original, random)
        with torch.no_grad():
            call = self._rows.with_texts(self._call, captions)
        places = (torch.from_numpy(each[rows]) for each in (encoded.sizes, encoded.corners))
        call = self._denoiser.placed(self._denoiser.about(call, asked.sample, asked.timestep), *places)
        with training.accelerator.autocast() if training.accelerator else nullcontext():
            raw = self._denoiser.module(**call)
        output = raw[0] if isinstance(raw, tuple) else raw.sample
        error: Tensor = (output.float() - asked.target).square().mean()
        return error

    def _seed(self, number: int) -> int:
        accelerator = self._training.accelerator
        process = accelerator.process_index if accelerator else 0
        return (self._training.seed * 1_000_003 + number) * 4096 + process


def _template(denoiser: Denoiser, side: int) -> Arguments:
    """One row of a call of the network about an image ``side`` pixels wide, as the pipeline makes it.

    Raises ``ModelError`` for a width that the pipeline does not draw.
    """
    calls: list[Arguments] = []

    def hooked(network: Method) -> Method:
        def ask(*args: Any, **kwargs: Any) -> Any:
            calls.append(denoiser.named(args, kwargs))
            return network(*args, **kwargs)

        return ask

    import torch

    with patched_method(denoiser.module, denoiser.entrance, hooked), torch.no_grad():
        try:
            denoiser.pipe("", height=side, width=side, num_inference_steps=1, output_type="latent")
        except ValueError as error:
            raise ModelError(f"images of {side} pixels are not for this model: {error}") from error
    return ConditioningBatch(denoiser).only(calls[0], slice(-1, None))


def _side(pipe: Any) -> int:
    """In pixels, of what the pipeline draws unless told otherwise."""
    size = getattr(pipe, "default_sample_size", None) or pipe.unet.config.sample_size
    return int(size) * int(pipe.vae_scale_factor)
