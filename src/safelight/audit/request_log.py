"""The log of requests: one structured record each, for the logger "safelight.request" and for observers."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from safelight.audit.audit_log import AuditTrail, ObservedRequest
from safelight.errors import first_line
from safelight.policy import Policy

Record = dict[str, Any]
Observer = Callable[[Record], object]

_LOGGER = logging.getLogger("safelight.request")
# Nothing is printed, not even errors, unless the application adds a handler.
logging.getLogger("safelight").addHandler(logging.NullHandler())


class RequestLog:
    """Sends the record of every finished request to the log and to the observers of a guard.

    Neither can change the outcome of the request: exceptions that they raise are logged. No record is
    computed if there is neither a log handler nor an observer.
    """

    def __init__(self, policy: Policy, observers: Sequence[Observer] = ()) -> None:
        self.observers = tuple(observers)
        self._policy = policy.id
        self._trail = AuditTrail(policy.log)

    def under(self, policy: Policy | None) -> RequestLog:
        """Return a log with the same observers for requests under another policy; this log for None."""
        return RequestLog(policy, self.observers) if policy else self

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` with a copy of the record after each request, in the request's thread."""
        self.observers = (*self.observers, observer)

    @contextmanager
    def watch(
        self, event: str, prompts: Any = (), arguments: Mapping[str, Any] | None = None
    ) -> Iterator[ObservedRequest]:
        """Record the request that the block carries out, or the error that leaves it."""
        request = ObservedRequest(event, prompts, arguments or {})
        try:
            with _measured(request):
                yield request
        finally:
            self._tell(request)

    @asynccontextmanager
    async def watch_async(
        self, event: str, prompts: Any = (), arguments: Mapping[str, Any] | None = None
    ) -> AsyncIterator[ObservedRequest]:
        """Record the request as ``watch`` does, without blocking the event loop.

        Images are hashed, and observers are called, in another thread.
        """
        request = ObservedRequest(event, prompts, arguments or {})
        try:
            with _measured(request):
                yield request
        finally:
            if self._listeners():
                await asyncio.to_thread(self._tell, request)

    def _listeners(self) -> tuple[Observer, ...]:
        logged = (_log,) if _LOGGER.isEnabledFor(logging.INFO) else ()
        return (*logged, *self.observers)

    def _tell(self, request: ObservedRequest) -> None:
        if not (listeners := self._listeners()):
            return
        try:
            record = self._trail.record(request, self._policy)
        except Exception as error:  # noqa: BLE001 - a request is not lost because of its record
            _LOGGER.error("request %s was not recorded: %s.", request.request_id, type(error).__name__)
            return
        for listener in listeners:
            _call(listener, copy.deepcopy(record))


@contextmanager
def _measured(request: ObservedRequest) -> Iterator[None]:
    """Measure how long the block takes, and store the error that it raises."""
    started = time.perf_counter()
    try:
        yield
    except BaseException as error:
        request.error = error
        raise
    finally:
        request.elapsed_ms = (time.perf_counter() - started) * 1000


class JsonFormatter(logging.Formatter):
    """Formats the record of a request, or the message of any other log record, as JSON on one line."""

    def format(self, record: logging.LogRecord) -> str:
        about = {"level": record.levelname, "logger": record.name}
        if isinstance(request := getattr(record, "record", None), dict):
            return _json({**about, **request})
        if record.exc_info:
            about["exception"] = self.formatException(record.exc_info)
        return _json({**about, "time": self.formatTime(record), "message": record.getMessage()})


def _log(record: Record) -> None:
    _LOGGER.info("%s", _json(record), extra={"record": record})


def _call(listener: Observer, record: Record) -> None:
    """Call a listener and log its failure.

    The traceback is left out, because it would show the request's own error, which may quote a prompt.
    """
    try:
        listener(record)
    except Exception as error:  # noqa: BLE001 - an observer never changes the outcome
        name = getattr(listener, "__qualname__", type(listener).__name__)
        _LOGGER.error("the observer %s failed: %s: %s", name, type(error).__name__, first_line(error))


def _json(value: Record) -> str:
    return json.dumps(value, separators=(",", ":"))
