"""Fine-tuning of a model's denoiser on images with captions, in full or with a low-rank change (LoRA)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safelight.alignment.delta.delta import Delta, part_sha256
from safelight.alignment.method.trained_method import (
    CHECKPOINTING_HELP,
    TrainedMethod,
    gradient_checkpointing,
)
from safelight.errors import ModelError, RequestError
from safelight.models.conditioning import ConditioningBatch
from safelight.models.denoiser import Arguments, Denoiser, denoiser_of
from safelight.models.patched_method import Method, patched_method
from safelight.safe_training.objective import Objective
from safelight.training.encoded import Data, Encoded, encode
from safelight.training.plan import TrainingPlan
from safelight.types import AlignmentResult, AlignmentRun

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True)
class SafeTraining(TrainedMethod):
    """Train a model further on cleaned images with captions, by the denoiser's own objective (``Objective``).

    Each image is cropped to a square of ``resolution`` pixels, by default the size that the model generates.
    A share of ``proportion_empty_prompts`` of the captions is replaced by the empty prompt, for
    classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598). ``batch_size`` is the number of images
    per batch and process. The result is the exponential moving average of the weights, with decay
    ``ema_decay``.

    Raises ``RequestError`` for invalid settings.
    """

    data: Data
    resolution: int = field(
        default=0,
        metadata={
            "help": "Width and height of the images, in pixels.",
            "shown": "what the model generates",
            "min": 8,
        },
    )
    batch_size: int = field(
        default=4, metadata={"help": "Number of images in a batch, for each process.", "min": 1}
    )
    proportion_empty_prompts: float = field(
        default=0.1,
        metadata={"help": "Fraction of captions replaced by the empty prompt, at least 0 and below 1."},
    )
    gradient_checkpointing: bool = field(default=False, metadata=CHECKPOINTING_HELP)
    concepts: Sequence[str] = field(default=(), kw_only=True)
    train_steps: int = field(default=1000, kw_only=True)
    learning_rate: float = field(default=1e-5, kw_only=True)
    ema_decay: float = field(
        default=0.9999,
        kw_only=True,
        metadata={
            "help": "Decay of the exponential moving average (EMA) of the weights, below 1; 0 turns it off."
        },
    )
    max_grad_norm: float = field(
        default=1.0,
        kw_only=True,
        metadata={"help": "Largest norm of the gradients, to which they are clipped; 0 turns clipping off."},
    )
    accelerator: Accelerator | None = field(default=None, kw_only=True)

    name: ClassVar[str] = "safe-training"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size < 1:
            raise RequestError(f"batch_size is {self.batch_size}; it must be at least 1.")
        if self.resolution < 0:
            raise RequestError(f"resolution is {self.resolution}; it must be at least 0.")
        if not 0 <= self.proportion_empty_prompts < 1:
            share = self.proportion_empty_prompts
            raise RequestError(f"proportion_empty_prompts is {share}; it must be from 0 to below 1.")

    def plan(self) -> TrainingPlan:
        return replace(super().plan(), ema_decay=self.ema_decay, max_grad_norm=self.max_grad_norm)

    def align(self, pipe: Any, run: AlignmentRun = AlignmentRun()) -> AlignmentResult[Delta]:
        """Train and return the delta, as ``TrainedMethod.align`` describes.

        ``run.folder`` is required, as it also caches the encoded images and captions. Raises ``RequestError``
        if there is no image with a caption, or if the folder has other data.
        """
        if run.folder is None:
            raise RequestError("training on data needs a folder for its cache and checkpoints; give one.")
        self.check_run(run)
        denoiser = denoiser_of(pipe)
        side = self.resolution or _side(pipe)
        template = _template(denoiser, side)
        encoded = self._encoded(denoiser, side, run.folder / "data")
        with gradient_checkpointing(denoiser.module) if self.gradient_checkpointing else nullcontext():
            adapter = self.adapter(denoiser.module, dict(denoiser.module.named_parameters()))
            loss = _Batches(self, denoiser, template, encoded).loss
            return self.train(pipe, {denoiser.component: adapter}, loss, run)

    def settings(self) -> Mapping[str, Any]:
        """Return the settings; the data are represented by their hash, and the accelerator is left out."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "accelerator"}
        return {**own, "data": self.data.about, "processes": self._processes}

    @property
    def is_first(self) -> bool:
        return self.accelerator is None or self.accelerator.is_main_process

    @property
    def _processes(self) -> int:
        return self.accelerator.num_processes if self.accelerator else 1

    def _encoded(self, denoiser: Denoiser, side: int, folder: Path) -> Encoded:
        """Return the encoded data, which the first process encodes for all processes."""
        vae = part_sha256(denoiser.pipe, "vae")

        def encoder(images: NDArray[np.uint8]) -> NDArray[np.float16]:
            import torch

            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
            latents: NDArray[np.float16] = denoiser.latents(pixels).half().cpu().numpy()
            return latents

        with self.accelerator.main_process_first() if self.accelerator else nullcontext():
            return encode(self.data, folder, side, encoder, vae)


class _Batches:
    """Batches of images; a batch depends only on the seed, the process and the step."""

    def __init__(
        self, training: SafeTraining, denoiser: Denoiser, template: Arguments, encoded: Encoded
    ) -> None:
        self._training = training
        self._denoiser = denoiser
        self._conditioning = ConditioningBatch(denoiser)
        self._objective = Objective(denoiser.pipe.scheduler)
        self._call = self._conditioning.concatenate([template] * training.batch_size)
        self._encoded = encoded
        self._device = next(denoiser.module.parameters()).device

    def loss(self, number: int) -> Tensor:
        import torch

        training, encoded = self._training, self._encoded
        random = torch.Generator().manual_seed(self._seed(number))
        rows = torch.randint(len(encoded), (training.batch_size,), generator=random).numpy()
        kept = torch.rand(training.batch_size, generator=random) >= training.proportion_empty_prompts
        captions = [encoded.captions[row] if keep else "" for row, keep in zip(rows, kept, strict=True)]
        original = torch.from_numpy(encoded.latents[rows]).to(self._device, torch.float32)
        asked = self._objective.question(original, random)
        with torch.no_grad():
            call = self._conditioning.with_texts(self._call, captions)
        places = (torch.from_numpy(each[rows]) for each in (encoded.sizes, encoded.corners))
        call = self._denoiser.with_size_and_crop(
            self._denoiser.with_sample(call, asked.sample, asked.timestep), *places
        )
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
    """Return the arguments of one denoiser call of the pipeline for an image ``side`` pixels wide.

    Raises ``ModelError`` for a width that the pipeline does not support.
    """
    calls: list[Arguments] = []

    def hooked(network: Method) -> Method:
        def ask(*args: Any, **kwargs: Any) -> Any:
            calls.append(denoiser.bind_arguments(args, kwargs))
            return network(*args, **kwargs)

        return ask

    import torch

    with patched_method(denoiser.module, denoiser.call_attribute, hooked), torch.no_grad():
        try:
            denoiser.pipe("", height=side, width=side, num_inference_steps=1, output_type="latent")
        except ValueError as error:
            raise ModelError(f"this model does not generate images of {side} pixels: {error}") from error
    return ConditioningBatch(denoiser).select_rows(calls[0], slice(-1, None))


def _side(pipe: Any) -> int:
    """Return the default width of the pipeline's images, in pixels."""
    size = getattr(pipe, "default_sample_size", None) or pipe.unet.config.sample_size
    return int(size) * int(pipe.vae_scale_factor)
