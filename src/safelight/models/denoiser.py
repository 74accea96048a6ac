"""Denoisers: a common interface to the denoising networks of all families of diffusers pipelines.

Alignment methods work with predictions for texts. How a family calls its network, and which further
conditioning it passes, is implemented only here.
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
class TokenPositions:
    """The positions of one text encoder's tokens in the prompt embeddings.

    ``where`` excludes CLIP's first token, which is the same for all texts; ``first`` is the position of the
    encoder's first token.
    """

    where: slice
    tokenizer: Any
    first: int = 0

    def last(self, text: str) -> int:
        """Return the position of the last token of ``text`` before the end-of-text token."""
        ids = self.tokenizer([text], truncation=True).input_ids[0]
        return self.first + max(0, len(ids) - 2)


class Denoiser:
    """The network of ``pipe`` that predicts the noise (or the velocity, or the image).

    ``component`` is its name in the pipeline; ``batched`` are the names of its arguments that have one row
    per sample.
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
    def call_attribute(self) -> str:
        """The attribute that runs when the network is called; it differs if it was compiled in place."""
        compiled = getattr(self.module, "_compiled_call_impl", None)
        return "forward" if compiled is None else "_compiled_call_impl"

    def bind_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """Return the arguments of a call of the network by name."""
        original = original_of(self.module)
        signature = inspect.signature(type(original).forward)
        named = dict(signature.bind(original, *args, **kwargs).arguments)
        del named[next(iter(signature.parameters))]
        return {**named, **named.pop("kwargs", {})}

    def sample(self, call: Mapping[str, Any]) -> Tensor:
        """Return the noisy sample of a call, (rows, …)."""
        raise NotImplementedError

    def timestep(self, call: Mapping[str, Any]) -> Tensor:
        """Return the timestep of a call in the scheduler's units, a scalar."""
        return call["timestep"].flatten()[0]  # type: ignore[no-any-return]

    def with_sample(self, call: Arguments, sample: Tensor, timestep: Tensor) -> Arguments:
        """Return the call with another ``sample``, (rows, …), at the scheduler's timesteps (rows,)."""
        raise NotImplementedError

    def with_size_and_crop(self, call: Arguments, sizes: Tensor, corners: Tensor) -> Arguments:
        """Return the call conditioned on the original sizes and crop corners of training images.

        ``sizes`` are height and width of the original images and ``corners`` top and left of the crops, both
        (rows, 2). Most networks have no such conditioning.
        """
        return call

    def latents(self, images: Tensor) -> Tensor:
        """Return the latents of images (rows, 3, H, W) in [-1, 1], as samples of the network."""
        import torch

        vae = self.pipe.vae
        # Some autoencoders overflow in half precision.
        before = vae.dtype
        with torch.no_grad():
            encoded = vae.float().encode(images.to(vae.device, torch.float32))
        vae.to(before)
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        shifted: Tensor = latents - (vae.config.get("shift_factor") or 0.0)
        scaled: Tensor = shifted * vae.config.scaling_factor
        return scaled

    def encode(self, texts: Sequence[str], length: int | None = None) -> Arguments:
        """Return the arguments of the network that encode the texts, one row each.

        ``length`` is the number of tokens, for families where it can be chosen.
        """
        raise NotImplementedError

    def encode_like(self, texts: Sequence[str], call: Mapping[str, Any]) -> Arguments:
        """Return the arguments that encode the texts, with the length, device and dtype as in ``call``."""
        return _cast_like(call, self.encode(texts, call["encoder_hidden_states"].shape[1]))

    def token_positions(self, length: int) -> Sequence[TokenPositions]:
        """Return the positions of each text encoder's tokens in prompt embeddings of ``length`` tokens."""
        raise NotImplementedError

    @property
    def _device(self) -> Any:
        """The device on which texts are encoded, even if parts of the pipeline are offloaded."""
        return getattr(self.pipe, "_execution_device", self.module.device)

    @property
    def uses_cfg_batch(self) -> bool:
        """Whether calls use classifier-free guidance: the unconditional rows first, then those of prompts."""
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

    def with_sample(self, call: Arguments, sample: Tensor, timestep: Tensor) -> Arguments:
        return {**call, "sample": sample.to(call["sample"]), "timestep": timestep}

    def encode(self, texts: Sequence[str], length: int | None = None) -> Arguments:
        states, _ = self.pipe.encode_prompt(list(texts), self._device, 1, False, **self._encoder_options())
        return {"encoder_hidden_states": self._padded(states, length)}

    def token_positions(self, length: int) -> Sequence[TokenPositions]:
        part = self.pipe.tokenizer.model_max_length
        return [
            TokenPositions(slice(start + 1, start + part), self.pipe.tokenizer)
            for start in range(0, length, part)
        ]

    def _encoder_options(self) -> Arguments:
        scale = (getattr(self.pipe, "cross_attention_kwargs", None) or {}).get("scale")
        return {"lora_scale": scale, "clip_skip": getattr(self.pipe, "clip_skip", None)}

    def _padded(self, states: Tensor, length: int | None) -> Tensor:
        """Return states padded with empty chunks to ``length`` tokens, as libraries for long prompts do."""
        import torch

        own_length = states.shape[1]
        if length in (None, own_length):
            return states
        if length % own_length:
            raise ModelError(f"prompt embeddings of {length} tokens cannot be guided; pass prompts as text.")
        empty, *_ = self.pipe.encode_prompt([""], states.device, 1, False, **self._encoder_options())
        return torch.cat([states, empty.repeat(len(states), length // own_length - 1, 1)], 1)


class XLUNet(UNet):
    """Stable Diffusion XL: two text encoders, a pooled embedding, and size and crop conditioning."""

    def encode(self, texts: Sequence[str], length: int | None = None) -> Arguments:
        states, _, pooled, _ = self.pipe.encode_prompt(
            list(texts), device=self._device, do_classifier_free_guidance=False, **self._encoder_options()
        )
        added = {"text_embeds": pooled}
        return {"encoder_hidden_states": self._padded(states, length), "added_cond_kwargs": added}

    def with_size_and_crop(self, call: Arguments, sizes: Tensor, corners: Tensor) -> Arguments:
        """Return the call with size and crop conditioning; the target size stays the same.

        Podell et al. (2023, arXiv:2307.01952), section 2.2.
        """
        import torch

        added = call["added_cond_kwargs"]
        if (ids := added["time_ids"]).shape[1] != 6:  # the refiner's have an aesthetic score
            return call
        time_ids = torch.cat([sizes.to(ids), corners.to(ids), ids[:, 4:]], 1)
        return {**call, "added_cond_kwargs": {**added, "time_ids": time_ids}}


class _Transformer(Denoiser):
    component = "transformer"
    batched = frozenset(
        {"hidden_states", "timestep", "encoder_hidden_states", "pooled_projections", "guidance"}
        | {"block_controlnet_hidden_states", "controlnet_block_samples", "controlnet_single_block_samples"}
        | {"joint_attention_kwargs"}
    )

    def sample(self, call: Mapping[str, Any]) -> Tensor:
        return call["hidden_states"]  # type: ignore[no-any-return]

    def with_sample(self, call: Arguments, sample: Tensor, timestep: Tensor) -> Arguments:
        sample = sample.to(call["hidden_states"])
        return {**call, "hidden_states": sample, "timestep": timestep.to(call["timestep"])}

    def _encoder_options(self) -> Arguments:
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
            **self._encoder_options(),
        )
        return {"encoder_hidden_states": encoded, "pooled_projections": pooled}

    def token_positions(self, length: int) -> Sequence[TokenPositions]:
        clip = self.pipe.tokenizer_max_length
        first = TokenPositions(slice(1, clip), self.pipe.tokenizer)
        if (tokenizer := self.pipe.tokenizer_3) is None:  # then the states of T5 are all 0
            return [first]
        return [first, TokenPositions(slice(clip, length), tokenizer, clip)]


class FluxTransformer(_Transformer):
    """FLUX: timesteps are divided by 1000, and guidance is distilled or uses two calls."""

    def token_positions(self, length: int) -> Sequence[TokenPositions]:
        return [TokenPositions(slice(0, length), self.pipe.tokenizer_2)]

    @property
    def uses_cfg_batch(self) -> bool:
        return False

    def timestep(self, call: Mapping[str, Any]) -> Tensor:
        timesteps: Tensor = self.pipe.scheduler.timesteps
        timestep = 1000 * call["timestep"].flatten()[0].float()
        return timesteps[(timesteps.to(timestep) - timestep).abs().argmin()]

    def with_sample(self, call: Arguments, sample: Tensor, timestep: Tensor) -> Arguments:
        return super().with_sample(call, sample, timestep / 1000)

    def latents(self, images: Tensor) -> Tensor:
        """Return latents packed in 2 × 2 patches, (rows, H W / 4, 4 C)."""
        latents = super().latents(images)
        packed: Tensor = self.pipe._pack_latents(latents, *latents.shape)
        return packed

    def encode(self, texts: Sequence[str], length: int | None = None) -> Arguments:
        tokens = {} if length is None else {"max_sequence_length": length}
        encoded, pooled, _ = self.pipe.encode_prompt(
            list(texts), None, device=self._device, **tokens, **self._encoder_options()
        )
        return {"encoder_hidden_states": encoded, "pooled_projections": pooled}


_FAMILIES: Mapping[str, type[Denoiser]] = {
    "SD3Transformer2DModel": SD3Transformer,
    "FluxTransformer2DModel": FluxTransformer,
}


def _cast_like(call: Mapping[str, Any], encoded: Mapping[str, Any]) -> Arguments:
    """Return ``encoded`` with the device and dtype of the arguments of ``call``."""
    return {
        name: _cast_like(call[name], value) if isinstance(value, Mapping) else value.to(call[name])
        for name, value in encoded.items()
    }


def denoiser_of(pipe: Any) -> Denoiser:
    """Return the denoiser of ``pipe``. Raises ``ModelError`` for an unsupported family of pipelines."""
    if not hasattr(pipe, "encode_prompt") or not hasattr(pipe, "scheduler"):
        raise ModelError(f"a {type(pipe).__name__} has no text conditioning to guide; use another pipeline.")
    if (unet := getattr(pipe, "unet", None)) is not None:
        return XLUNet(pipe) if unet.config.get("addition_embed_type") == "text_time" else UNet(pipe)
    transformer = getattr(pipe, "transformer", None)
    kind = type(original_of(transformer)).__name__
    if kind not in _FAMILIES:
        known = "Stable Diffusion 1, 2, XL and 3 and FLUX"
        raise ModelError(f"{known} can be guided; a {type(pipe).__name__} cannot.")
    return _FAMILIES[kind](pipe)
