"""Loading a pipeline for a command, without the libraries' progress bars and warnings."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from safelight.cli import terminal
from safelight.models.pipelines import load_pipeline


def open_pipeline(model: str) -> Any:
    """Return the pipeline of ``model``; its denoising progress bar is shown on a terminal only."""
    quiet_libraries()
    # Threads that spin while waiting make generation twice as slow if other programs keep the cores busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with terminal.busy(f"Loading {model}"):
        pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=not terminal.is_terminal(), desc="Generating", leave=False)
    return pipe


def quiet_libraries() -> None:
    """Turn off the libraries' loading bars, logs and warnings; call it before they are first imported.

    Python's warnings stay on if they were enabled with -W or PYTHONWARNINGS.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
