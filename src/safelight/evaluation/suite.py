"""Suites: prompts with what their pictures must show."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One prompt. Every label of ``expects`` must be seen, and one of ``any_of`` unless that is empty.

    ``style`` and ``place`` are None where the prompt names none. ``tags`` group cases in the rates:
    "single", "label:knife".
    """

    id: str
    prompt: str
    expects: frozenset[str] = frozenset()
    any_of: frozenset[str] = frozenset()
    style: str | None = None
    place: str | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Suite:
    """Cases in the order they are asked; ids are unique."""

    name: str
    seed: int
    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        if len({case.id for case in self.cases}) < len(self.cases):
            raise ValueError(f'two cases of the suite "{self.name}" have one id')

    @property
    def digest(self) -> str:
        """sha256 of ids, prompts and expectations: two suites of one digest ask the same."""
        return hashlib.sha256("\n".join(map(_line, self.cases)).encode()).hexdigest()


def _line(case: Case) -> str:
    sets = (sorted(labels) for labels in (case.expects, case.any_of, case.tags))
    return repr((case.id, case.prompt, *sets, case.style, case.place))
