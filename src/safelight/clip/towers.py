"""The image and text towers of CLIP models, on ONNX Runtime or in PyTorch with transformers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from safelight.clip.preprocessing import Floats, Preprocessing
from safelight.errors import ModelError, first_line
from safelight.models.files import HASHES, check_hashes, read_json
from safelight.models.pipelines import best_device
from safelight.models.source import ModelSource, transformers_library
from safelight.storage.packaged_files import read_bytes


class Towers(Protocol):
    """The image and text towers of a CLIP model."""

    version: str
    scale: float
    dimensions: int
    preprocessing: Preprocessing

    def encode_images(self, pixels: Floats) -> Floats:
        """Return the embeddings (N, dimensions), not normalised, of pixels (N, 3, crop, crop)."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """Return the embeddings (N, dimensions), not normalised, of texts, which are truncated if too long.

        Raises ``ModelError`` if there is no text tower.
        """
        ...


class OnnxTowers:
    """Towers as ONNX files, which run without PyTorch.

    The inputs of the networks are ``pixels`` and ``ids`` (N, L), and their output is ``embedding``.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        from safelight.models.onnx import open_session

        pinned = read_json(folder / HASHES)
        check_hashes(folder, pinned)
        about = read_json(folder / "clip.json")
        try:
            self.preprocessing = Preprocessing(
                about["size"], about.get("crop", about["size"]), tuple(about["mean"]), tuple(about["std"])
            )
            self.scale = float(about["scale"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{folder / 'clip.json'} lacks size, mean, std or scale; add them.") from error
        pins = json.dumps(pinned, sort_keys=True).encode()
        self.version = f"{folder.name} {hashlib.sha256(pins).hexdigest()[:12]}"
        self._image, self._text = open_session(folder / "image.onnx"), open_session(folder / "text.onnx")
        self._tokenizer = Tokenizer.from_buffer(read_bytes(folder / "tokenizer.json"))
        self.dimensions = int(self._image.get_outputs()[0].shape[-1])

    def encode_images(self, pixels: Floats) -> Floats:
        embedding: Floats = self._image.run(["embedding"], {"pixels": pixels})[0]
        return embedding

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        return np.concatenate([self._text_embedding(text) for text in texts])

    def _text_embedding(self, text: str) -> Floats:
        """Return the embedding of one text, (1, dimensions).

        Texts are not batched, because padding to one length would cost more than batching saves.
        """
        ids = np.array([self._tokenizer.encode(text).ids], np.int64)
        embedding: Floats = self._text.run(["embedding"], {"ids": ids})[0]
        return embedding


class TransformersTowers:
    """A ``CLIPModel`` of transformers, in PyTorch."""

    def __init__(self, source: ModelSource, device: str | None) -> None:
        transformers = transformers_library("This CLIP")
        try:
            self._model, found = transformers.CLIPModel.from_pretrained(
                source.name, use_safetensors=True, output_loading_info=True, **source.arguments
            )
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(source.name, **source.arguments)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ModelError(f"{source.name} is not a CLIP: {first_line(error)}; use a CLIP.") from error
        if missing := sorted(found["missing_keys"]):
            raise ModelError(f"{source.name} is incomplete ({missing[0]} is missing); download it again.")
        self._model.eval().to(device or best_device())
        size = self._model.config.vision_config.image_size
        self.preprocessing = Preprocessing.read(_preprocessor(source), size)
        self.version = source.version
        self.scale = float(self._model.logit_scale.exp().detach())
        self.dimensions = int(self._model.config.projection_dim)

    def encode_images(self, pixels: Floats) -> Floats:
        import torch

        with torch.inference_mode():
            tokens = torch.from_numpy(pixels).to(self._model.device)
            return _numpy(self._model.get_image_features(pixel_values=tokens))

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        import torch

        longest = self._model.config.text_config.max_position_embeddings
        with torch.inference_mode():
            tokens = self._tokenizer(
                list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
            )
            inputs = {name: tokens[name].to(self._model.device) for name in ("input_ids", "attention_mask")}
            return _numpy(self._model.get_text_features(**inputs))


class CheckerTowers:
    """The image tower of a ``StableDiffusionSafetyChecker``, which has no text tower."""

    scale = 100.0

    def __init__(self, source: ModelSource, device: str | None) -> None:
        transformers = transformers_library("This CLIP")
        config = transformers.CLIPConfig.from_pretrained(source.name, **source.arguments)
        self._device = device or best_device()
        self._vision = transformers.CLIPVisionModel(config.vision_config).eval()
        self._projection = _load_vision(self._vision, Path(source.name) / "model.safetensors").to(
            self._device
        )
        self._vision.to(self._device)
        self.preprocessing = Preprocessing.read(_preprocessor(source), config.vision_config.image_size)
        self.version = source.version
        self.dimensions = int(self._projection.shape[0])

    def encode_images(self, pixels: Floats) -> Floats:
        import torch

        with torch.inference_mode():
            pooled = self._vision(torch.from_numpy(pixels).to(self._device)).pooler_output
            return _numpy(pooled @ self._projection.T)

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        raise ModelError(
            "a safety checker has no text tower; use a whole CLIP to describe concepts in words."
        )


def _load_vision(vision: Any, file: Path) -> Any:
    """Load all weights of ``vision`` from ``file``, and return those of the projection.

    Newer versions of transformers have one level less in the names of parameters than the files.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
        inner = {
            re.sub(r"^(vision_model\.)+", "", name): tensor
            for name, tensor in tensors.items()
            if name.startswith("vision_model.") and not name.endswith("position_ids")
        }
        deeper = next(iter(vision.state_dict())).startswith("vision_model.")
        vision.load_state_dict({f"vision_model.{k}": v for k, v in inner.items()} if deeper else inner)
        return tensors["visual_projection.weight"].float()
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise ModelError(f"{file} is not a safety checker: {first_line(error)}; download one.") from error


def _preprocessor(source: ModelSource) -> dict[str, Any]:
    """Return the content of ``preprocessor_config.json``; empty if there is no such file."""
    from transformers.utils import cached_file

    name = "preprocessor_config.json"
    found = cached_file(source.name, name, _raise_exceptions_for_missing_entries=False, **source.arguments)
    return read_json(Path(found)) if found else {}


def _numpy(features: Any) -> Floats:
    """Return a tensor, or the pooled output of a model output, as an array."""
    tensor = getattr(features, "pooler_output", features)
    array: Floats = tensor.float().cpu().numpy()
    return array
