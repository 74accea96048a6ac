from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import safelight

HEAVY = {"torch", "diffusers", "transformers", "onnxruntime", "pydantic", "numpy", "PIL"}


def _run(code: str) -> str:
    source = str(Path(safelight.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    )
    return done.stdout.strip()


def test_importing_safelight_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.process_time(); import safelight; "
        "print(time.process_time() - start, *sys.modules)"
    )
    runs = [_run(code).split() for _ in range(3)]
    assert min(float(seconds) for seconds, *_ in runs) < 0.3
    assert not HEAVY & set(runs[0])


@pytest.mark.parametrize(
    ("policy", "prompt", "action"),
    [("storybook", "a gun", "block"), ("general", "a massacre in a village", "review")],
)
def test_screening_text_loads_no_torch(policy: str, prompt: str, action: str) -> None:
    code = (
        f"import sys, safelight; guard = safelight.Guard.from_policy('{policy}', stages=['prompt']); "
        f"print(guard.screen_prompts(['{prompt}'])[0].action, 'torch' in sys.modules)"
    )
    assert _run(code) == f"{action} False"


def test_the_public_names_are_sorted_and_there() -> None:
    assert safelight.__all__ == sorted(safelight.__all__, key=lambda name: (name[0].islower(), name))
    for name in safelight.__all__:
        assert getattr(safelight, name)
    assert set(safelight._HOMES) == set(safelight.__all__) - {"__version__"}
    assert set(dir(safelight)) == set(safelight.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Gard'"):
        _ = safelight.Gard
