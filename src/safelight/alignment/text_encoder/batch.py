"""Prompts of one batch, and what an encoder reads in them."""

from __future__ import annotations

from dataclasses import dataclass

from safelight.alignment.text_encoder.encoder import Reading


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

    @property
    def texts(self) -> list[str]:
        """All that is read."""
        return [*self.trained, *self.twins]

    def parts(self, reading: Reading) -> list[Reading]:
        """Of the unsafe ones, the safe ones, the concepts and the twins."""
        parts, done = [], 0
        for texts in (self.unsafe, self.safe, self.concepts, self.twins):
            parts.append(reading.rows(slice(done, done + len(texts))))
            done += len(texts)
        return parts
