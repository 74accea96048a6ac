"""Tiny pipelines of every family, with random weights; ``pipe`` is the Stable Diffusion of the fixtures."""

from __future__ import annotations

import copy
from typing import Any

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray


def tiny_clip(tokenizer: Any, projection: bool = False) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, projection_dim=8,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def _vae(**options: Any) -> Any:
    return diffusers.AutoencoderKL(block_out_channels=[8], norm_num_groups=4, **options)


def sd(pipe: Any) -> Any:
    parts = {**pipe.components, "unet": copy.deepcopy(pipe.unet)}
    return diffusers.StableDiffusionPipeline(**parts, requires_safety_checker=False)


def sd2(pipe: Any) -> Any:
    """Predicts v, as its scheduler says."""
    made = sd(pipe)
    made.scheduler = diffusers.DDIMScheduler.from_config(
        pipe.scheduler.config, prediction_type="v_prediction"
    )
    return made


def sdxl(pipe: Any) -> Any:
    unet = diffusers.UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 8), layers_per_block=1, attention_head_dim=4,
        norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=16,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=8 * 6 + 8,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(latent_channels=4), unet=unet, tokenizer=pipe.tokenizer, tokenizer_2=pipe.tokenizer,
        text_encoder=tiny_clip(pipe.tokenizer), text_encoder_2=tiny_clip(pipe.tokenizer, True),
        scheduler=diffusers.EulerDiscreteScheduler(), add_watermarker=False,
    )  # fmt: skip


def sd3(pipe: Any) -> Any:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=16,
        out_channels=4,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=_vae(latent_channels=4, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=tiny_clip(pipe.tokenizer, True), tokenizer=pipe.tokenizer,
        text_encoder_2=tiny_clip(pipe.tokenizer, True), tokenizer_2=pipe.tokenizer,
        text_encoder_3=None, tokenizer_3=None,
    )  # fmt: skip


def flux(pipe: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    t5 = T5Config(vocab_size=600, d_model=32, d_ff=32, d_kv=8, num_layers=1, num_heads=2)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=8, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    made = diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), transformer=transformer,
        vae=_vae(latent_channels=4, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=tiny_clip(pipe.tokenizer), tokenizer=pipe.tokenizer,
        text_encoder_2=T5EncoderModel(t5).eval(), tokenizer_2=pipe.tokenizer,
    )  # fmt: skip
    made.default_sample_size = 16  # its own is 128, and its configuration has no place for another
    return made


def draw(pipe: Any, prompt: Any = "a cat", seed: int = 3, **options: Any) -> NDArray[np.float32]:
    count = (1 if isinstance(prompt, str) else len(prompt)) * options.get("num_images_per_prompt", 1)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    options = {"num_inference_steps": 6, "output_type": "np", **options}
    images: NDArray[np.float32] = pipe(prompt, generator=generators, **options).images
    return images


def loud(unet: Any) -> None:
    """Random weights hardly listen to texts."""
    for name, weight in unet.named_parameters():
        if "attn2.to_out" in name:
            weight.data *= 50


def family(name: str, pipe: Any) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A pipeline, what its calls need, and what guidance needs to know of them."""
    torch.manual_seed(0)
    make = {"sd2": sd2, "sdxl": sdxl, "sd3": sd3, "flux": flux, "flux, two calls": flux}
    made = make[name](pipe) if name in make else sd(pipe)
    made.set_progress_bar_config(disable=True)
    if hasattr(made, "unet"):
        loud(made.unet)
    options: dict[str, Any] = {"max_sequence_length": 16} if name[:4] in ("sd3", "flux") else {}
    if name == "flux":
        return made, {**options, "guidance_scale": 3.5}, {"scale": 3.5}
    if name == "flux, two calls":
        two = {"true_cfg_scale": 4.0}
        return made, {**options, **two, "negative_prompt": "a dog"}, two
    if name == "sd without guidance":
        return made, {"guidance_scale": 1.0}, {"scale": 5.0}
    return made, options, {}


FAMILIES = ("sd", "sd2", "sdxl", "sd3", "flux", "flux, two calls", "sd without guidance")
