"""Test cases of a policy: prompts and images with the expected action, and their results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight.errors import RequestError, unknown_name
from safelight.guard.guard import Guard
from safelight.types import Action, Stage, Verdict

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Expectation:
    """The accepted actions of a case; ``text`` is the expectation as it is written in the case."""

    text: str
    actions: frozenset[Action]

    @classmethod
    def of(cls, value: object) -> Expectation:
        """Return the expectation for the value of "expect" in a case.

        It is an action, a list of actions, or an action after ``>=`` or ``<=``, which includes all more or
        less severe actions. Raises ``RequestError`` for anything else.
        """
        if isinstance(value, list) and value:
            parts = [cls.of(each) for each in value]
            return cls(
                " or ".join(each.text for each in parts), frozenset().union(*(e.actions for e in parts))
            )
        if not isinstance(value, str):
            raise RequestError('"expect" must be an action or a list of actions')
        sign, name = (value[:2], value[2:].strip()) if value[:2] in (">=", "<=") else ("", value)
        if name not in list(Action):
            raise RequestError(unknown_name("action", name, list(Action)).rstrip("."))
        action = Action(name)
        if sign == ">=":
            return cls(value, frozenset(each for each in Action if each >= action))
        if sign == "<=":
            return cls(value, frozenset(each for each in Action if each <= action))
        return cls(value, frozenset({action}))


@dataclass(frozen=True, slots=True)
class PolicyCase:
    """A prompt, an image or a pair of both, with its expectation; ``line`` is the line number in the file."""

    line: int
    expectation: Expectation
    prompt: str | None = None
    path: Path | None = None

    @property
    def stage(self) -> Stage:
        if self.path is None:
            return "prompt"
        return "image" if self.prompt is None else "pair"

    @property
    def name(self) -> str:
        return " ".join(str(part) for part in (self.path, self.prompt) if part is not None)


@dataclass(frozen=True, slots=True)
class CaseResult:
    case: PolicyCase
    verdict: Verdict

    @property
    def failed(self) -> bool:
        """Whether the case could not be read or screened, so that the policy did not decide about it."""
        if any(run.problem for run in self.verdict.filters.values()):
            return True
        return self.case.stage != "prompt" and bool(self.verdict.reasons)

    @property
    def met(self) -> bool:
        return not self.failed and self.verdict.action in self.case.expectation.actions

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready data."""
        prompt = {"prompt": self.case.prompt} if self.case.prompt is not None else {}
        path = {"path": str(self.case.path)} if self.case.path else {}
        return {
            "line": self.case.line,
            **prompt,
            **path,
            "expect": self.case.expectation.text,
            "action": self.verdict.action.value,
            "failed": self.failed,
            "why": self.verdict.explain(),
        }


def read_cases(path: Path) -> list[PolicyCase]:
    """Return the cases in a JSONL file; paths of images are relative to its folder.

    Raises ``RequestError``, naming the line, for an invalid case, and if there are no cases.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}; give a JSONL file of cases.") from error
    cases = [_case(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not cases:
        raise RequestError(f'{path} has no cases; give lines like {{"prompt": "a cat", "expect": "allow"}}.')
    return cases


def judge_cases(guard: Guard, cases: Sequence[PolicyCase]) -> Iterator[CaseResult]:
    """Yield the result of each case under the guard's policy, stage by stage."""
    for stage in sorted({case.stage for case in cases}):
        of_stage = [case for case in cases if case.stage == stage]
        for start in range(0, len(of_stage), _BATCH):
            batch = of_stage[start : start + _BATCH]
            yield from map(CaseResult, batch, _verdicts(guard, stage, batch))


def _verdicts(guard: Guard, stage: Stage, cases: Sequence[PolicyCase]) -> list[Verdict]:
    if stage == "prompt":
        return guard.screen_prompts([case.prompt or "" for case in cases])
    if stage == "image":
        return guard.screen_images([case.path or Path() for case in cases])
    return guard.screen_pairs([(case.prompt or "", case.path or Path()) for case in cases])


def _case(path: Path, number: int, line: bytes) -> PolicyCase:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path}, line {number} is not valid JSON; correct it there.") from error
    try:
        return _read(path.parent, number, row)
    except RequestError as error:
        raise RequestError(f"{path}, line {number}: {error}.") from error


def _read(folder: Path, number: int, row: object) -> PolicyCase:
    if not isinstance(row, dict) or not {"prompt", "path"} & row.keys() or "expect" not in row:
        raise RequestError('a case is an object with "expect" and a "prompt", a "path" or both')
    if unknown := sorted(row.keys() - {"id", "prompt", "path", "expect"}):
        raise RequestError(
            unknown_name("key of a case", unknown[0], ("prompt", "path", "expect", "id")).rstrip(".")
        )
    prompt, image = row.get("prompt"), row.get("path")
    if not all(value is None or isinstance(value, str) for value in (prompt, image)):
        raise RequestError('"prompt" and "path" must be text')
    return PolicyCase(
        number, Expectation.of(row["expect"]), prompt, folder / image if image is not None else None
    )
