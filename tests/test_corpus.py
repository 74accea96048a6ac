"""The regression corpus: prompts that were once judged wrongly, and must not be again."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from safelight.guard.guard import Guard

_CASES: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "corpus" / "prompts.toml").read_text("utf-8")
)["cases"]


@cache
def _guard(policy: str) -> Guard:
    return Guard.from_policy(policy, stages=("prompt",))


@pytest.mark.parametrize("case", _CASES, ids=[case["about"] for case in _CASES])
def test_prompts_of_the_corpus(case: dict[str, Any]) -> None:
    verdicts = _guard(case["policy"]).screen_prompts(case["prompts"])
    wrong = [
        f"{prompt!r}: {verdict.explain()}"
        for prompt, verdict in zip(case["prompts"], verdicts, strict=True)
        if verdict.action != case["action"]
    ]
    assert not wrong, "\n".join(wrong)
