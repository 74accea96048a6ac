"""The prompts of one batch, and an encoder's outputs for them."""

from __future__ import annotations

from dataclasses import dataclass

from safelight.alignment.text_encoder.encoder import Reading


@dataclass(frozen=True, slots=True)
class Read:
    """An encoder's outputs for the prompts of a batch, now and before training (``…_was``, ``…_were``).

    The last safe prompt is the empty one. ``counterparts`` are those of the safe counterparts of the unsafe
    prompts, in the same order, or of the empty prompt where there is none. ``concepts`` are those of the
    names of the removed concepts, and ``bank`` those of safe prompts that are the same in every batch; both
    are empty for methods that do not use them. ``constant`` is the number of token embeddings that are the
    same for all texts.
    """

    constant: int
    unsafe: Reading
    safe: Reading
    concepts: Reading
    unsafe_was: Reading
    safe_was: Reading
    concepts_were: Reading
    counterparts_were: Reading
    bank_was: Reading


@dataclass(frozen=True, slots=True)
class Batch:
    """The prompts of one batch, which depend only on the seed and the number of the batch."""

    unsafe: tuple[str, ...]
    safe: tuple[str, ...]
    concepts: tuple[str, ...]
    counterparts: tuple[str, ...]

    @property
    def trained(self) -> list[str]:
        """Return the prompts that the trained encoder reads."""
        return [*self.unsafe, *self.safe, *self.concepts]

    @property
    def texts(self) -> list[str]:
        """Return all prompts, which the frozen encoder reads."""
        return [*self.trained, *self.counterparts]

    def parts(self, reading: Reading) -> list[Reading]:
        """Split a reading of these texts into unsafe, safe, concepts and counterparts."""
        parts, done = [], 0
        for texts in (self.unsafe, self.safe, self.concepts, self.counterparts):
            parts.append(reading.rows(slice(done, done + len(texts))))
            done += len(texts)
        return parts
