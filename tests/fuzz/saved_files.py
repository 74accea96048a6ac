"""Damaged deltas and journals: each is read, or refused in one sentence.

python -m fuzz.saved_files [--count 5000] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz.mutations import mutations
from safelight.alignment.delta.delta import Delta
from safelight.errors import ModelError
from safelight.safe_training.cleaning.findings import Screened
from safelight.safe_training.cleaning.journal import Journal
from safelight.types import Box, FilterFindings, FilterRun, Finding

ABOUT = {"method": "test", "concepts": ["a gun"], "base": "tiny", "base_sha256": {"unet": "0" * 64}}


def a_delta(folder: Path) -> bytes:
    import torch
    from safetensors.torch import save_file

    tensors = {"unet.a.weight": torch.ones(2, 2).half(), "unet.a.bias": torch.ones(2)}
    save_file(tensors, folder / "delta", {"format": "1", "safelight": json.dumps(ABOUT)})
    return (folder / "delta").read_bytes()


def load_delta(path: Path) -> str:
    try:
        delta = Delta.load(path)
    except ModelError:
        return "refused"
    assert all(tensor.isfinite().all() for tensor in delta.tensors.values())
    return "read"


def a_journal(folder: Path) -> bytes:
    red = Finding("red", 0.5, "colours", Box(0.1, 0.2, 0.3, 0.4))
    found = FilterFindings((red,), {"f": FilterRun("1", 2.0, "late")}, None, 3)
    row = Screened("a", "k", "0", None, {"image": (found,)}, "ff", ("women",)).to_row()
    with Journal(folder / "journal") as journal:
        for _ in range(3):
            journal.add([row, row])
            journal.add_death()
    return (folder / "journal").read_bytes()


def read_journal(path: Path) -> str:
    """All rows before the damage are there, and each can be judged."""
    with Journal(path) as journal:
        rows = list(journal.read())
        assert len(rows) == journal.rows
    for row in rows:
        Screened.of_row(row)
    return f"{len(rows)} rows"


KINDS: dict[str, tuple[Callable[[Path], bytes], Callable[[Path], str]]] = {
    "delta": (a_delta, load_delta),
    "journal": (a_journal, read_journal),
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="damaged files of each kind")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for kind, (make, read) in KINDS.items():
            outcomes: Counter[str] = Counter()
            for number, data in enumerate(mutations([make(folder)], chosen.count, chosen.seed)):
                (folder / "damaged").write_bytes(data)
                try:
                    outcomes[read(folder / "damaged")] += 1
                except Exception as error:
                    error.add_note(f"This is {kind} {number} of seed {chosen.seed}: {data!r}")
                    raise
            told = ", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items()))
            sys.stdout.write(f"{kind}: {told}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
