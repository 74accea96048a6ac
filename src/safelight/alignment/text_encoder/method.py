"""What all ways of fine-tuning a text encoder have in common."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safelight.alignment.adapter import Adapter
from safelight.alignment.delta import Delta
from safelight.alignment.fine_tuning import FineTuning, TrainedMethod
from safelight.alignment.names import check_names, names_of
from safelight.alignment.text_encoder.encoder import Reading, TextEncoder, text_encoders
from safelight.alignment.text_encoder.prompts import Prompts
from safelight.alignment.tuning import Curve, Measure, Tell
from safelight.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

# For so many steps at once the frozen encoder reads what they need: whole weights are exchanged for it.
_BLOCK = 8
# Of the safe prompts of a batch as many may be counterparts of the unsafe ones in it.
_TWINS = 1 / 3


@dataclass(frozen=True, slots=True)
class Read:
    """How an encoder reads the prompts of a batch, as it is and as it ``was``.

    Safe prompts end with the empty one. ``twins`` are what is safe in place of the unsafe ones, in the same
    order, no text where nothing is known. ``concepts`` are the names of what is taken out, and the ``bank``
    safe prompts that are the same in every batch; each empty for a method that needs none.
    """

    constant: int
    unsafe: Reading
    safe: Reading
    concepts: Reading
    unsafe_was: Reading
    safe_was: Reading
    concepts_were: Reading
    twins_were: Reading
    bank_was: Reading


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


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts of one batch, which depend on the seed and its number alone."""

    unsafe: tuple[str, ...]
    safe: tuple[str, ...]
    concepts: tuple[str, ...]
    twins: tuple[str, ...]

    @property
    def trained(self) -> list[str]:
        """What is read by the encoder that is trained."""
        return [*self.unsafe, *self.safe, *self.concepts]

    def parts(self, reading: Reading) -> list[Reading]:
        """Of the unsafe ones, the safe ones, the concepts and the twins."""
        parts, done = [], 0
        for texts in (self.unsafe, self.safe, self.concepts, self.twins):
            parts.append(reading.rows(slice(done, done + len(texts))))
            done += len(texts)
        return parts


class Batches:
    """Reads batches with the encoders as they are and as they were."""

    def __init__(
        self, method: TextEncoderMethod, encoders: Sequence[TextEncoder], adapters: Mapping[str, Adapter]
    ) -> None:
        self._method = method
        self._encoders = encoders
        self._adapters = adapters
        self._were: dict[int, list[Reading]] = {}
        self._banks = {each.component: self._bank(each) for each in encoders}

    def loss(self, number: int) -> Tensor:
        """The mean over the encoders."""
        import torch

        batch, were = self.batch(number), self._read_before(number)
        losses = [
            self._loss(encoder, number, batch, was) for encoder, was in zip(self._encoders, were, strict=True)
        ]
        return torch.stack(losses).mean()

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

    def _was(self, encoder: TextEncoder) -> Any:
        """A context in which it is what it was."""
        return self._adapters[encoder.component].off()

    def _loss(self, encoder: TextEncoder, number: int, batch: Batch, were: Reading) -> Tensor:
        now, was = batch.parts(encoder.read(batch.trained)), batch.parts(were)
        every = [*now[:3], *was, self._banks[encoder.component]]
        return self._method.loss(Read(encoder.constant, *every))

    def _bank(self, encoder: TextEncoder) -> Reading:
        import torch

        if not (texts := self._method.banked()):
            return Reading(None, None)
        with self._was(encoder), torch.no_grad():
            return encoder.read(texts)

    def _read_before(self, number: int) -> list[Reading]:
        import torch

        if number not in self._were:
            ahead = range(number, number + (1 if self._method.lora_rank else _BLOCK))
            self._were = {each: [] for each in ahead}
            for encoder in self._encoders:
                with self._was(encoder), torch.no_grad():
                    for each in ahead:
                        batch = self.batch(each)
                        self._were[each].append(_read_once(encoder, [*batch.trained, *batch.twins]))
        return self._were.pop(number)


def _read_once(encoder: TextEncoder, texts: Sequence[str]) -> Reading:
    """Each of ``texts``; those that are there twice are read once."""
    import torch

    number = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    return encoder.read(list(number)).rows(torch.tensor([number[text] for text in texts]))
