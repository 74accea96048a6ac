"""Networks as ONNX files: one thread a session, without spinning, which several threads may use at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safelight.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Raises ``ModelError`` for a file that is missing or damaged."""
    import onnxruntime

    if not path.is_file():
        again = f"install safelight again, or train it with `safelight train {path.stem}`"
        raise ModelError(f"{path.name} is missing; {again}.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base but this
        raise ModelError(f"{path} cannot be loaded: {error}; install safelight again.") from error
