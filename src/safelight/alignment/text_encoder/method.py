"""The base class of methods that fine-tune text encoders."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from safelight.alignment.delta.adapter import Adapter
from safelight.alignment.delta.delta import Delta
from safelight.alignment.method.concept_names import check_apart, check_names, names_of
from safelight.alignment.method.trained_method import TrainedMethod
from safelight.alignment.text_encoder.batch import Batch, Read
from safelight.alignment.text_encoder.encoder import Reading, TextEncoder, text_encoders
from safelight.alignment.text_encoder.prompts import Prompts
from safelight.alignment.text_encoder.reference_cache import ReferenceCache
from safelight.errors import RequestError
from safelight.training.plan import LrScheduler
from safelight.types import AlignmentResult, AlignmentRun

if TYPE_CHECKING:
    from torch import Tensor

# The largest share of counterparts of unsafe prompts among the safe prompts of a batch.
_COUNTERPARTS = 1 / 3


@dataclass(frozen=True)
class TextEncoderMethod(TrainedMethod):
    """The base class of methods that train text encoders on ``prompts``.

    ``concepts`` are the names of the removed concepts in the delta. The last ``num_layers`` layers of each of
    ``encoders`` are trained; by default all layers of all text encoders. Prompts are truncated to
    ``max_tokens`` tokens, by default to the pipeline's maximum, most of which is padding; a change learned on
    the first tokens carries over to the others. A batch has ``unsafe_batch_size`` unsafe prompts,
    ``safe_batch_size`` safe prompts and the empty prompt, which classifier-free guidance depends on.
    ``unsafe_weight`` is the weight of the loss on unsafe prompts; the loss on safe prompts has weight 1.

    Raises ``RequestError`` for invalid settings.
    """

    concepts: Sequence[str] = field(
        metadata={
            "option": "--concept",
            "help": "Concept that the unsafe prompts ask for, with synonyms separated by commas; repeatable. "
            "The prompts decide what is removed; the concepts are what the card and the evaluation show.",
        }
    )
    prompts: Prompts
    encoders: Sequence[str] = field(
        default=(),
        metadata={
            "option": "--encoder",
            "help": "Text encoder of the pipeline to train: text_encoder, text_encoder_2 or text_encoder_3; "
            "repeatable.",
            "shown": "all",
        },
    )
    num_layers: int = field(
        default=0,
        metadata={"help": "Number of layers to train, counted from the last; 0 trains all.", "min": 0},
    )
    max_tokens: int = field(
        default=0,
        metadata={
            "help": "Number of tokens to which prompts are cut in training; 0 is as many as the "
            "pipeline reads.",
            "min": 0,
        },
    )
    unsafe_batch_size: int = field(
        default=24, metadata={"help": "Number of unsafe prompts in a batch.", "min": 1}
    )
    safe_batch_size: int = field(
        default=36, metadata={"help": "Number of safe prompts in a batch.", "min": 1}
    )
    unsafe_weight: float = field(
        default=1.0,
        metadata={
            "help": "Weight of the loss on unsafe prompts, above 0; the loss on safe ones has weight 1."
        },
    )
    train_steps: int = field(default=1000, kw_only=True)
    learning_rate: float = field(default=1e-3, kw_only=True)
    lr_scheduler: LrScheduler = field(default="cosine", kw_only=True)
    checkpoint_every: int = field(default=100, kw_only=True)

    needs_pairs: ClassVar[bool] = False
    examples: ClassVar[tuple[str, ...]] = (
        "--concept gun --output safer.safetensors",
        "--model ./stable-diffusion --concept nudity --pairs pairs.csv --output safer.safetensors",
    )
    reads_concepts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_apart(self.concepts, ())
        for name, least in (("unsafe_batch_size", 1), ("safe_batch_size", 1), ("max_tokens", 0)):
            if getattr(self, name) < least:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 < self.unsafe_weight < math.inf:
            raise RequestError(f"unsafe_weight is {self.unsafe_weight}; it must be a number above 0.")
        if self.needs_pairs and not self.prompts.pairs:
            raise RequestError(f"{self.name} needs pairs of an unsafe prompt and a safe one; give some.")

    @abstractmethod
    def loss(self, read: Read) -> Tensor:
        """Return the loss on one encoder's outputs for a batch."""

    def banked(self) -> Sequence[str]:
        """Return the safe prompts that are the same in every batch."""
        return ()

    def align(self, pipe: Any, run: AlignmentRun = AlignmentRun()) -> AlignmentResult[Delta]:
        """Train and return the delta, as ``TrainedMethod.align`` describes."""
        self.check_run(run)
        check_names(self.concepts, pipe)
        encoders = [each.shortened(self.max_tokens) for each in text_encoders(pipe, self.encoders)]
        adapters = {e.component: self.adapter(e.module, e.trained(self.num_layers)) for e in encoders}
        return self.train(pipe, adapters, self._batches(encoders, adapters).loss, run)

    def settings(self) -> Mapping[str, Any]:
        """Return the settings; the prompts are represented by their hash."""
        return {**asdict(self), "prompts": self.prompts.about()}

    def _batches(self, encoders: Sequence[TextEncoder], adapters: Mapping[str, Adapter]) -> Batches:
        return Batches(self, encoders, adapters)


class Batches:
    """Batches of prompts, encoded by the current encoders and by the encoders before training."""

    def __init__(
        self, method: TextEncoderMethod, encoders: Sequence[TextEncoder], adapters: Mapping[str, Adapter]
    ) -> None:
        self._method = method
        self._encoders = encoders
        count = method.train_steps * method.gradient_accumulation
        self._references = {
            each.component: ReferenceCache(
                each,
                adapters[each.component],
                lambda number: self.batch(number).texts,
                count,
                each.frozen_layers(method.num_layers),
            )
            for each in encoders
        }
        self._banks = {name: reference.of(method.banked()) for name, reference in self._references.items()}

    def loss(self, number: int) -> Tensor:
        """Return the mean loss over the encoders."""
        import torch

        batch = self.batch(number)
        return torch.stack([self._loss(encoder, number, batch) for encoder in self._encoders]).mean()

    def batch(self, number: int) -> Batch:
        import torch

        method, prompts = self._method, self._method.prompts
        random = torch.Generator().manual_seed(method.seed * 1_000_003 + number)

        def some(count: int, of: Sequence[Any]) -> list[Any]:
            return [of[i] for i in torch.randint(len(of), (count,), generator=random).tolist()]

        pairs = prompts.counterparts
        unsafe = some(method.unsafe_batch_size, tuple(pairs) if method.needs_pairs else prompts.harmful)
        counterparts = [pairs.get(each, "") for each in unsafe]
        known = [each for each in counterparts if each][: int(method.safe_batch_size * _COUNTERPARTS)]
        safe = (*known, *some(method.safe_batch_size - len(known), prompts.harmless), "")
        named = tuple(name for each in method.concepts for name in names_of(each))
        return Batch(tuple(unsafe), safe, named if method.reads_concepts else (), tuple(counterparts))

    def _loss(self, encoder: TextEncoder, number: int, batch: Batch) -> Tensor:
        was = self._was(encoder, number, batch)
        now = batch.parts(self._references[encoder.component].read_now(number, batch.trained))
        every = [*now[:3], *was, self._banks[encoder.component]]
        return self._method.loss(Read(encoder.constant, *every))

    def _was(self, encoder: TextEncoder, number: int, batch: Batch) -> list[Reading]:
        return batch.parts(self._references[encoder.component].read(number, batch.texts))
