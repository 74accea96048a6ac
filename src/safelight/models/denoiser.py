"""Denoisers: how each family of diffusers pipelines asks its network what noise a sample has.

An alignment method speaks of predictions for texts; how a family calls its network, and what else it tells
it, is known here alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safelight.errors import ModelError
from safelight.models.network_view import original_of

if TYPE_CHECKING:
    from torch import Tensor, nn

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Words:
    """Where one text encoder's tokens stand in the states of a text, and which of them ends a text.

    The first token of CLIP is the same for all texts, and no word.
    """

    where: slice
    tokenizer: Any
    first: int = 0

    def last(self, text: str) -> int:
        """The place of its last token."""
        ids = self.tokenizer([text], truncation=True).input_ids[0]
        return self.first + max(0, len(ids) - 2)  # the end of a text is a token too


class Denoiser:
    """The network of ``pipe`` that predicts noise (or velocity, or the image).

    ``batched`` are the names of its arguments that have one row for each sample.
    """

    component: str
    batched: frozenset[str]

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    @property
    def module(self) -> nn.Module:
        module: nn.Module = getattr(self.pipe, self.component)
        return module

    @property
    def entrance(self) -> str:
        """Through what the network is called: one that was compiled in place has another entrance."""
        compiled = getattr(self.module, "_compiled_call_impl", None)
        return "forward" if compiled is None else "_compiled_call_impl"

    def named(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """The arguments of a call of the network by name."""
        original = original_of(self.module)
        signature = inspect.signature(type(original).forward)
        named = dict(signature.bind(original, *args, **kwargs).arguments)
        del named[next(iter(signature.parameters))]
        return {**named, **named.pop("kwargs", {})}

    def sample(self, call: Mapping[str, Any]) -> Tensor:
        """What the network is asked about, (rows, …)."""
        raise NotImplementedError

    def timestep(self, call: Mapping[str, Any]) -> Tensor:
        """A scalar, as the scheduler counts."""
        return call["timestep"].flatten()[0]  # type: ignore[no-any-return]

    def about(self, call: Arguments, sample: Tensor, timestep: Tensor) -> Arguments:
        """The call about another ``sample``, (rows, …), at timesteps as the scheduler counts, (rows,)."""
        raise NotImplementedError

    def placed(self, call: Arguments, sizes: Tensor, corners: Tensor) -> Arguments:
        """The call about images of which this is a part: height and width of the wholes, (rows, 2), and top
        and left of the parts, (rows, 2). Most networks are told nothing of it."""
        return call

    def latents(self, images: Tensor) -> Tensor:
        """What the network is asked about, without noise, of images (rows, 3, H, W) in [-1, 1]."""
        import torch

        vae = self.pipe.vae
        # Some overflow in half precision.
        before = vae.dtype
        with torch.no_grad():
            encoded = vae.float().encode(images.to(vae.device, torch.float32))
        vae.to(before)
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        shifted: Tensor = latents - (vae.config.get("shift_factor") or 0.0)
        scaled: Tensor = shifted * vae.config.scaling_factor
        return scaled

    def encode(self, texts: Sequence[str], length: int | None = None) -> Arguments:
        """The arguments that say the texts, one row each; ``length`` tokens long, where that is to choose."""
        raise NotImplementedError

    def texts(self, texts: Sequence[str], call: Mapping[str, Any]) -> Arguments:
        """The arguments that say the texts, one row each, of the same length as those of ``call``."""
        return _in_place_of(call, self.encode(texts, call["encoder_hidden_states"].shape[1]))

    def words(self, length: int) -> Sequence[Words]:
        """Of states that are ``length`` tokens long."""
        raise NotImplementedError

    @property
    def _device(self) -> Any:
        """Where texts are encoded, even while parts of the pipeline are kept elsewhere."""
        return getattr(self.pipe, "_execution_device", self.module.device)

    @property
    def guides_itself(self) -> bool:
        """Whether a call has the rows of no text first, then those of the prompts."""
        return bool(getattr(self.pipe, "do_classifier_free_guidance", False))


class UNet(Denoiser):
    """Stable Diffusion 1 and 2."""

    component = "unet"
    batched = frozenset(
        {
            "sample", "timestep", "encoder_hidden_states", "class_labels", "timestep_cond", "attention_mask",
            "added_cond_kwargs", "down_block_additional_residuals", "mid_block_additional_residual",
            "down_intrablock_additional_residuals", "encoder_attention_mask",
        }
    )  # fmt: skip

    def sample(self, call: Mapping[str, Any]) -> Tensor:
        return call["sample"]  # type: ignore[no-any-return]

    def about(self, call: Arguments, sample: Tensor, timestep: Tensor) -> Arguments:
        return {**call, "sample": sample.to(call["sample"]), "timestep": timestep}

    def encode(self, texts: Sequence[str], length: int | None = None) -> Arguments:
        states, _ = self.pipe.encode_prompt(list(texts), self._device, 1, False, **self._how())
        return {"encoder_hidden_states": self._as_long(states, length)}

    def words(self, length: int) -> Sequence[Words]:
        part = self.pipe.tokenizer.model_max_length
        return [
            Words(slice(start + 1, start + part), self.pipe.tokenizer) for start in range(0, length, part)
        ]

    def _how(self) -> Arguments:
        scale = (getattr(self.pipe, "cross_attention_kwargs", None) or {}).get("scale")
        return {"lora_scale": scale, "clip_skip": getattr(self.pipe, "clip_skip", None)}

    def _as_long(self, states: Tensor, length: int | None) -> Tensor:
        """Prompts of several parts are followed by empty parts, as who weighs prompts fills them up."""
        import torch

        mine = states.shape[1]
        if length in (None, mine):
            return states
        if length % mine:
            raise ModelError(f"embeddings of {length} tokens cannot be guided; give texts.")
        empty, *_ = self.pipe.encode_prompt([""], states.device, 1, False, **self._how())
        return torch.cat([states, empty.repeat(len(states), length // mine - 1, 1)], 1)


class XLUNet(UNet):
    """Stable Diffusion XL: two text encoders, a pooled text, and the size of the image."""

    def encode(self, texts: Sequence[str], length: int | None = None) -> Arguments:
        states, _, pooled, _ = self.pipe.encode_prompt(
            list(texts), device=self._device, do_classifier_free_guidance=False, **self._how()
        )
        added = {"text_embeds": pooled}
        return {"encoder_hidden_states": self._as_long(states, length), "added_cond_kwargs": added}

    def placed(self, call: Arguments, sizes: Tensor, corners: Tensor) -> Arguments:
        """Podell et al. (2023, arXiv:2307.01952), section 2.2; the size that is drawn stays."""
        import torch

        added = call["added_cond_kwargs"]
        if (ids := added["time_ids"]).shape[1] != 6:  # the refiner's have a score of beauty
            return call
        told = torch.cat([sizes.to(ids), corners.to(ids), ids[:, 4:]], 1)
        return {**call, "added_cond_kwargs": {**added, "time_ids": told}}


class _Transformer(Denoiser):
    component = "transformer"
    batched = frozenset(
        {"hidden_states", "timestep", "encoder_hidden_states", "pooled_projections", "guidance"}
        | {"block_controlnet_hidden_states", "controlnet_block_samples", "controlnet_single_block_samples"}
        | {"joint_attention_kwargs"}
    )

    def sample(self, call: Mapping[str, Any]) -> Tensor:
        return call["hidden_states"]  # type: ignore[no-any-return]

    def about(self, call: Arguments, sample: Tensor, timestep: Tensor) -> Arguments:
        sample = sample.to(call["hidden_states"])
        return {**call, "hidden_states": sample, "timestep": timestep.to(call["timestep"])}

    def _how(self) -> Arguments:
        return {"lora_scale": (getattr(self.pipe, "joint_attention_kwargs", None) or {}).get("scale")}


class SD3Transformer(_Transformer):
    """Stable Diffusion 3 and 3.5."""

    def encode(self, texts: Sequence[str], length: int | None = None) -> Arguments:
        tokens = {} if length is None else {"max_sequence_length": length - self.pipe.tokenizer_max_length}
        encoded, _, pooled, _ = self.pipe.encode_prompt(
            list(texts),
            None,
            None,
            device=self._device,
            do_classifier_free_guidance=False,
            clip_skip=getattr(self.pipe, "clip_skip", None),
            **tokens,
            **self._how(),
        )
        return {"encoder_hidden_states": encoded, "pooled_projections": pooled}

    def words(self, length: int) -> Sequence[Words]:
        clip = self.pipe.tokenizer_max_length
        first = Words(slice(1, clip), self.pipe.tokenizer)
        if (tokenizer := self.pipe.tokenizer_3) is None:  # and so its states are all 0
            return [first]
        return [first, Words(slice(clip, length), tokenizer, clip)]


class FluxTransformer(_Transformer):
    """FLUX: time as a share of a thousand, and guidance distilled or in two calls."""

    def words(self, length: int) -> Sequence[Words]:
        return [Words(slice(0, length), self.pipe.tokenizer_2)]

    @property
    def guides_itself(self) -> bool:
        return False

    def timestep(self, call: Mapping[str, Any]) -> Tensor:
        timesteps: Tensor = self.pipe.scheduler.timesteps
        asked = 1000 * call["timestep"].flatten()[0].float()
        return timesteps[(timesteps.to(asked) - asked).abs().argmin()]

    def about(self, call: Arguments, sample: Tensor, timestep: Tensor) -> Arguments:
        return super().about(call, sample, timestep / 1000)

    def latents(self, images: Tensor) -> Tensor:
        """Four neighbours as one, (rows, H W / 4, 4 C)."""
        latents = super().latents(images)
        packed: Tensor = self.pipe._pack_latents(latents, *latents.shape)
        return packed

    def encode(self, texts: Sequence[str], length: int | None = None) -> Arguments:
        tokens = {} if length is None else {"max_sequence_length": length}
        encoded, pooled, _ = self.pipe.encode_prompt(
            list(texts), None, device=self._device, **tokens, **self._how()
        )
        return {"encoder_hidden_states": encoded, "pooled_projections": pooled}


_FAMILIES: Mapping[str, type[Denoiser]] = {
    "SD3Transformer2DModel": SD3Transformer,
    "FluxTransformer2DModel": FluxTransformer,
}


def _in_place_of(call: Mapping[str, Any], encoded: Mapping[str, Any]) -> Arguments:
    """Where and as precise as what ``call`` has."""
    return {
        name: _in_place_of(call[name], value) if isinstance(value, Mapping) else value.to(call[name])
        for name, value in encoded.items()
    }


def denoiser_of(pipe: Any) -> Denoiser:
    """The one of ``pipe``. Raises ``ModelError`` for a pipeline of a family that is not known here."""
    if not hasattr(pipe, "encode_prompt") or not hasattr(pipe, "scheduler"):
        raise ModelError(
            f"a {type(pipe).__name__} reads no texts that could be guided; use another pipeline."
        )
    if (unet := getattr(pipe, "unet", None)) is not None:
        return XLUNet(pipe) if unet.config.get("addition_embed_type") == "text_time" else UNet(pipe)
    transformer = getattr(pipe, "transformer", None)
    kind = type(original_of(transformer)).__name__
    if kind not in _FAMILIES:
        known = "Stable Diffusion 1, 2, XL and 3 and FLUX"
        raise ModelError(f"{known} can be guided; a {type(pipe).__name__} cannot.")
    return _FAMILIES[kind](pipe)
