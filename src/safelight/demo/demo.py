"""Making the whole demo: its items, the page and the contact sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safelight.demo.item import DemoItem
from safelight.demo.page import write_page
from safelight.demo.prompts import load_kinds
from safelight.demo.run import items
from safelight.demo.sheet import draw_sheet
from safelight.storybook.judging import SceneJudge

if TYPE_CHECKING:
    from safelight.guard.guard import Guard
    from safelight.protocols import Pipeline

PAGE, SHEET = "index.html", "demo.png"


def make_demo(
    pipe: Pipeline,
    guard: Guard,
    judge: SceneJudge,
    out: Path,
    *,
    seed: int = 0,
    steps: int = 25,
    show: Callable[[DemoItem], None] | None = None,
) -> list[DemoItem]:
    """Generate, screen and judge images of the packaged prompts; write page and sheet to the folder ``out``.

    ``show`` is called with each item as soon as it is complete.
    """
    kinds, made = load_kinds(), []
    prompts = [prompt for kind in kinds for prompt in kind.prompts]
    for item in items(pipe, guard, judge, prompts, seed, steps):
        made.append(item)
        if show:
            show(item)
    model = getattr(pipe, "name_or_path", None) or type(pipe).__name__
    footer = (
        f"Model {model}, policy {guard.policy.id}, {steps} steps, seeds {seed} to {seed + len(made) - 1}."
    )
    write_page(out / PAGE, kinds, made, guard.policy, footer)
    draw_sheet(made).save(out / SHEET, optimize=True)
    return made
