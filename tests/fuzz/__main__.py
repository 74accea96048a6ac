"""Fuzz every subject, each in a process of its own, and say what came of it.

python -m fuzz [--count N] [--seed 0] [SUBJECT …]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

_SUBJECTS = ("call_arguments", "chat_answers", "images", "policies", "prompts", "saved_files")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """``said`` is the last line that a subject printed."""

    subject: str
    status: int
    minutes: float
    said: str

    def __str__(self) -> str:
        end = "passed" if self.status == 0 else f"failed ({self.status})"
        return f"{self.subject:15} {end:12} {self.minutes:6.1f} min  {self.said}"


def _run(subject: str, options: Sequence[str]) -> _Outcome:
    sys.stdout.write(f"\n{subject}\n")
    sys.stdout.flush()
    started, said = time.monotonic(), ""
    command = [sys.executable, "-m", f"fuzz.{subject}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            said = line.strip()
    return _Outcome(subject, process.returncode, (time.monotonic() - started) / 60, said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"one of {', '.join(_SUBJECTS)}; all")
    parser.add_argument("--count", type=int, help="number of cases of each subject; the full size of each")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (0)")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.subjects) - set(_SUBJECTS)):
        parser.error(f"there is no subject {unknown[0]}; available: {', '.join(_SUBJECTS)}")
    options = [f"--seed={chosen.seed}", *([f"--count={chosen.count}"] if chosen.count else [])]
    outcomes = [_run(subject, options) for subject in chosen.subjects or _SUBJECTS]
    sys.stdout.write("".join(["\n", *(f"{outcome}\n" for outcome in outcomes)]))
    return int(any(outcome.status for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
