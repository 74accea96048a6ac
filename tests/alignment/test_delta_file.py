"""Untrusted delta files: invalid ones are refused with one sentence, and change nothing."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from safelight.alignment.delta.delta import Delta, Provenance
from safelight.errors import ModelError

ABOUT = {"method": "test", "concepts": ["a gun"], "base": "tiny", "base_sha256": {"unet": "0" * 64}}
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def written(path: Path, header: Any, body: bytes = b"\0" * 4) -> Path:
    """Write a safetensors file with any header."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + body)
    return path


def metadata(about: Any) -> dict[str, str]:
    return {"format": "1", "safelight": about if isinstance(about, str) else json.dumps(about)}


def test_a_delta_without_the_hash_of_its_model_is_refused_unless_forced(made: Any) -> None:
    bias = {"unet.conv_in.bias": torch.ones(made.unet.conv_in.bias.shape)}
    nameless = Delta(bias, Provenance("test", ("a gun",), "tiny", {}))
    other = Delta(bias, Provenance("test", ("a gun",), "tiny", {"vae": "0" * 64}))
    for delta in (nameless, other):
        with pytest.raises(ModelError, match="has no hash of the unet"):
            delta.attach(made)
        delta.attach(made, force=True).detach()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_values_that_are_not_finite_are_refused(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.tensor([1.0, value]).to(dtype)
    save_file({"unet.conv_in.bias": tensor}, tmp_path / "gun", metadata(ABOUT))
    with pytest.raises(ModelError, match=r'"unet\.conv_in\.bias" has values that are not finite'):
        Delta.load(tmp_path / "gun")


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.float8_e4m3fn, torch.complex64])
def test_tensors_of_other_types_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file({"unet.conv_in.bias": torch.ones(4).to(dtype)}, tmp_path / "gun", metadata(ABOUT))
    with pytest.raises(ModelError, match="not of floating-point numbers"):
        Delta.load(tmp_path / "gun")


@pytest.mark.parametrize(
    "about",
    [
        "[" * 100_000,
        '{"settings": ' + '{"a": ' * 50_000 + "1" + "}" * 50_001,
        "9" * 5000,
        "null",
        "not JSON",
        {},
        ABOUT | {"more": 1},
        ABOUT | {"method": 1},
        ABOUT | {"method": None},
        ABOUT | {"concepts": "a gun"},
        ABOUT | {"concepts": [["a gun"]]},
        ABOUT | {"base": {}},
        ABOUT | {"base_sha256": None},
        ABOUT | {"base_sha256": [["unet", "0" * 64]]},
        ABOUT | {"base_sha256": {"unet": ""}},
        ABOUT | {"base_sha256": {"unet": 0}},
        ABOUT | {"settings": []},
        ABOUT | {"proof": "none"},
    ],
    ids=lambda about: str(about)[:40],
)
def test_metadata_of_another_kind_is_refused(about: Any, tmp_path: Path) -> None:
    save_file({"unet.conv_in.bias": torch.ones(4)}, tmp_path / "gun", metadata(about))
    with pytest.raises(ModelError, match="is not a delta"):
        Delta.load(tmp_path / "gun")


def _headers() -> Iterator[Any]:
    said = {"__metadata__": metadata(ABOUT)}
    yield b""
    yield b"\xff\xfe"
    yield b"[" * 100_000
    yield b'{"unet.a": ' * 50_000
    yield b'{"unet.a": ' + b"9" * 5000 + b"}"
    yield [said]
    yield said
    yield said | {"unet.a": 1}
    yield said | {"unet.a": {}}
    yield said | {"a": ONE}
    yield said | {".": ONE}
    yield said | {"unet.a": ONE | {"shape": [2**63, 0], "data_offsets": [0, 0]}}
    yield said | {"unet.a": ONE | {"shape": [10**30]}}
    yield said | {"unet.a": ONE | {"shape": [-1]}}
    yield said | {"unet.a": ONE | {"data_offsets": [0, 1 << 60]}}
    yield said | {"unet.a": ONE | {"dtype": ["F32"]}}
    one = json.dumps(ONE)
    yield f'{{"__metadata__": {json.dumps(said["__metadata__"])}, "unet.a": {one}, "unet.a": {one}}}'.encode()


@pytest.mark.parametrize("header", list(_headers()), ids=lambda header: str(header)[:40])
def test_headers_of_another_kind_are_refused(header: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        Delta.load(written(tmp_path / "gun", header))


def test_an_endless_header_is_not_read(tmp_path: Path) -> None:
    """The file is sparse, so it takes no space."""
    path = tmp_path / "gun"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 90_000_000))
        file.truncate(90_000_100)
    with pytest.raises(ModelError, match="a header of 90,000,000 bytes, too long"):
        Delta.load(path)


@cache
def _whole() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "gun"
        save_file({"unet.conv_in.bias": torch.ones(4)}, path, metadata(ABOUT))
        return path.read_bytes()


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8), st.floats(0, 1)
)
def test_a_mutated_file_is_a_delta_or_one_sentence(changes: list[tuple[float, int]], kept: float) -> None:
    data = bytearray(_whole())
    for place, value in changes:
        data[int(place * len(data))] = value
    with TemporaryDirectory() as folder:
        path = Path(folder) / "gun"
        path.write_bytes(data[: int((1 if kept > 0.5 else 2 * kept) * len(data))])
        with suppress(ModelError):
            delta = Delta.load(path)
            assert all(tensor.isfinite().all() for tensor in delta.tensors.values())
            assert isinstance(delta.about.concepts, tuple)
