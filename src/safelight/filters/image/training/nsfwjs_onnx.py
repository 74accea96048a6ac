"""Writes the network MobileNetV2Mid of the npm package nsfwjs as ONNX, with its weights bit for bit.

    npm pack nsfwjs@4.3.0
    python -m safelight.filters.image.training.nsfwjs_onnx nsfwjs-4.3.0.tgz

The package has the network as a TensorFlow.js graph model inside JavaScript files: an object literal, and
base64 strings with weights of eight bits. They are read as data; no JavaScript is run, and neither
TensorFlow nor TensorFlow.js is needed. It needs the library onnx, which the extra "dev" installs.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.errors import ModelError
from safelight.filters.image.nsfwjs import NETWORK, NETWORK_SHA256
from safelight.models.files import file_sha256

# The hash of nsfwjs-4.3.0.tgz.
ARCHIVE_SHA256 = "4496790efc9bdc6f3e85a826a8e482c1fa1e9db4b3d18c095e98cc0c73cfb12f"

_FOLDER = "package/dist/models/mobilenet_v2_mid"
_OPSET, _IR_VERSION = 17, 8
# What the layers of the original are called after its prefix, which is the same for all of them.
_PREFIX = re.compile(r".*/predict/")
_PADDING = {"SAME": "SAME_UPPER", "VALID": "VALID"}
_BINARY = {"AddV2": "Add", "Mul": "Mul", "Sub": "Sub"}

# The tokens in which an object literal, as a minifier writes it, differs from JSON; strings come first so
# that nothing inside them is changed.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z_$][\w$]*|![01]|(?<![\w.])-?\.\d')
_WORDS = {"!0": "true", "!1": "false", "null": "null", "true": "true", "false": "false"}
_BASE64 = re.compile(r'\.exports="([A-Za-z0-9+/]+=*)"')


@dataclass(frozen=True, slots=True)
class _Weight:
    """One tensor of the network. Quantised values stand for ``value * scale + minimum``."""

    values: NDArray[Any]
    scale: float | None = None
    minimum: float = 0.0

    def floats(self) -> NDArray[np.float32]:
        if self.scale is None:
            return self.values.astype(np.float32)
        return (self.values * self.scale + self.minimum).astype(np.float32)


class _Graph:
    """The ONNX graph, to which the nodes of the TensorFlow graph are added in order."""

    def __init__(self, weights: Mapping[str, _Weight]) -> None:
        self._weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, node: Mapping[str, Any]) -> None:
        """Add a node of the TensorFlow graph. Raises ``ModelError`` for an operation that is not known."""
        kind, name = node["op"], _short(node["name"])
        given, attributes = node.get("input", []), node.get("attr", {})
        if kind in ("Const", "Placeholder"):  # constants are added where they are used
            return
        if kind in ("_FusedConv2D", "FusedDepthwiseConv2dNative"):
            self._convolution(name, given, attributes, depthwise=kind != "_FusedConv2D")
        elif kind == "_FusedMatMul":
            self._operation("Gemm", [_short(given[0]), self._kernel(given[1]), self._value(given[2])], name)
        elif kind == "AvgPool":
            self._operation("AveragePool", [_short(given[0])], name, kernel_shape=_sides(attributes["ksize"]))
        elif kind == "Squeeze":
            axes = self._constant(f"{name}/axes", np.array([2, 3]))
            self._operation("Squeeze", [_short(given[0]), axes], name)
        elif kind in ("Softmax", "Identity"):
            self._operation(kind, [_short(given[0])], name)
        elif kind in _BINARY:
            self._operation(_BINARY[kind], [self._value(each) for each in given], name)
        else:
            raise ModelError(f"the network has the operation {kind}, which this conversion does not know.")

    def _convolution(
        self, name: str, given: Sequence[str], attributes: Mapping[str, Any], depthwise: bool
    ) -> None:
        """Add a convolution with bias and its ReLU6; kernels are (height, width, in, out) in TensorFlow."""
        fused = [_text(each) for each in attributes["fused_ops"]["list"]["s"]]
        if fused not in (["BiasAdd"], ["BiasAdd", "Relu6"]):
            raise ModelError(f"a convolution is fused with {fused}, which this conversion does not know.")
        height, width, channels, _ = self._weights[given[1]].values.shape
        kernel = self._kernel(given[1], (2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        linear = name if fused == ["BiasAdd"] else f"{name}/linear"
        self._operation(
            "Conv",
            [_short(given[0]), kernel, self._value(given[2])],
            linear,
            kernel_shape=[height, width],
            strides=_sides(attributes["strides"]),
            auto_pad=_PADDING[_text(attributes["padding"]["s"])],
            group=channels if depthwise else 1,
        )
        if linear != name:
            limits = [self._constant(f"{name}/{limit}", np.float32(limit)) for limit in (0, 6)]
            self._operation("Clip", [linear, *limits], name)

    def _value(self, name: str) -> str:
        """Return the name of a value; small constants are added as floats."""
        short = _short(name)
        return self._constant(short, self._weights[name].floats()) if name in self._weights else short

    def _kernel(self, name: str, order: Sequence[int] = (0, 1)) -> str:
        """Add a kernel with its axes in ``order``, in the eight bits of the original.

        ONNX Runtime computes the floats once, when it loads the network.
        """
        weight, short = self._weights[name], _short(name)
        values = np.ascontiguousarray(weight.values.transpose(order))
        if weight.scale is None:
            return self._constant(short, values)
        quantised = self._constant(f"{short}/quantised", values)
        scale = self._constant(f"{short}/scale", np.float32(weight.scale))
        minimum = self._constant(f"{short}/minimum", np.float32(weight.minimum))
        floats = self._operation("Cast", [quantised], f"{short}/floats", to=_float())
        scaled = self._operation("Mul", [floats, scale], f"{short}/scaled")
        return self._operation("Add", [scaled, minimum], short)

    def _constant(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _operation(self, kind: str, given: Sequence[str], name: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, given, [name], name, **attributes))
        return name


def convert(archive: Path, sha256: str = ARCHIVE_SHA256) -> bytes:
    """Return the ONNX network made of an archive of nsfwjs.

    Raises ``ModelError`` for an archive with another hash, and for a network that cannot be converted.
    """
    if (found := file_sha256(archive)) != sha256:
        raise ModelError(f"{archive} has the sha256 {found}, not the pinned one; download nsfwjs 4.3.0.")
    with tarfile.open(archive) as files:
        about = _object(_read(files, "model"))
        weights = _weights(files, about)
    graph = _Graph(weights)
    for node in about["modelTopology"]["node"]:
        graph.add(node)
    return _serialised(graph, about["userDefinedMetadata"]["signature"])


def _read(files: tarfile.TarFile, name: str) -> str:
    member = files.extractfile(f"{_FOLDER}/{name}.min.js")
    if member is None:
        raise ModelError(f"{_FOLDER}/{name}.min.js is not a file.")
    return member.read().decode()


def _object(script: str) -> Any:
    """Return the object literal that a script exports, as ``json.loads`` would."""
    _, _, literal = script.partition(".exports={")
    about, _ = json.JSONDecoder().raw_decode(_TOKEN.sub(_json_token, "{" + literal))
    return about


def _json_token(token: re.Match[str]) -> str:
    text = token[0]
    if text[0] == '"':
        return text
    if text[0] in "-.":
        return text.replace(".", "0.")
    return _WORDS.get(text) or json.dumps(text)


def _weights(files: tarfile.TarFile, about: Mapping[str, Any]) -> dict[str, _Weight]:
    weights = {}
    for group in about["weightsManifest"]:
        data = b"".join(_bytes(_read(files, path)) for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            count, kind = int(np.prod(entry["shape"])), _kind(entry)
            end = start + count * np.dtype(kind).itemsize
            if end > len(data):
                raise ModelError(f"the weights of {entry['name']} are missing; download nsfwjs 4.3.0.")
            values = np.frombuffer(data, kind, count, start)
            weights[entry["name"]] = _weight(entry, values.reshape(entry["shape"]))
            start = end
        if start != len(data):
            raise ModelError(f"there are {len(data)} bytes of weights, of which {start} are used.")
    return weights


def _bytes(script: str) -> bytes:
    """Return the bytes that a script exports as a base64 string."""
    encoded = _BASE64.search(script)
    return base64.b64decode(encoded[1]) if encoded else b""


def _kind(entry: Mapping[str, Any]) -> str:
    kind: str = entry.get("quantization", entry)["dtype"]
    if kind not in ("uint8", "float32"):
        raise ModelError(f"{entry['name']} is {kind}, which this conversion does not know.")
    return kind


def _weight(entry: Mapping[str, Any], values: NDArray[Any]) -> _Weight:
    quantised = entry.get("quantization")
    return _Weight(values, quantised["scale"], quantised["min"]) if quantised else _Weight(values)


def _serialised(graph: _Graph, signature: Mapping[str, Any]) -> bytes:
    """Return the network with one input of channels first, and one output, named after the original."""
    import onnx
    from onnx import helper

    (given,), (result,) = (signature[side].values() for side in ("inputs", "outputs"))
    _, height, width, channels = _dimensions(given)
    sizes = {_short(given["name"]): ["images", channels, height, width]}
    results = {_short(result["name"]): ["images", _dimensions(result)[-1]]}
    network = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "nsfwjs",
            [helper.make_tensor_value_info(name, _float(), shape) for name, shape in sizes.items()],
            [helper.make_tensor_value_info(name, _float(), shape) for name, shape in results.items()],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(network, full_check=True)
    data: bytes = network.SerializeToString(deterministic=True)
    return data


def _dimensions(value: Mapping[str, Any]) -> list[int]:
    return [int(each["size"]) for each in value["tensorShape"]["dim"]]


def _short(name: str) -> str:
    return _PREFIX.sub("", name).removesuffix(":0")


def _sides(attribute: Mapping[str, Any]) -> list[int]:
    """Return height and width of an attribute that is given as (images, height, width, channels)."""
    return [int(each) for each in attribute["list"]["i"][1:3]]


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()


def _float() -> int:
    from onnx import TensorProto

    number: int = TensorProto.FLOAT
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the network of nsfwjs 4.3.0 as ONNX.")
    parser.add_argument("archive", type=Path, help="nsfwjs-4.3.0.tgz, as `npm pack nsfwjs@4.3.0` makes it")
    parser.add_argument(
        "--output", type=Path, default=NETWORK, help="file to write (default: the packaged one)"
    )
    arguments = parser.parse_args()
    network = convert(arguments.archive)
    if (found := hashlib.sha256(network).hexdigest()) != NETWORK_SHA256:
        raise ModelError(f"the result has the sha256 {found}, not the pinned one; use onnx 1.17 to 1.23.")
    arguments.output.write_bytes(network)


if __name__ == "__main__":
    main()
