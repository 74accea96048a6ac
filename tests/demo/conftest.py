"""Demo items made by hand: the storybook policy judges findings that a test chooses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from PIL import Image

from safelight.demo.item import DemoItem, Truth
from safelight.demo.prompts import DemoPrompt
from safelight.policy import Policy
from safelight.types import Action, Box, FilterRun, Finding, Span


@pytest.fixture(scope="session")
def storybook() -> Policy:
    return Policy.load("storybook")


@pytest.fixture
def item(storybook: Policy) -> Callable[..., DemoItem]:
    """Make an item; ``words`` and ``things`` are what the filters find in its prompt and image."""

    def make(
        text: str = "a dog",
        *,
        words: tuple[str, ...] = (),
        things: tuple[str, ...] = (),
        harms: tuple[str, ...] = (),
        asked: bool = False,
        why: str = "because",
    ) -> DemoItem:
        def span(word: str) -> Span:
            return Span(text.index(word), text.index(word) + len(word), word)

        box, runs = Box(0.1, 0.2, 0.6, 0.7), {"one": FilterRun("1", 2.5)}
        found = [Finding(word, 1.0, "words", span(word)) for word in words]
        verdicts = [storybook.judge("prompt", found, filters=runs)]
        if verdicts[0].action < Action.BLOCK:
            seen = [Finding(thing, 0.9, "eyes", box) for thing in things]
            verdicts.append(storybook.judge("image", seen, filters=runs, subject="image"))
        image = Image.new("RGB", (64, 64), "green")
        released = image if all(v.action < Action.BLUR for v in verdicts) else None
        truth = Truth(("dog", *things), (), harms)
        prompt = DemoPrompt(text, why, asked)
        leaked = harms if released else ()
        return DemoItem(prompt, 7, image, released, tuple(verdicts), truth, leaked, 1200.0)

    return make
