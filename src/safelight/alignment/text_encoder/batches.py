"""Batches of prompts, and what encoders read in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safelight.alignment.adapter import Adapter
from safelight.alignment.names import names_of
from safelight.alignment.text_encoder.before import Before
from safelight.alignment.text_encoder.encoder import Reading, TextEncoder

if TYPE_CHECKING:
    from torch import Tensor

    from safelight.alignment.text_encoder.method import TextEncoderMethod

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
        count = method.steps * method.accumulate
        self._before = {
            each.component: Before(
                each, adapters[each.component], self._all_texts, count, each.halfway(method.layers)
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

    def _all_texts(self, number: int) -> list[str]:
        batch = self.batch(number)
        return [*batch.trained, *batch.twins]

    def _loss(self, encoder: TextEncoder, number: int, batch: Batch) -> Tensor:
        was = self._was(encoder, number, batch)
        now = batch.parts(self._before[encoder.component].read_now(number, batch.trained))
        every = [*now[:3], *was, self._banks[encoder.component]]
        return self._method.loss(Read(encoder.constant, *every))

    def _was(self, encoder: TextEncoder, number: int, batch: Batch) -> list[Reading]:
        return batch.parts(self._before[encoder.component].batch(number))
