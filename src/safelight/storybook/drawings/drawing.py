"""The type of a drawing: a function that draws an object with a pen and a look."""

from __future__ import annotations

from collections.abc import Callable

from safelight.storybook.look import Look
from safelight.storybook.pen import Pen

Drawing = Callable[[Pen, Look], None]
