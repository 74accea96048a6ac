"""Networks as ONNX files: one thread a session, without spinning, which several threads may use at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.errors import ModelError, no_such
from safelight.storage.packaged_files import is_packaged, read_bytes

if TYPE_CHECKING:
    import onnxruntime

_CPU = "CPUExecutionProvider"


def open_session(
    path: Path, providers: Sequence[str] = (_CPU,), network: bytes | None = None
) -> onnxruntime.InferenceSession:
    """``providers`` are ONNX Runtime's, the first that can run a part of the network does. With a ``network``
    that was made of the file it is that one's.

    Raises ``ModelError`` for a file that is missing or damaged, for a packaged one that was altered, and for
    a provider that is not there.
    """
    import onnxruntime

    if not path.is_file():
        again = f"install safelight again, or train it with `safelight train {path.stem}`"
        raise ModelError(f"{path.name} is missing; {again}.")
    _check_providers(providers, onnxruntime.get_available_providers())
    # Others by their path: weights of large networks lie in files beside them.
    network = network or (read_bytes(path) if is_packaged(path) else None)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(network or path, options, providers=list(providers))
    except Exception as error:  # onnxruntime's own exceptions have no common base but this
        raise ModelError(f"{path} cannot be loaded: {error}; install safelight again.") from error
    # ONNX Runtime says it on stderr and goes on without the provider.
    _check_providers(providers, session.get_providers())
    return session


def _check_providers(wanted: Sequence[str], there: Sequence[str]) -> None:
    if not wanted:
        raise ModelError(f"no execution provider is named; there is {', '.join(there)}.")
    for name in wanted:
        if name not in there:
            raise ModelError(no_such("execution provider", name, there))
