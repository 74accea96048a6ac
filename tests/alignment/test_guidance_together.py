"""Guidance together with whatever else a pipeline is used with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from pipelines import draw, loud
from safelight.alignment.guidance import Guidance, PromptProjection, SafeGuidance, SafetyConfig

CONFIG = SafetyConfig(5000, 1.0, 0.5, 0.7, 0)
BLOOD = SafeGuidance(CONFIG, "blood")
Use = Callable[[Any], tuple[Any, dict[str, Any]]]


def _image(size: int = 16) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    return Image.fromarray(pixels)


def batch(made: Any) -> tuple[Any, dict[str, Any]]:
    return made, {"prompt": ["a cat", "a dog"], "num_images_per_prompt": 2}


def img2img(made: Any) -> tuple[Any, dict[str, Any]]:
    other = diffusers.StableDiffusionImg2ImgPipeline(**made.components, requires_safety_checker=False)
    return other, {"image": _image(), "strength": 0.9}


def inpainting(made: Any) -> tuple[Any, dict[str, Any]]:
    """Its network has nine channels: sample, mask, and what is behind the mask."""
    parts = made.components
    config = {**parts["unet"].config, "in_channels": 9}
    parts["unet"] = diffusers.UNet2DConditionModel.from_config(config)
    loud(parts["unet"])
    other = diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    mask = Image.new("L", (16, 16))
    mask.paste(255, (4, 4, 12, 12))
    return other, {"image": _image(), "mask_image": mask, "height": 16, "width": 16}


def controlnet(made: Any) -> tuple[Any, dict[str, Any]]:
    control = diffusers.ControlNetModel.from_unet(made.unet, conditioning_embedding_out_channels=(8,))
    other = diffusers.StableDiffusionControlNetPipeline(
        **made.components, controlnet=control, requires_safety_checker=False
    )
    return other, {"image": _image(16)}


def ip_adapter(made: Any) -> tuple[Any, dict[str, Any]]:
    """An image as a second prompt, beside the text in every attention; of each CFG half its own."""
    width, tokens = made.unet.config.cross_attention_dim, 4
    layers = [name for name in made.unet.attn_processors if "attn2" in name]
    sizes = {name: made.unet.get_submodule(name.removesuffix(".processor")).inner_dim for name in layers}
    keys = {
        f"{2 * i + 1}.to_{part}_ip.weight": torch.randn(sizes[name], width)
        for i, name in enumerate(layers)
        for part in "kv"
    }
    projection = {
        "proj.weight": torch.randn(tokens * width, 8),
        "proj.bias": torch.zeros(tokens * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    made.unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": keys}])
    return made, {"ip_adapter_image_embeds": [torch.stack([torch.zeros(1, 8), torch.randn(1, 8)])]}


def lora(made: Any) -> tuple[Any, dict[str, Any]]:
    from peft import LoraConfig

    made.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    return made, {"cross_attention_kwargs": {"scale": 0.7}}


def bfloat16(made: Any) -> tuple[Any, dict[str, Any]]:
    return made.to(torch.bfloat16), {}


def half(made: Any) -> tuple[Any, dict[str, Any]]:
    return made.to(torch.float16), {}


def offloaded(made: Any) -> tuple[Any, dict[str, Any]]:
    made.enable_model_cpu_offload(device="cpu")
    return made, {}


def compiled(made: Any) -> tuple[Any, dict[str, Any]]:
    made.unet = torch.compile(made.unet, backend="eager")
    return made, {}


def compiled_in_place(made: Any) -> tuple[Any, dict[str, Any]]:
    made.unet.compile(backend="eager")
    return made, {}


USES = (
    batch, img2img, inpainting, controlnet, ip_adapter, lora,
    bfloat16, half, offloaded, compiled, compiled_in_place,
)  # fmt: skip


@pytest.mark.parametrize("guidance", [BLOOD, PromptProjection("a cat")], ids=lambda each: each.name)
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
@pytest.mark.filterwarnings("ignore")
def test_guidance_works_with(use: Use, guidance: Guidance, made: Any) -> None:
    torch.manual_seed(0)
    used, options = use(made)
    used.set_progress_bar_config(disable=True)
    before = draw(used, **options)
    with guidance.attach(used) as attached:
        guided = draw(used, **options)
        traces = attached.traces
    assert np.isfinite(guided).all()
    assert [trace.acted for trace in traces] == [True] * len(before)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(guided, before, strict=True))
    assert (draw(used, **options) == before).all()
