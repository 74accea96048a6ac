"""The filters of one stage, which are built once, on first use, and shared by several screens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from safelight.errors import FilterError, SafelightError
from safelight.screening.filter_threads import FilterThreads

Builder = Callable[[], Any]


class FilterSet:
    """A lazily built set of filters; each of ``builders`` builds one, cheapest first.

    The builders are called once, on first use, however many threads use the set at the same time.
    """

    def __init__(self, builders: Sequence[Builder]) -> None:
        self.builders = tuple(builders)
        self._threads: dict[str, FilterThreads] = {}
        self._lock = threading.Lock()
        self._loading: Future[dict[str, Any]] | None = None

    def __deepcopy__(self, memo: object) -> FilterSet:
        """Return the same set, since filters may be large and have state that cannot be copied."""
        return self

    def load(self) -> dict[str, Any]:
        """Return the filters by instance name. Raises ``FilterError`` if two have the same name.

        If several threads call this first, one of them builds the filters and the others wait. An error is
        raised in all of these threads, and the next call tries again.
        """
        with self._lock:
            is_builder = self._loading is None
            loading = self._loading = self._loading or Future()
        if is_builder:
            try:
                loading.set_result(self._build())
            except BaseException as error:  # noqa: BLE001 - raised below
                self._loading = None
                loading.set_exception(error)
        return loading.result()

    def threads(self, name: str) -> FilterThreads:
        """Return the thread pool in which calls of a filter run."""
        return self._threads[name]

    def _build(self) -> dict[str, Any]:
        filters = dict(map(_build_filter, self.builders))
        if len(filters) < len(self.builders):
            raise FilterError("two filters of one stage have the same name; rename one of them.")
        self._threads = {name: FilterThreads() for name in filters}
        return filters


def _build_filter(build: Builder) -> tuple[str, Any]:
    """Build a filter and return its name and itself.

    Raises ``FilterError`` if it has no name or its constructor raises any error that is not safelight's.
    """
    try:
        each = build()
        if not isinstance(each.name, str):
            raise TypeError(f"its name is {each.name!r}")
        return each.name, each
    except SafelightError:
        raise
    except Exception as error:
        raise FilterError(
            f"a filter cannot be built ({describe_error(error)}); correct or remove it."
        ) from error


def describe_error(error: Exception) -> str:
    """Return the type and message of an error, or only its type if ``str`` fails on it."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - ``__str__`` of a third-party error may raise
        return type(error).__name__
