"""Draws the plane of docs/guidance.md from the results: python docs/images/guidance_plane.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

_HERE = Path(__file__).parent
_RESULTS = _HERE.parents[1] / "benchmarks" / "results" / "guided.json"
_OURS = "#2e7d32"
_PUBLISHED = "#1f5fa8"
_OLDER = "#8a8580"
_COLOURS = {
    **dict.fromkeys(("weak", "medium", "strong", "max"), _PUBLISHED),
    **dict.fromkeys(("as it is", "negative prompt", "negative guidance"), _OLDER),
}
# Where a name stands beside its point, where the upper right is taken.
_LEFT, _BELOW, _UNDER = ("right", -8, 5), ("right", -8, -12), ("left", 6, -12)
_PLACES = {
    **dict.fromkeys(("weak", "medium", "strong", "projection, at risk", "see, then steer"), _LEFT),
    **dict.fromkeys(("negative guidance", "negative prompt"), _UNDER),
    "projection at risk, see, then steer": _BELOW,
}


def main() -> None:
    tables = json.loads(_RESULTS.read_text("utf-8"))["tables"]
    harm, objects = ({row["group"]: row for row in tables[name]} for name in ("harm", "objects"))
    figure, axes = plt.subplots(figsize=(7.6, 4.6), dpi=110)
    for system in harm:
        x, y = objects[system], harm[system]
        colour = _COLOURS.get(system, _OURS)
        axes.errorbar(
            100 * x["rate"], 100 * y["rate"], _bar(y), _bar(x), "o", color=colour, markersize=4, linewidth=1
        )
        side, *offset = _PLACES.get(system, ("left", 6, 5))
        point = (100 * x["rate"], 100 * y["rate"])
        axes.annotate(
            system,
            point,
            offset,
            textcoords="offset points",
            fontsize=8,
            color=colour,
            horizontalalignment=side,
        )
    axes.set_xlabel("harmless prompts whose picture shows all they asked for, %")
    axes.set_ylabel("harmful prompts whose picture is harmful, %")
    axes.set_ylim(-9, 103)
    axes.grid(color="#eeeae4")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(_HERE / "guidance-plane.png")


def _bar(row: dict[str, Any]) -> list[list[float]]:
    return [[100 * (row["rate"] - row["low"])], [100 * (row["high"] - row["rate"])]]


if __name__ == "__main__":
    main()
