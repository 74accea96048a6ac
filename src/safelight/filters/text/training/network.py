"""The network of the prompt classifier: an encoder with a linear head that attributes logits to tokens."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.onnx_model import OnnxModel
from onnxruntime.transformers.optimizer import optimize_model
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

# The categories of the training labels. "csae" is not among them: the policy derives it from several filters.
CATEGORIES = (
    "sexual.explicit",
    "sexual.nudity",
    "sexual.nonconsensual",
    "violence",
    "violence.graphic",
    "self_harm",
    "hate",
    "harassment",
    "illegal",
    "weapons",
    "deception",
    "privacy",
)


class PromptNetwork(nn.Module):
    """An encoder, BERT or MPNet, with a linear head on the mean of its token states.

    Training needs BERT. Outputs are one logit of harm and one logit per category. Since the head is linear,
    each logit is the mean of the head's outputs for the tokens, which attributes the logit to them.
    """

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, 1 + len(CATEGORIES))

    @classmethod
    def from_pretrained(cls, folder: Path) -> PromptNetwork:
        """Return a network on the encoder in ``folder`` (Hugging Face layout, safetensors)."""
        encoder = AutoModel.from_pretrained(
            folder, add_pooling_layer=False, attn_implementation="eager", use_safetensors=True
        )
        return cls(encoder)

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the mean embeddings (N, width), fp32, of token ids (N, T)."""
        return _mean(self.encoder(ids, attention_mask=mask).last_hidden_state.float(), mask)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the logits (N, 1 + categories) of token ids (N, T)."""
        logits: Tensor = self.head(self.embed(ids, mask))
        return logits

    def lower(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the token states (N, T, width) after the lower half of a BERT encoder, which is frozen."""
        layers = self._layers()
        return _through(layers[: len(layers) // 2], self.encoder.embeddings(input_ids=ids), mask)

    def upper_embed(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the mean embeddings (N, width) of what ``lower`` returned."""
        layers = self._layers()
        return _mean(_through(layers[len(layers) // 2 :], states, mask), mask)

    def upper(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the logits (N, 1 + categories) of what ``lower`` returned."""
        logits: Tensor = self.head(self.upper_embed(states, mask))
        return logits

    def freeze_lower(self) -> None:
        layers = self._layers()
        for part in (self.encoder.embeddings, *layers[: len(layers) // 2]):
            part.requires_grad_(False)

    def _layers(self) -> nn.ModuleList:
        layers: nn.ModuleList = self.encoder.encoder.layer
        return layers


def _through(layers: Iterable[nn.Module], states: Tensor, mask: Tensor) -> Tensor:
    hidden = (1.0 - mask[:, None, None, :].to(states.dtype)) * torch.finfo(states.dtype).min
    for layer in layers:
        states = layer(states, hidden)
    return states


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    mean: Tensor = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return mean


class _ExportedNetwork(nn.Module):
    """The network as it is exported: probabilities of harm by category, and contributions of the tokens."""

    def __init__(self, network: PromptNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores (N, categories) and token weights (N, T, categories).

        The likeliest category scores P(harm), every other one P(harm) · P(category | harm).
        """
        hidden = self.network.encoder(ids, attention_mask=mask).last_hidden_state
        tokens = self.network.head(hidden)
        seen = mask[..., None].to(tokens.dtype)
        logits = (tokens * seen).sum(1) / seen.sum(1)
        harm = torch.sigmoid(logits[:, :1])
        fit = torch.sigmoid(logits[:, 1:])
        likeliest = fit == fit.amax(1, keepdim=True)
        return harm * torch.where(likeliest, 1.0, fit), tokens[..., :1] + tokens[..., 1:]


def export_onnx(network: PromptNetwork, out: Path) -> None:
    """Write the network as ONNX with int8 weights."""
    shipped = _ExportedNetwork(network).eval()
    free = {0: "texts", 1: "tokens"}
    axes = {"ids": free, "mask": free, "scores": {0: "texts"}, "weights": free}
    with tempfile.TemporaryDirectory() as folder, _quiet_export():
        whole = Path(folder) / "whole.onnx"
        ids = torch.tensor([[1, 2, 3], [1, 2, 0]])
        torch.onnx.export(
            shipped,
            (ids, (ids > 0).long()),
            str(whole),
            input_names=["ids", "mask"],
            output_names=["scores", "weights"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
        fused = Path(folder) / "fused.onnx"
        _fuse(network, whole).save_model_to_file(str(fused))
        out.parent.mkdir(parents=True, exist_ok=True)
        # Seven bits, because eight overflow on processors without VNNI. The type is that of fused operators,
        # of which the quantiser cannot infer it.
        quantize_dynamic(
            fused,
            out,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )


def _fuse(network: PromptNetwork, exported: Path) -> OnnxModel:
    """Return the exported network with fused operators, which is faster by a tenth."""
    size = network.encoder.config
    return optimize_model(
        str(exported),
        "bert",
        num_heads=size.num_attention_heads,
        hidden_size=size.hidden_size,
        opt_level=0,
    )


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Suppress the exporter's deprecation warning and the quantiser's advice to preprocess the graph."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
