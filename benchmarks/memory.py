"""Memory that ESD needs for a network of Stable Diffusion 1.5's shape, with and without low rank.

Counted are all tensors that are alive after a step, when what was worked out on the way is gone: parameters,
gradients, the optimiser's state, and the frozen copy, or what takes its place.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from safelight import load_pipeline
from safelight.alignment.diffusion import ESD
from safelight.alignment.diffusion.parameters import Selection, parameters
from safelight.errors import ModelError
from safelight.types import AlignmentRun

_RANK, _LATENT = 8, 8
_SELECTIONS: tuple[Selection, ...] = ("esd-x", "esd-all")
_GIB = 2**30


def measure() -> tuple[dict[str, Any], dict[str, float | None]]:
    """GiB of each way to train, and what low rank needs beside whole weights with a frozen copy of all."""
    pipe = _pipeline()
    network = sum(parameter.nbytes for parameter in pipe.unet.parameters())
    figures: dict[str, float | None] = {"the network: GiB": network / _GIB}
    for selection in _SELECTIONS:
        trained = sum(each.nbytes for each in parameters(pipe.unet, selection).values())
        low = _alive(pipe, selection, _RANK)
        # Gradients and two moments of what is trained, and the whole network twice, as in the plain loop.
        plain = 2 * network + 3 * trained
        figures[f"{selection}, rank {_RANK}: GiB"] = low / _GIB
        figures[f"{selection}, whole weights: GiB"] = _alive(pipe, selection, 0) / _GIB
        figures[f"{selection}, whole weights and a frozen copy of the network: GiB"] = plain / _GIB
        figures[f"{selection}: low rank / whole weights and a frozen copy"] = low / plain
    return {"shape": "Stable Diffusion 1.5", "dtype": "float32", "rank": _RANK}, figures


class _EnoughError(Exception):
    """The first step is done."""


def _alive(pipe: Any, selection: Selection, rank: int) -> int:
    """Bytes of all tensors after the first step, without those of the pipeline's other parts."""
    found: list[int] = []

    def count(step: int, steps: int) -> None:
        found.append(_bytes() - others)
        raise _EnoughError

    others = _bytes() - sum(parameter.nbytes for parameter in pipe.unet.parameters())
    esd = ESD(
        ["a gun"], selection, train_steps=1, batch_size=1, trajectories=1, num_inference_steps=2, rank=rank
    )
    try:
        esd.align(pipe, AlignmentRun(progress=count))
    except _EnoughError:
        return found[0]
    raise ModelError("the training ended before its first step.")


def _bytes() -> int:
    """Of every tensor there is, those that share memory counted once."""
    gc.collect()
    storages: dict[int, int] = {}
    for each in gc.get_objects():
        if isinstance(each, torch.Tensor):
            storage = each.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            if each.grad is not None:
                gradient = each.grad.untyped_storage()
                storages[gradient.data_ptr()] = gradient.nbytes()
    return sum(storages.values())


def _pipeline() -> Any:
    """Random weights; images are small, for they do not count."""
    storybook = load_pipeline("storybook")
    config = CLIPTextConfig(
        vocab_size=len(storybook.tokenizer),
        hidden_size=768,
        intermediate_size=768,
        num_hidden_layers=1,
        num_attention_heads=12,
        max_position_embeddings=storybook.tokenizer.model_max_length,
    )
    parts = {
        **storybook.components,
        "unet": UNet2DConditionModel(sample_size=_LATENT, cross_attention_dim=768, attention_head_dim=8),
        "vae": AutoencoderTiny(),
        "text_encoder": CLIPTextModel(config),
    }
    pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe
