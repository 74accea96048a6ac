"""ONNX Runtime sessions with one thread each and without spinning; sessions are thread-safe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.errors import ModelError, unknown_name
from safelight.storage.packaged_files import is_packaged, read_bytes

if TYPE_CHECKING:
    import onnxruntime

_CPU = "CPUExecutionProvider"


def open_session(
    path: Path, providers: Sequence[str] = (_CPU,), network: bytes | None = None
) -> onnxruntime.InferenceSession:
    """Open an ONNX Runtime session for a file, or for the serialised ``network`` that was derived from it.

    ``providers`` are ONNX Runtime's execution providers in order of preference. Raises ``ModelError`` for a
    file that is missing or damaged, for a packaged one that was altered, and for a provider that is not
    available.
    """
    import onnxruntime

    if not path.is_file():
        again = f"install safelight again, or train it with `safelight train {path.stem}`"
        raise ModelError(f"{path.name} is missing; {again}.")
    _check_providers(providers, onnxruntime.get_available_providers())
    # Other files are opened by path, since the weights of large networks are in separate files.
    network = network or (read_bytes(path) if is_packaged(path) else None)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(network or path, options, providers=list(providers))
    except Exception as error:  # onnxruntime's exceptions have no other common base class
        raise ModelError(f"{path} cannot be loaded: {error}; install safelight again.") from error
    # If a provider cannot be loaded, ONNX Runtime only writes to stderr and continues without it.
    _check_providers(providers, session.get_providers())
    return session


def _check_providers(requested: Sequence[str], available: Sequence[str]) -> None:
    if not requested:
        raise ModelError(f"no execution provider is named; available: {', '.join(available)}.")
    for name in requested:
        if name not in available:
            raise ModelError(unknown_name("execution provider", name, available))
