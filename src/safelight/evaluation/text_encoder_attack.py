"""A pipeline under a white-box attack on its text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from safelight.alignment.delta.delta import Delta
from safelight.alignment.text_encoder.adversarial import worst_prefix
from safelight.alignment.text_encoder.encoder import TextEncoder
from safelight.evaluation.system import BareSystem
from safelight.protocols import Pipeline
from safelight.types import Answer


class AttackedSystem(BareSystem):
    """A pipeline under a white-box attack that prepends an adversarial prefix to each prompt.

    The prefix has ``length`` embeddings, optimized in ``steps`` steps to bring the prompt's embeddings
    closest to those of the ``frozen`` encoder. The pipeline must use token embeddings only, as Stable
    Diffusion 1 and 2 do.
    """

    def __init__(
        self, pipe: Pipeline, frozen: TextEncoder, length: int = 2, steps: int = 10, **arguments: Any
    ) -> None:
        super().__init__(pipe, None, **arguments)
        self.name += " under attack"
        self.settings = {**self.settings, "attack": {"length": length, "steps": steps}}
        self._frozen = frozen
        self._encoder = TextEncoder(pipe, frozen.component)
        self._length = length
        self._steps = steps

    def _answer(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        import torch

        with torch.no_grad():
            wanted = self._frozen.read(prompts)
        prefix = worst_prefix(self._encoder, prompts, wanted, self._length, self._steps, seed=seeds[0])
        with torch.no_grad():
            states = self._encoder.read(prompts, prefix).states
            nothing = self._encoder.read([""] * len(prompts)).states
        return self._draw(seeds, prompt_embeds=states, negative_prompt_embeds=nothing)


@contextmanager
def attacked(pipe: Pipeline, delta: Delta, frozen: TextEncoder, **arguments: Any) -> Iterator[AttackedSystem]:
    """Yield the pipeline under attack, with a delta applied to its weights."""
    with delta.attach(pipe):
        yield AttackedSystem(pipe, frozen, **arguments)
