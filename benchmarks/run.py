"""Runs the benchmarks named (all of them if none is) and writes results/NAME.json beside this file.

python benchmarks/run.py [speed] [text_filter] [image_filter] [concept_filter] [known_images] [autoencoder]
    [guidance] [erasing] [memory] [aligned_encoder] [cleaning]
    [cleaning_memory] [cleaning_speed] [nudenet_memory] [general_images] [serving]
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from safelight.evaluation.results import write_results

BENCHMARKS = (
    "speed",
    "text_filter",
    "known_images",
    "image_filter",
    "autoencoder",
    "concept_filter",
    "guidance",
    "erasing",
    "memory",
    "aligned_encoder",
    "cleaning",
    "cleaning_memory",
    "cleaning_speed",
    "nudenet_memory",
    "general_images",
    "serving",
)
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> None:
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            sys.exit(f'there is no benchmark "{name}"; there are {", ".join(BENCHMARKS)}.')
        # Not before it is needed: processes that are started import what this one has at its top.
        run, figures = import_module(name).measure()
        write_results(RESULTS / f"{name}.json", f"python benchmarks/run.py {name}", run, {}, figures)
        for figure, value in figures.items():
            sys.stdout.write(f"{name}: {figure}  {value:.4g}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
