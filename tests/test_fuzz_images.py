"""The small version of ``make fuzz``: damaged and hostile images, each decoded and screened within bounds."""

from __future__ import annotations

import sys

import pytest

from fuzz.hostile_images import hostile
from fuzz.images import files, measure, too_much
from fuzz.mutations import mutations

linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
# Time of the CPU, not of the clock; and five times of what make fuzz allows, for slow and busy machines.
CPU_S, MEMORY_MIB = 10.0, 300.0


@linux
def test_damaged_and_hostile_images_are_judged_or_blocked_within_bounds() -> None:
    results = list(measure(files(50, seed=1, cheap=True)))
    assert sum(each.name.startswith("mutated") for each in results) >= 50
    over = [
        f"{each.kind} {each.name}: {each.measured}" for each in results if too_much(each, CPU_S, MEMORY_MIB)
    ]
    assert not over
    assert any(each.measured.outcome == "allow" for each in results)
    assert any(each.measured.outcome != "allow" for each in results)


def test_make_fuzz_has_enough_hostile_files() -> None:
    cases = list(hostile())
    assert len({(case.kind, case.name) for case in cases}) == len(cases) >= 200


def test_mutations_are_the_same_for_the_same_seed() -> None:
    seeds = [bytes(range(64)), b"another file"]
    assert list(mutations(seeds, 50, 3)) == list(mutations(seeds, 50, 3)) != list(mutations(seeds, 50, 4))
