"""The network of the prompt classifier: MiniLM, and for every token what it adds to each logit."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn
from transformers import BertModel

# What texts are labelled with. "csae" is made by the policy, from what other filters see as well.
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
    """A BERT encoder with a linear head on the mean of its tokens: one logit of harm, one a category.

    The head of a mean is the mean of the head on every token, so each logit is a sum of what the tokens
    add to it.
    """

    def __init__(self, encoder: BertModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, 1 + len(CATEGORIES))

    @classmethod
    def on(cls, folder: Path) -> PromptNetwork:
        """On the encoder in ``folder`` (Hugging Face layout, safetensors)."""
        encoder = BertModel.from_pretrained(
            folder, add_pooling_layer=False, attn_implementation="eager", use_safetensors=True
        )
        return cls(encoder)

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The mean embedding (N, width) of texts (N, T), fp32."""
        hidden = self.encoder(ids, attention_mask=mask).last_hidden_state.float()
        mean: Tensor = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return mean

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits (N, 1 + categories) of texts (N, T)."""
        logits: Tensor = self.head(self.embed(ids, mask))
        return logits


class _Exported(nn.Module):
    """What ships: probabilities of harm by category, and what every token adds."""

    def __init__(self, network: PromptNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N, categories) and weights (N, T, categories).

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


def export(network: PromptNetwork, out: Path) -> None:
    """Write it as ONNX with int8 weights."""
    shipped = _Exported(network).eval()
    free = {0: "texts", 1: "tokens"}
    axes = {"ids": free, "mask": free, "scores": {0: "texts"}, "weights": free}
    with tempfile.TemporaryDirectory() as folder, _without_advice():
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
        out.parent.mkdir(parents=True, exist_ok=True)
        # Seven bits: with eight, processors without VNNI overflow.
        quantize_dynamic(whole, out, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


@contextmanager
def _without_advice() -> Iterator[None]:
    """The older exporter says that it is old, and the quantiser that graphs could be tidied first."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
