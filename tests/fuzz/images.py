"""Damaged and hostile images, screened by a filter that costs nothing, each within 2 s and 300 MiB.

python -m fuzz.images [--count 5000] [--seed 0] [--cheap] [--only NAME]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from fuzz.hostile_images import hostile
from fuzz.image_seeds import seeds
from fuzz.measuring import Measured, Worker
from fuzz.mutations import mutations

CPU_S, MEMORY_MIB = 2.0, 300.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one file of one ``kind`` needed."""

    kind: str
    name: str
    size: int
    measured: Measured


def screen(data: bytes) -> str:
    """Screen one image; "allow", or the reason why it was blocked, which is that it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (verdict,) = _guard().screen_images([data])
    if verdict.action == "allow":
        assert "never" in verdict.filters
        return "allow"
    assert verdict.action == "block"
    (reason,) = verdict.reasons
    return reason


@cache
def _guard():  # type: ignore[no-untyped-def]  # imported in the process that works only
    from safelight import registry
    from safelight.guard.guard import Guard
    from safelight.policy import Policy

    return Guard(Policy.load("storybook"), {"image": [registry.bind("image_filter", "never")]})


def files(count: int, seed: int, cheap: bool, only: str = "") -> Iterator[tuple[str, str, bytes]]:
    """Kind, name and bytes of ``count`` mutated files and of the hostile ones."""
    for case in hostile():
        if (case.cheap or not cheap) and only in f"{case.kind} {case.name}":
            yield case.kind, case.name, case.build()
    kinds = seeds()
    share = -(-count // len(kinds))
    for place, (kind, examples) in enumerate(kinds.items()):
        for number, data in enumerate(mutations(examples, share, seed + place)):
            if only in f"{kind} mutated {number}":
                yield kind, f"mutated {number}", data


def measure(chosen: Iterable[tuple[str, str, bytes]]) -> Iterator[Result]:
    """Screen each of the files in a process of its own."""
    warm = [data for examples in seeds().values() for data in examples]
    with Worker(screen, warm) as worker:
        for kind, name, data in chosen:
            yield Result(kind, name, len(data), _least(worker, data))


def _least(worker: Worker, data: bytes) -> Measured:
    """The least of three measurements of a file that takes too long once: other programs slow the cores."""
    measured = worker.measure(data)
    if measured.cpu_s <= CPU_S:
        return measured
    return min(measured, *(worker.measure(data) for _ in range(2)), key=lambda each: each.cpu_s)


def too_much(result: Result, cpu_s: float = CPU_S, memory_mib: float = MEMORY_MIB) -> bool:
    measured = result.measured
    return bool(measured.failure) or measured.cpu_s > cpu_s or measured.memory_mib > memory_mib


def _table(results: list[Result]) -> Iterator[str]:
    yield "kind    files  allowed    CPU s  memory MiB   slowest / largest"
    for kind in sorted({each.kind for each in results}):
        mine = [each for each in results if each.kind == kind]
        slowest = max(mine, key=lambda each: each.measured.cpu_s)
        largest = max(mine, key=lambda each: each.measured.memory_mib)
        allowed = sum(each.measured.outcome == "allow" for each in mine)
        yield (
            f"{kind:6}{len(mine):7}{allowed:9}{slowest.measured.cpu_s:9.2f}{largest.measured.memory_mib:12.0f}"
            f"   {slowest.name} / {largest.name}"
        )


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000, help="number of mutated files")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument("--cheap", action="store_true", help="only hostile files that are made quickly")
    parser.add_argument("--only", default="", help="only files whose kind and name have this text")
    parser.add_argument("--verbose", action="store_true", help="a line for every hostile file")
    options = parser.parse_args()
    results = []
    for result in measure(files(options.count, options.seed, options.cheap, options.only)):
        results.append(result)
        hostile_one = not result.name.startswith("mutated")
        if too_much(result) or (options.verbose and hostile_one):
            _say(f"{result.kind} {result.name} ({result.size:,} bytes): {result.measured}")
    _say(*_table(results))
    mutated = sum(each.name.startswith("mutated") for each in results)
    failed = sum(map(too_much, results))
    _say(f"{mutated:,} mutated and {len(results) - mutated:,} hostile files; {failed} over the limits.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
