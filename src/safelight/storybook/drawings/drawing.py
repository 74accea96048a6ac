"""What every object of the world is: a function that draws itself with a pen and a look."""

from __future__ import annotations

from collections.abc import Callable

from safelight.storybook.look import Look
from safelight.storybook.pen import Pen

Drawing = Callable[[Pen, Look], None]
