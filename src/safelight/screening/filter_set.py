"""The filters of one stage: built once, when first needed, and shared by the screens that use them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from safelight.errors import FilterError, SafelightError
from safelight.screening.filter_threads import FilterThreads

Builder = Callable[[], Any]


class FilterSet:
    """Each of ``builders`` makes one filter, cheapest first.

    They are called when first needed, once, however many threads need them at the same time.
    """

    def __init__(self, builders: Sequence[Builder]) -> None:
        self.builders = tuple(builders)
        self._threads: dict[str, FilterThreads] = {}
        self._lock = threading.Lock()
        self._loading: Future[dict[str, Any]] | None = None

    def __deepcopy__(self, memo: object) -> FilterSet:
        """A copy of a guard has the same filters: they may be large, and hold what cannot be copied."""
        return self

    def load(self) -> dict[str, Any]:
        """Return the filters by instance name. Raises ``FilterError`` if there are two of one name.

        Of several threads that need them first, one builds them and the others wait; an error is raised in
        all of these, and the next call tries again.
        """
        with self._lock:
            mine = self._loading is None
            loading = self._loading = self._loading or Future()
        if mine:
            try:
                loading.set_result(self._build())
            except BaseException as error:  # noqa: BLE001 - raised below
                self._loading = None
                loading.set_exception(error)
        return loading.result()

    def threads(self, name: str) -> FilterThreads:
        """Return the threads in which calls of a filter run."""
        return self._threads[name]

    def _build(self) -> dict[str, Any]:
        filters = dict(map(_built, self.builders))
        if len(filters) < len(self.builders):
            raise FilterError("two filters of one stage have the same name; rename one of them.")
        self._threads = {name: FilterThreads() for name in filters}
        return filters


def _built(build: Builder) -> tuple[str, Any]:
    """A filter and its name. Raises ``FilterError`` for one that has none, or fails in a way of its own."""
    try:
        each = build()
        if not isinstance(each.name, str):
            raise TypeError(f"its name is {each.name!r}")
        return each.name, each
    except SafelightError:
        raise
    except Exception as error:
        raise FilterError(f"a filter cannot be built ({said(error)}); correct or remove it.") from error


def said(error: Exception) -> str:
    """Return what kind of error it is and what it says, even if it fails to say so."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - it is somebody else's
        return type(error).__name__
