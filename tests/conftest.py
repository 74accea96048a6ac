"""Tiny real models with random weights, and policies made of packaged filters."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from chat_server import ChatServer, chat_server
from safelight.guard.guard import Guard
from safelight.policy import Policy

# Beside other workers, each on a core of its own; before anybody imports torch.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same cases in every run, however slowly they go where other programs fill the cores; `make fuzz` tries
# others.
settings.register_profile(
    "suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

TOKENS = 16

SaveModel = Callable[..., Path]

POLICY = """
name = "test"
version = "1"

[filters]
prompt = ["lexicon"]
image = ["never"]
timeout_s = 10

[filters.options.lexicon]
words = "storybook"

[categories."weapons"]
prompt = { review = 0.3, block = 0.8 }
image = { review = 0.1, steer = 0.2, blur = 0.4, block = 0.7 }

[categories."violence"]
prompt = { block = 0.8 }
image = { block = 0.5 }
# pair = { block = 0.5 }

[labels]
gun = ["weapons"]
bomb = ["weapons"]
"""


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with chat_server() as server:
        yield server


@pytest.fixture
def write_policy(tmp_path: Path) -> Callable[..., Path]:
    """Writes the test policy, with pieces of it replaced, and gives its path."""

    def write(*replacements: tuple[str, str], text: str = POLICY) -> Path:
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "policy.toml"
        path.write_text(text, "utf-8")
        return path

    return write


@pytest.fixture
def policy(write_policy: Callable[..., Path]) -> Policy:
    """With thresholds for pairs, which need a filter beside those that the file lists."""
    return Policy.load(write_policy(("# pair", "pair")))


@pytest.fixture
def guard(write_policy: Callable[..., Path]) -> Guard:
    return Guard.from_policy(write_policy())


@pytest.fixture
def image() -> Image.Image:
    """32 × 32 stripes, so that blurring shows."""
    image = Image.new("RGB", (32, 32), "white")
    for x in range(0, 32, 2):
        image.paste("black", (x, 0, x + 1, 32))
    return image


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion in diffusers format that draws 16 × 16 noise; its prompts have 16 tokens."""
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("model")
    tokenizer = _tokenizer(folder)
    torch.manual_seed(0)
    parts = {
        "vae": diffusers.AutoencoderKL(block_out_channels=[8], latent_channels=4, norm_num_groups=4),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=TOKENS,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
        ),
        "unet": diffusers.UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(8, 8),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
            norm_num_groups=4,
        ),
    }
    pipe = diffusers.StableDiffusionPipeline(
        **parts,
        tokenizer=tokenizer,
        scheduler=diffusers.DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)
    return folder


def _tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer whose every token is one byte."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(byte + "</w>" for byte in alphabet), "<|startoftext|>", "<|endoftext|>"]
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    vocab.write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    merges.write_text("#version: 0.2\n")
    return CLIPTokenizer(str(vocab), str(merges), model_max_length=TOKENS)


@pytest.fixture(scope="session")
def pipe(model_folder: Path) -> Any:
    from safelight.models.pipelines import load_pipeline

    pipe = load_pipeline(model_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _network_size() -> dict[str, int]:
    return {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.fixture
def save_classifier(tmp_path: Path) -> SaveModel:
    """Writes a ViT with these labels; ``scale`` makes its answers differ from each other."""

    def save(*labels: str, scale: float = 40.0, name: str = "vit", **config: Any) -> Path:
        import torch
        from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

        torch.manual_seed(0)
        table = {"id2label": dict(enumerate(labels)), "label2id": {k: i for i, k in enumerate(labels)}}
        model = ViTForImageClassification(
            ViTConfig(image_size=32, patch_size=16, **_network_size(), **table, **config)
        )
        model.classifier.weight.data *= scale
        folder = tmp_path / name
        model.save_pretrained(folder)
        ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def save_detector(tmp_path: Path) -> SaveModel:
    """Writes a YOLOS with these labels."""

    def save(*labels: str, name: str = "yolos") -> Path:
        import torch
        from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

        torch.manual_seed(0)
        table = {"id2label": dict(enumerate(labels)), "label2id": {k: i for i, k in enumerate(labels)}}
        config = YolosConfig(
            image_size=[32, 48], patch_size=16, num_detection_tokens=5, **_network_size(), **table
        )
        model = YolosForObjectDetection(config)
        for head in (model.class_labels_classifier, model.bbox_predictor):
            for layer in head.layers:
                torch.nn.init.normal_(layer.weight)
        folder = tmp_path / name
        model.save_pretrained(folder)
        YolosImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 48}).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def colour_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP in ONNX that can be worked out by hand.

    An image is its mean colour, every channel from -1 to 1; a word is a colour as well; a text is the mean
    of its words. The scale is 3.
    """
    import onnx
    from onnx import TensorProto, helper
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    from safelight.models.files import write_hashes

    folder = tmp_path_factory.mktemp("colours")
    words = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "white": (1, 1, 1)}
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, "white"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))

    def save(file: str, takes: Any, *nodes: Any, table: Any = ()) -> None:
        gives = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])
        graph = helper.make_graph(list(nodes), file, [takes], [gives], list(table))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, folder / file)

    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 8, 8])
    mean = {"keepdims": 0}
    save("image.onnx", pixels, helper.make_node("ReduceMean", ["pixels"], ["embedding"], axes=[2, 3], **mean))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])
    flat = [float(x) for row in words.values() for x in row]
    save(
        "text.onnx",
        ids,
        helper.make_node("Gather", ["words", "ids"], ["each"]),
        helper.make_node("ReduceMean", ["each"], ["embedding"], axes=[1], **mean),
        table=[helper.make_tensor("words", TensorProto.FLOAT, [len(words), 3], flat)],
    )
    about = {"size": 8, "mean": [0.5] * 3, "std": [0.5] * 3, "scale": 3.0}
    (folder / "clip.json").write_text(json.dumps(about))
    write_hashes(folder, "clip.json", "tokenizer.json")
    return folder


def clip_config(tokens: int, end: int) -> Any:
    """Of a CLIP of 12 dimensions for images of 32 pixels a side."""
    from transformers import CLIPConfig

    small = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": tokens, "max_position_embeddings": TOKENS, "bos_token_id": end - 1}
    return CLIPConfig(
        text_config={**small, **text, "eos_token_id": end, "pad_token_id": end},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=12,
    )


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``CLIPModel`` with random weights as transformers saves it, with tokenizer and preprocessing."""
    import torch
    from transformers import CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    tokenizer = _tokenizer(folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    CLIPModel(clip_config(len(tokenizer), tokenizer.eos_token_id)).eval().save_pretrained(folder)
    _save_preprocessing(folder)
    return folder


@pytest.fixture(scope="session")
def checker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``StableDiffusionSafetyChecker`` with random weights as diffusers saves it, thresholds near them."""
    import torch
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker

    folder = tmp_path_factory.mktemp("checker")
    torch.manual_seed(2)
    checker = StableDiffusionSafetyChecker(clip_config(16, 15)).eval()
    for embeds in (checker.concept_embeds, checker.special_care_embeds):
        embeds.data = torch.randn_like(embeds)
    for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        weights.data = torch.full_like(weights, 0.55)
    checker.save_pretrained(folder)
    _save_preprocessing(folder)
    return folder


def _save_preprocessing(folder: Path) -> None:
    size = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(size))
