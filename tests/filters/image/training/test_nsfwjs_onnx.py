"""A tiny network in the format of the package nsfwjs, converted and computed beside PyTorch."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from safelight.errors import ModelError
from safelight.filters.image.training.nsfwjs_onnx import convert

Weights = dict[str, NDArray[Any]]
# What the minifier makes of a script that exports one value.
SCRIPT = (
    '!function(d){{"object"==typeof exports}}(function(){{'
    "return {{1:[function(t,e,a){{e.exports={0}}},{{}}]}}}});"
)
PREFIX = "Call/predict/net/"
SCALE, MINIMUM = 0.01, -1.27


def _weights() -> Weights:
    rng = np.random.default_rng(0)
    return {
        PREFIX + "two": np.float32(2),
        PREFIX + "one": np.float32(1),
        PREFIX + "conv/kernel": rng.integers(0, 256, (3, 3, 3, 4), np.uint8),
        PREFIX + "conv/bias": rng.standard_normal(4).astype(np.float32),
        PREFIX + "deep/kernel": rng.integers(0, 256, (3, 3, 4, 1), np.uint8),
        PREFIX + "deep/bias": rng.standard_normal(4).astype(np.float32),
        "dense/kernel": rng.integers(0, 256, (4, 5), np.uint8),
        "dense/bias": rng.standard_normal(5).astype(np.float32),
    }


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _convolution(op: str, name: str, given: str, fused: list[str], stride: int) -> dict[str, Any]:
    return {
        "name": f"{PREFIX}{name}",
        "op": op,
        "input": [given, f"{PREFIX}{name}/kernel", f"{PREFIX}{name}/bias"],
        "attr": {
            "fused_ops": {"list": {"s": [_encoded(each) for each in fused]}},
            "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
            "padding": {"s": _encoded("SAME")},
        },
    }


def _nodes() -> list[dict[str, Any]]:
    conv, deep = f"{PREFIX}conv", f"{PREFIX}deep"
    return [
        {"name": "input", "op": "Placeholder"},
        {"name": f"{PREFIX}two", "op": "Const"},
        {"name": f"{PREFIX}mul", "op": "Mul", "input": [f"{PREFIX}two", "input"]},
        {"name": f"{PREFIX}sub", "op": "Sub", "input": [f"{PREFIX}mul", f"{PREFIX}one"]},
        _convolution("_FusedConv2D", "conv", f"{PREFIX}sub", ["BiasAdd", "Relu6"], 2),
        _convolution("FusedDepthwiseConv2dNative", "deep", conv, ["BiasAdd"], 1),
        {"name": f"{PREFIX}add", "op": "AddV2", "input": [conv, deep]},
        {
            "name": f"{PREFIX}pool",
            "op": "AvgPool",
            "input": [f"{PREFIX}add"],
            "attr": {"ksize": {"list": {"i": ["1", "3", "3", "1"]}}},
        },
        {"name": f"{PREFIX}squeeze", "op": "Squeeze", "input": [f"{PREFIX}pool"]},
        {"name": "dense", "op": "_FusedMatMul", "input": [f"{PREFIX}squeeze", "dense/kernel", "dense/bias"]},
        {"name": "softmax", "op": "Softmax", "input": ["dense"]},
        {"name": "Identity", "op": "Identity", "input": ["softmax"]},
    ]


def _manifest(weights: Weights) -> list[dict[str, Any]]:
    quantised = {"quantization": {"dtype": "uint8", "scale": SCALE, "min": MINIMUM}}
    entries = [
        {
            "name": name,
            "shape": values.shape,
            "dtype": "float32",
            **(quantised if values.dtype == np.uint8 else {}),
        }
        for name, values in weights.items()
    ]
    return [{"paths": ["group1-shard1of2", "group1-shard2of2"], "weights": entries}]


def _literal(value: Any) -> str:
    """Return JSON as a minifier writes it: bare keys, !0 and !1, and no zero before a decimal point."""
    text = json.dumps(value, separators=(",", ":"))
    text = re.sub(r'"([a-z]\w*)":', r"\1:", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=[:,\[])(-?)0\.", r"\1.", text)
    return text.replace("true", "!0").replace("false", "!1")


def _archive(path: Path, nodes: list[dict[str, Any]], weights: Weights, listed: Weights | None = None) -> str:
    """Write an archive like that of nsfwjs, which lists the weights ``listed``, and return its sha256."""
    sides = {"input": ("input:0", [-1, 6, 6, 3]), "output": ("Identity:0", [-1, 5])}
    signature = {
        f"{side}s": {name: {"name": name, "tensorShape": {"dim": [{"size": str(each)} for each in shape]}}}
        for side, (name, shape) in sides.items()
    }
    about = {
        "format": 'graph-model with "quotes", !0 and .5',
        "lossless": True,
        "userDefinedMetadata": {"signature": signature},
        "modelTopology": {"node": nodes},
        "weightsManifest": _manifest(weights if listed is None else listed),
    }
    data = b"".join(np.asarray(values).tobytes() for values in weights.values())
    halves = [base64.b64encode(part).decode() for part in (data[:99], data[99:])]
    scripts = {
        "model": _literal(about),
        **{f"group1-shard{i + 1}of2": f'"{half}"' for i, half in enumerate(halves)},
    }
    with tarfile.open(path, "w:gz") as files:
        for name, value in scripts.items():
            content = SCRIPT.format(value).encode()
            member = tarfile.TarInfo(f"package/dist/models/mobilenet_v2_mid/{name}.min.js")
            member.size = len(content)
            files.addfile(member, io.BytesIO(content))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _expected(pixels: NDArray[np.float32], weights: Weights) -> NDArray[np.float32]:
    """Return what the TensorFlow graph computes. SAME with stride 2 on 6 pixels pads at the end only."""
    tensors = {
        name.removeprefix(PREFIX): torch.from_numpy(
            (values * SCALE + MINIMUM).astype(np.float32) if values.dtype == np.uint8 else np.asarray(values)
        )
        for name, values in weights.items()
    }
    kernel = tensors["conv/kernel"].permute(3, 2, 0, 1)
    padded = functional.pad(2 * torch.from_numpy(pixels) - 1, (0, 1, 0, 1))
    conv = functional.conv2d(padded, kernel, tensors["conv/bias"], stride=2).clamp(0, 6)
    depthwise = tensors["deep/kernel"].permute(2, 3, 0, 1)
    deep = functional.conv2d(conv, depthwise, tensors["deep/bias"], padding=1, groups=4)
    pooled = (conv + deep).mean((2, 3))
    result: NDArray[np.float32] = (
        (pooled @ tensors["dense/kernel"] + tensors["dense/bias"]).softmax(-1).numpy()
    )
    return result


def test_the_network_computes_what_the_original_does(tmp_path: Path) -> None:
    weights = _weights()
    sha256 = _archive(tmp_path / "net.tgz", _nodes(), weights)
    network = convert(tmp_path / "net.tgz", sha256)
    assert convert(tmp_path / "net.tgz", sha256) == network
    pixels = np.random.default_rng(1).random((7, 3, 6, 6), np.float32)
    (found,) = onnxruntime.InferenceSession(network).run(["Identity"], {"input": pixels})
    assert found == pytest.approx(_expected(pixels, weights), abs=1e-5)


def test_an_archive_with_another_hash_is_refused(tmp_path: Path) -> None:
    _archive(tmp_path / "net.tgz", _nodes(), _weights())
    with pytest.raises(ModelError, match="not the pinned one"):
        convert(tmp_path / "net.tgz")


def test_what_the_conversion_does_not_know_is_refused(tmp_path: Path) -> None:
    other = [*_nodes()[:-1], {"name": "Identity", "op": "Sigmoid", "input": ["softmax"]}]
    sha256 = _archive(tmp_path / "net.tgz", other, _weights())
    with pytest.raises(ModelError, match="operation Sigmoid"):
        convert(tmp_path / "net.tgz", sha256)
    nodes = _nodes()
    nodes[4] = _convolution("_FusedConv2D", "conv", f"{PREFIX}sub", ["BiasAdd", "Elu"], 2)
    sha256 = _archive(tmp_path / "net.tgz", nodes, _weights())
    with pytest.raises(ModelError, match=r"fused with .*Elu"):
        convert(tmp_path / "net.tgz", sha256)


@pytest.mark.parametrize(("change", "error"), [(1, "more are missing"), (-1, "bytes of weights")])
def test_weights_other_than_those_listed_are_noticed(tmp_path: Path, change: int, error: str) -> None:
    weights = _weights()
    more = {**weights, "more": np.zeros(3, np.float32)}
    there, listed = (weights, more) if change > 0 else (more, weights)
    sha256 = _archive(tmp_path / "net.tgz", _nodes(), there, listed)
    with pytest.raises(ModelError, match=error):
        convert(tmp_path / "net.tgz", sha256)
