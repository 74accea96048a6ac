"""Opening a model quietly."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from safelight.cli import terminal
from safelight.models.pipelines import load_pipeline


def open_pipeline(model: str) -> Any:
    """The pipeline of ``model``; its own progress bar shows on a terminal only."""
    quiet_libraries()
    # On cores that are busy with other things, threads that spin while they wait take twice as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with terminal.busy(f"Loading {model}"):
        pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=not terminal.is_terminal(), desc="Drawing", leave=False)
    return pipe


def quiet_libraries() -> None:
    """No bars for loading and no advice to programmers; read when the libraries are first imported.

    Whoever asks Python for warnings (-W, PYTHONWARNINGS) gets them.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
