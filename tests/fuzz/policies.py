"""Damaged policies: each is read, or refused in one sentence, and whatever was found gets a verdict.

python -m fuzz.policies [--count 5000] [--seed 0]
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import tomlkit
from hypothesis import strategies as st

from fuzz.mutations import mutated
from fuzz.subject import Subject, Tried, main, timed
from safelight.errors import SafelightError
from safelight.guard.guard import Guard
from safelight.policy import Policy, packaged_policies, policy_path
from safelight.types import STAGES, Action, Box, Finding

_PIECES = [
    b"false", b"true", b"nan", b"-inf", b"1e400", b"9" * 400, b"1979-05-27", b"{", b"[", b"]]", b"'''",
    b'extends = "general"\n', b'extends = "policy.toml"\n', b"[categories]\n", b"[[context]]\n",
    b"a.b.c = 1\n", b'use = ""\n', b"words = 3\n", b"\x00", b"\xff", b"= []", b"= {}", b"\\u0000", b"..",
    b'description = "x"\n',
]  # fmt: skip
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(
        [True, False, 0, -1, 2**63 - 1, 0.5, float("nan"), float("inf"), "", "gun", "csae", "..", "/"]
    )
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_texts = st.sampled_from(packaged_policies()).map(lambda name: policy_path(name).read_bytes())


@st.composite
def _with_pieces(draw: st.DrawFn) -> bytes:
    """Some bytes are replaced, left out, put elsewhere or repeated."""
    text = draw(_texts)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        piece = draw(st.sampled_from(_PIECES) | st.binary(max_size=8) | st.just(text[start : start + 30]))
        text = text[:start] + piece + text[start + draw(st.integers(0, 40)) :]
    return text


@st.composite
def _with_bytes(draw: st.DrawFn) -> bytes:
    return mutated(draw(_texts), Random(draw(st.integers(0, 2**64 - 1))))


@st.composite
def _with_lines(draw: st.DrawFn) -> bytes:
    """Some lines are left out, or stand at other places as well."""
    lines = draw(_texts).splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 8))):
        line = lines[draw(st.integers(0, len(lines) - 1))]
        if draw(st.booleans()):
            lines.remove(line)
        else:
            lines.insert(draw(st.integers(0, len(lines))), line)
    return b"".join(lines)


@st.composite
def _with_values(draw: st.DrawFn) -> bytes:
    """Valid TOML in which some values are others, and some keys are new."""
    data = tomllib.loads(draw(_texts).decode())
    for _ in range(draw(st.integers(1, 3))):
        place: Any = data
        while isinstance(place, dict | list) and place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            old = place[key]
            if not isinstance(old, dict | list) or draw(st.integers(0, 3)) == 0:
                if isinstance(place, dict) and draw(st.integers(0, 7)) == 0:
                    key = draw(st.text(max_size=8) | st.sampled_from(["extends", "csae", "use", "isolation"]))
                place[key] = draw(st.floats(0, 1) if isinstance(old, float) else _VALUES)
                break
            place = place[key]
    return tomlkit.dumps(data).encode("utf-8", "surrogatepass")


policies = st.one_of(_with_pieces(), _with_bytes(), _with_lines(), _with_values())
_LABELS = [
    "gun",
    "knife",
    "man",
    "child",
    "bread",
    "tree",
    "csae",
    "weapons",
    "minor",
    "violence.graphic",
    "",
]
_scores = st.floats(0, 1)
_boxes = st.lists(_scores, min_size=4, max_size=4).map(sorted).map(lambda s: Box(s[0], s[1], s[2], s[3]))
_findings = st.builds(
    Finding, st.sampled_from(_LABELS) | st.text(max_size=4), _scores, st.just("f"), st.none() | _boxes
)
Case = tuple[bytes, Sequence[Finding]]
cases: st.SearchStrategy[Case] = st.tuples(policies, st.lists(_findings, max_size=6))


@cache
def _folder() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


def check(case: Case) -> Tried:
    """Load the policy, judge the findings by it, and make a guard of it."""
    text, findings = case
    path = Path(_folder().name) / "policy.toml"
    path.write_bytes(text)
    read, cpu_s = timed(lambda: _is_judged(path, findings))
    return Tried(1, not read, cpu_s)


def _is_judged(path: Path, findings: Sequence[Finding]) -> bool:
    """Whether the policy can be read; errors that are not safelight's own are raised."""
    with suppress(SafelightError):
        Guard.from_policy(path, stages=("prompt",))
    try:
        policy = Policy.load(path)
    except SafelightError:
        return False
    for stage in STAGES:
        verdict = policy.judge(stage, findings)
        assert verdict.action >= max((c.action for c in verdict.categories.values()), default=Action.ALLOW)
        assert 0.0 <= verdict.score <= 1.0
    return True


POLICIES = Subject("policies", cases, check, 5000, 1.0)

if __name__ == "__main__":
    main(POLICIES)
