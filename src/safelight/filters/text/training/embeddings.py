"""Embeddings of texts by an encoder before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from safelight.filters.text.training.network import PromptNetwork
from safelight.filters.text.training.tokens import PromptTokenizer, pad
from safelight.training.processes import bfloat16_pays, device

_BATCH_SIZE = 64


@torch.inference_mode()
def embeddings(encoder: Path, prompts: Sequence[str]) -> NDArray[np.float32]:
    """Return the mean embedding (N, width) of each prompt by the pretrained encoder."""
    reader = PromptTokenizer(encoder)
    network = PromptNetwork.from_pretrained(encoder).eval().to(device())
    ids = [reader.ids(prompt) for prompt in prompts]
    # In batches of texts of similar length.
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    embedded = torch.empty(len(ids), network.head.in_features)
    with torch.autocast(device().type, torch.bfloat16, enabled=bfloat16_pays()):
        for start in range(0, len(order), _BATCH_SIZE):
            rows = order[start : start + _BATCH_SIZE]
            batch = (part.to(device()) for part in pad([ids[row] for row in rows]))
            embedded[rows] = network.embed(*batch).cpu()
    array: NDArray[np.float32] = embedded.numpy()
    return array
