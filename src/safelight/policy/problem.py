"""What is wrong with a policy, said of the line where it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """``file`` and ``line`` are None where the sentence is of no line, or names it itself."""

    sentence: str
    file: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.sentence}" if self.file else self.sentence
