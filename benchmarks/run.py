"""Runs the benchmarks named (all of them if none is) and writes results/NAME.json beside this file.

python benchmarks/run.py [speed] [text_filter] [image_filter] [concept_filter] [known_images] [autoencoder]
    [guidance] [erasing] [memory] [aligned_encoder] [cleaning]
    [cleaning_memory] [cleaning_speed]
"""

from __future__ import annotations

import sys
from pathlib import Path

import aligned_encoder
import autoencoder
import cleaning
import cleaning_memory
import cleaning_speed
import concept_filter
import erasing
import guidance
import image_filter
import known_images
import memory
import speed
import text_filter
from safelight.evaluation.results import write_results

BENCHMARKS = {
    "speed": speed.measure,
    "text_filter": text_filter.measure,
    "known_images": known_images.measure,
    "image_filter": image_filter.measure,
    "autoencoder": autoencoder.measure,
    "concept_filter": concept_filter.measure,
    "guidance": guidance.measure,
    "erasing": erasing.measure,
    "memory": memory.measure,
    "aligned_encoder": aligned_encoder.measure,
    "cleaning": cleaning.measure,
    "cleaning_memory": cleaning_memory.measure,
    "cleaning_speed": cleaning_speed.measure,
}
RESULTS = Path(__file__).parent / "results"


def main(names: list[str]) -> None:
    for name in names or BENCHMARKS:
        if name not in BENCHMARKS:
            sys.exit(f'there is no benchmark "{name}"; there are {", ".join(BENCHMARKS)}.')
        run, figures = BENCHMARKS[name]()
        write_results(RESULTS / f"{name}.json", f"python benchmarks/run.py {name}", run, {}, figures)
        for figure, value in figures.items():
            sys.stdout.write(f"{name}: {figure}  {value:.4g}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
