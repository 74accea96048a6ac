"""Results: tables of rates, with the information that is needed to reproduce them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safelight
from safelight.evaluation.tables import Tables

_PACKAGE = Path(safelight.__file__).parent
_LIBRARIES = ("torch", "diffusers", "transformers", "onnxruntime", "numpy", "pillow")


def write_results(
    path: Path,
    command: str,
    run: Mapping[str, Any],
    tables: Tables,
    figures: Mapping[str, float | None],
) -> dict[str, Any]:
    """Write the results to ``path`` as JSON, and return them.

    They have ``run`` unchanged, and every rate with n, k and its confidence interval.
    """
    results = {
        "command": command,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "run": dict(run),
        "figures": dict(figures),
        "tables": {name: [row.to_dict() for row in rows] for name, rows in tables.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return results


def commit() -> str:
    """Return the git commit of the code, with "-dirty" for uncommitted changes; outside git, the version."""
    tracked = _git("ls-files", "--error-unmatch", "__init__.py")
    found = tracked and _git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    return found or f"safelight {safelight.__version__}"


def machine() -> dict[str, Any]:
    """Return the processor, cores, accelerator, system and libraries, without host or folder names."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "accelerator": _accelerator(),
        "system": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
        "python": platform.python_version(),
        **{name: found for name in _LIBRARIES if (found := _version(name))},
    }


def _git(*arguments: str) -> str:
    """Return the output of git in the package's folder; "" if git is missing or fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(_PACKAGE), *arguments], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _accelerator() -> str | None:
    torch = sys.modules.get("torch")  # if it was not imported, no accelerator was used
    name: str | None = torch.cuda.get_device_name() if torch and torch.cuda.is_available() else None
    return name


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
