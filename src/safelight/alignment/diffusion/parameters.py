"""Selections of a denoiser's parameters to train: cross-attention, self-attention, or the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from safelight.errors import ModelError, RequestError, unknown_name

if TYPE_CHECKING:
    from torch import nn

Selection = Literal["esd-x", "esd-x-strict", "esd-u", "esd-self", "esd-all"]
SELECTIONS: tuple[Selection, ...] = get_args(Selection)

# The names of the text projections in transformers with joint attention over text and image.
_JOINT = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k")
_KEYS_AND_VALUES = ("to_k", "to_v", "add_k_proj", "add_v_proj")


def parameters(network: nn.Module, selection: str) -> dict[str, nn.Parameter]:
    """Return the parameters of a selection, by name.

    ``esd-x`` selects the cross-attention layers, ``esd-x-strict`` only their keys and values, ``esd-u``
    everything except cross-attention, ``esd-self`` the self-attention layers, and ``esd-all`` everything
    (Gandikota et al. 2023, arXiv:2303.07345, section 4.2). In a transformer with joint attention over text
    and image (Stable Diffusion 3, FLUX) the projections of the text count as cross-attention, and those of
    the image as self-attention.

    Raises ``RequestError`` for an unknown selection, and ``ModelError`` if the network has no such
    parameters.
    """
    if selection not in SELECTIONS:
        raise RequestError(unknown_name("selection of parameters", selection, SELECTIONS))
    every = dict(network.named_parameters())
    if selection == "esd-all":
        return every
    cross, itself = _of_attention(network)
    names = {
        "esd-x": cross,
        "esd-x-strict": {name for name in cross if name.split(".")[-2] in _KEYS_AND_VALUES},
        "esd-u": every.keys() - cross,
        "esd-self": itself,
    }[selection]
    if not cross or not names:
        raise ModelError(f"a {type(network).__name__} has no {_MISSING[selection]}; edit another model.")
    return {name: parameter for name, parameter in every.items() if name in names}


_MISSING = {
    "esd-x": "cross-attention",
    "esd-x-strict": "cross-attention",
    "esd-u": "cross-attention to leave out",
    "esd-self": "self-attention beside cross-attention",
}


def _of_attention(network: nn.Module) -> tuple[set[str], set[str]]:
    """Return the names of the parameters of cross-attention and those of self-attention."""
    from diffusers.models.attention_processor import Attention
    from diffusers.models.transformers.transformer_flux import FluxAttention

    cross: set[str] = set()
    itself: set[str] = set()
    for path, module in network.named_modules():
        if isinstance(module, Attention | FluxAttention):
            of_text = getattr(module, "is_cross_attention", False)
            for name, _ in module.named_parameters():
                joint = name.split(".")[0] in _JOINT
                (cross if of_text or joint else itself).add(f"{path}.{name}")
    return cross, itself
