"""Filters that many threads use at once say what they say to one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from safelight.filters.text import folding
from safelight.filters.text.classifier import PromptClassifier
from safelight.filters.text.lexicon import Lexicon

_THREADS, _PROMPTS = 16, 50


def _prompts() -> list[str]:
    """Of every kind that is read in a way of its own."""
    rng = random.Random(3)
    units = [
        "a dog",
        "kn1fe",
        "k n i f e",
        "🔪",
        "ᎶᏬᏁ",
        "holdingAknife",
        "g&#117;n",
        "\u202enug\u202c",
        "knnife",
    ]
    letters = [chr(rng.randrange(0x20, 0x3000)) for _ in range(200)]
    return [" ".join(rng.choices(units, k=5)) + "".join(rng.choices(letters, k=9)) for _ in range(_PROMPTS)]


def _at_once(work: Callable[[], Any], threads: int = _THREADS) -> list[Any]:
    """Return the results of threads that start at the same time."""
    start = Barrier(threads)

    def wait_and_work() -> Any:
        start.wait()
        return work()

    with ThreadPoolExecutor(threads) as pool:
        return [task.result() for task in [pool.submit(wait_and_work) for _ in range(threads)]]


def _one_by_one(find: Callable[[Sequence[str]], Sequence[Any]], prompts: Sequence[str]) -> list[Any]:
    return [find([prompt])[0] for prompt in prompts]


@pytest.fixture(params=["lexicon", "classifier"])
def filter_(request: pytest.FixtureRequest, knives: Path) -> Any:
    return Lexicon("storybook") if request.param == "lexicon" else PromptClassifier(knives)


def test_sixteen_threads_find_what_one_does(filter_: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        folding, "_CACHE_SIZE", 250
    )  # so that the table of letters is emptied again and again
    prompts = _prompts()
    alone = _one_by_one(filter_.find, prompts)
    assert sum(map(bool, alone)) > 10
    assert all(found == alone for found in _at_once(lambda: _one_by_one(filter_.find, prompts)))


def test_a_filter_may_be_used_first_by_many_threads(knives: Path) -> None:
    prompts = _prompts()[:5]
    for make in (lambda: Lexicon("storybook"), lambda: PromptClassifier(knives)):
        results = _at_once(partial(make().find, prompts))
        alone = make().find(prompts)
        assert all(found == alone for found in results)


def test_filters_may_be_made_by_many_threads() -> None:
    prompts = _prompts()[:5]
    results = _at_once(lambda: Lexicon("storybook").find(prompts), threads=4)
    assert all(found == results[0] for found in results)
