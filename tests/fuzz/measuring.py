"""Runs inputs in another process and says what each needed: time of the CPU, and memory on top."""

from __future__ import annotations

import ctypes
import gc
import json
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

# An input that takes so long ends the process that works on it.
_PATIENCE_S = 600
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

Run = Callable[[bytes], str]
"""Tries one input and says what came of it; raises for what must not happen."""


@dataclass(frozen=True, slots=True)
class Measured:
    """``outcome`` is what ``Run`` said, ``failure`` why it raised, or "" if it did not."""

    outcome: str
    failure: str
    cpu_s: float
    wall_s: float
    memory_mib: float


class Worker:
    """A process that calls ``run`` with one input after the other; a new one after it died.

    ``run`` is a function of a module, and ``warm`` inputs that load what it needs before anything counts.
    """

    def __init__(self, run: Run, warm: list[bytes]) -> None:
        self._run, self._warm = run, warm
        self._process: multiprocessing.process.BaseProcess | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def measure(self, data: bytes) -> Measured:
        if self._process is None:
            self._start()
            for each in self._warm:
                self._ask(each)
        return self._ask(data)

    def _ask(self, data: bytes) -> Measured:
        started = time.perf_counter()
        try:
            self._connection.send_bytes(data)
            if self._connection.poll(_PATIENCE_S):
                return Measured(**json.loads(self._connection.recv_bytes()))
            failure = f"took longer than {_PATIENCE_S} s"
        except (EOFError, ConnectionError):
            failure = "ended the process"
        self._end()
        waited = time.perf_counter() - started
        return Measured("", failure, waited, waited, 0.0)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, self._run), daemon=True)
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None


def _work(connection: Connection, run: Run) -> None:
    while True:
        try:
            data = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(json.dumps(_measured(run, data)).encode())


def _measured(run: Run, data: bytes) -> dict[str, object]:
    gc.collect()
    gc.freeze()  # the next collection looks only through what this input leaves behind
    # What was freed goes back to the system, so that every input starts from the same memory.
    ctypes.CDLL(None).malloc_trim(0)
    _RESET.write_text("5")  # the highest resident memory so far is what there is now
    before, cpu, wall = _kibibytes("VmRSS"), time.process_time(), time.perf_counter()
    outcome = failure = ""
    try:
        outcome = run(data)
    except BaseException as error:  # noqa: BLE001 - said to whoever measures
        failure = f"{type(error).__name__}: {error}"[:500]
    return {
        "outcome": outcome,
        "failure": failure,
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "memory_mib": max(0, _kibibytes("VmHWM") - before) / 1024,
    }


def _kibibytes(name: str) -> int:
    (line,) = (line for line in _STATUS.read_text("utf-8").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
