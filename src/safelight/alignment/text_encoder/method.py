"""What all ways of fine-tuning a text encoder have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safelight.alignment.delta.adapter import Adapter
from safelight.alignment.delta.delta import Delta
from safelight.alignment.method.concept_names import check_names, names_of
from safelight.alignment.method.fine_tuning import FineTuning, TrainedMethod
from safelight.alignment.method.tuning import Curve, Measure, Tell
from safelight.alignment.text_encoder.batch import Batch, Read
from safelight.alignment.text_encoder.encoder import Reading, TextEncoder, text_encoders
from safelight.alignment.text_encoder.prompts import Prompts
from safelight.alignment.text_encoder.reference_cache import ReferenceCache
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

# Of the safe prompts of a batch as many may be counterparts of the unsafe ones in it.
_TWINS = 1 / 3


@dataclass(frozen=True)
class TextEncoderMethod(TrainedMethod):
    """``concepts`` are named in the delta and drawn as a proof; ``prompts`` are trained on.

    Of the pipeline's ``encoders``, by default all, the last ``layers`` are trained, by default all. Of texts
    ``tokens`` are read, by default as many as the pipeline reads: most of these fill texts up, and what is
    trained on the first of them holds for the others. A batch is of ``unsafe`` and of ``safe`` prompts, and
    of the empty one, on which classifier-free guidance lives; ``weight`` is how much unsafe ones count beside
    safe ones.

    Raises ``RequestError`` for settings that make no sense.
    """

    concepts: Sequence[str]
    prompts: Prompts
    encoders: Sequence[str] = ()
    layers: int = 0
    tokens: int = 0
    unsafe: int = 24
    safe: int = 36
    weight: float = 1.0
    steps: int = field(default=1000, kw_only=True)
    rate: float = field(default=1e-3, kw_only=True)
    falling: bool = field(default=True, kw_only=True)
    checkpoint_every: int = field(default=100, kw_only=True)

    name: ClassVar[str]
    in_pairs: ClassVar[bool] = False
    reads_concepts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not [name for name in self.concepts if name.strip()]:
            raise RequestError("there is no concept to take out; name one.")
        for name, least in (("unsafe", 1), ("safe", 1), ("tokens", 0)):
            if getattr(self, name) < least:
                raise RequestError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        if not 0 < self.weight < math.inf:
            raise RequestError(f"weight is {self.weight}; it must be a number above 0.")
        if self.in_pairs and not self.prompts.pairs:
            raise RequestError(f"{self.name} needs pairs of an unsafe prompt and a safe one; give some.")

    @abstractmethod
    def loss(self, read: Read) -> Tensor:
        """Of what one encoder reads."""

    def banked(self) -> Sequence[str]:
        """The safe prompts that are the same in every batch."""
        return ()

    def tune(
        self,
        pipe: Any,
        folder: Path | None = None,
        measure: Measure | None = None,
        tell: Tell | None = None,
    ) -> tuple[Delta, Curve]:
        check_names(self.concepts, pipe)
        encoders = [each.shortened(self.tokens) for each in text_encoders(pipe, self.encoders)]
        adapters = {each.component: self.adapter(each.module, each.trained(self.layers)) for each in encoders}
        work = FineTuning(pipe, adapters, self.name, tuple(self.concepts), self.settings(), self.plan())
        return work.run(self._batches(encoders, adapters).loss, folder, measure, tell)

    def settings(self) -> Mapping[str, Any]:
        """Without the prompts themselves."""
        return {**asdict(self), "prompts": self.prompts.about()}

    def _batches(self, encoders: Sequence[TextEncoder], adapters: Mapping[str, Adapter]) -> Batches:
        return Batches(self, encoders, adapters)


class Batches:
    """Reads batches with the encoders as they are and as they were."""

    def __init__(
        self, method: TextEncoderMethod, encoders: Sequence[TextEncoder], adapters: Mapping[str, Adapter]
    ) -> None:
        self._method = method
        self._encoders = encoders
        count = method.steps * method.accumulate
        self._before = {
            each.component: ReferenceCache(
                each,
                adapters[each.component],
                lambda number: self.batch(number).texts,
                count,
                each.halfway(method.layers),
            )
            for each in encoders
        }
        self._banks = {name: before.of(method.banked()) for name, before in self._before.items()}

    def loss(self, number: int) -> Tensor:
        """The mean over the encoders."""
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
        unsafe = some(method.unsafe, tuple(pairs) if method.in_pairs else prompts.harmful)
        twins = [pairs.get(each, "") for each in unsafe]
        known = [twin for twin in twins if twin][: int(method.safe * _TWINS)]
        safe = (*known, *some(method.safe - len(known), prompts.harmless), "")
        named = tuple(name for each in method.concepts for name in names_of(each))
        return Batch(tuple(unsafe), safe, named if method.reads_concepts else (), tuple(twins))

    def _loss(self, encoder: TextEncoder, number: int, batch: Batch) -> Tensor:
        was = self._was(encoder, number, batch)
        now = batch.parts(self._before[encoder.component].read_now(number, batch.trained))
        every = [*now[:3], *was, self._banks[encoder.component]]
        return self._method.loss(Read(encoder.constant, *every))

    def _was(self, encoder: TextEncoder, number: int, batch: Batch) -> list[Reading]:
        return batch.parts(self._before[encoder.component].read(number, batch.texts))
