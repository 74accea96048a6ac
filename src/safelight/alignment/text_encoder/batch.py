"""The prompts of one batch, and what an encoder reads in them."""

from __future__ import annotations

from dataclasses import dataclass

from safelight.alignment.text_encoder.encoder import Reading


@dataclass(frozen=True, slots=True)
class Read:
    """What an encoder reads in the prompts of a batch, now and before training (``…_was``, ``…_were``).

    The last safe prompt is the empty one. ``counterparts`` are the safe counterparts of the unsafe prompts,
    in the same order, the empty prompt where there is none. ``concepts`` are the names of what is removed,
    and the ``bank`` are safe prompts that are the same in every batch; both are empty for methods without
    them. ``constant`` is the number of token states that are the same for all texts.
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
    """The prompts of one batch, which depend on the seed and the number of the batch alone."""

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
        """Return all prompts, as the frozen encoder reads them."""
        return [*self.trained, *self.counterparts]

    def parts(self, reading: Reading) -> list[Reading]:
        """Split a reading of these texts into unsafe, safe, concepts and counterparts."""
        parts, done = [], 0
        for texts in (self.unsafe, self.safe, self.concepts, self.counterparts):
            parts.append(reading.rows(slice(done, done + len(texts))))
            done += len(texts)
        return parts
