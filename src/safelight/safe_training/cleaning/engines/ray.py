"""The Ray engine: workers on all machines of a cluster, scheduled by Ray Data."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from safelight.errors import MissingExtraError, RequestError, SafelightError, first_line
from safelight.safe_training.cleaning.engines.local import Progress
from safelight.safe_training.cleaning.sample import Shard
from safelight.safe_training.cleaning.worker import Task, Worker

# With this many shards per worker, it matters little which workers get the last ones.
_MANY = 10


class _Actor:
    """One worker of the cluster. The worker restarts its own process; Ray handles lost machines."""

    def __init__(self, task: Task) -> None:
        self._worker = Worker(task)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["number"])
        return {"number": number, "samples": self._worker.screen(number, row["shard"], lambda _: None)}


def run_ray(
    task: Task, shards: Mapping[int, Shard], workers: int, progress: Progress, address: str | None = None
) -> None:
    """Screen ``shards`` as ``run_local`` does, with actors of a Ray cluster; reports after every shard.

    Without an ``address`` a cluster is started on this machine and stopped again. All machines must have
    access to the folder of ``task`` and to the data. Ray's object store never holds images, only the files
    and rows of shards, and counts.
    """
    if not shards:
        return
    with _cluster(address, workers) as ray:
        rows = [{"number": number, "shard": shard} for number, shard in shards.items()]
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Actor,
            fn_constructor_args=(task,),
            compute=ray.data.ActorPoolStrategy(
                size=min(workers, len(rows)), max_tasks_in_flight_per_actor=_in_flight(len(rows), workers)
            ),
            num_cpus=1,
        )
        try:
            for row in done.iter_rows():
                progress(row["number"], row["samples"])
        except ray.exceptions.RayError as error:
            raise _cause(error) from error


def _in_flight(shards: int, workers: int) -> int:
    """Return how many shards an actor holds at once.

    With two, the next shard is there when one is done. With few shards that would let the first actor take
    shards that others could start with, so then it is one.
    """
    return 2 if shards >= _MANY * workers else 1


@contextmanager
def _cluster(address: str | None, workers: int) -> Iterator[Any]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("The engine ray", "data") from error
    starts = not ray.is_initialized()
    if starts:
        address = address or os.environ.get("RAY_ADDRESS")
        _check_listening(address)
        quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.init(address, num_cpus=None if address else workers, include_dashboard=False, **quiet)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
    finally:
        if starts:
            ray.shutdown()


def _check_listening(address: str | None) -> None:
    """Check that something listens; Ray itself would try for minutes, and then exit the program."""
    host, colon, port = (address or "").rpartition(":")
    if not colon:  # no address, or a keyword of Ray such as "auto"
        return
    try:
        with socket.create_connection((host.rpartition("//")[2], int(port)), timeout=10):
            return
    except (OSError, ValueError) as error:
        raise RequestError(f"there is no Ray cluster at {address}: {first_line(error)}.") from error


def _cause(error: BaseException | None) -> SafelightError:
    """Return the worker's error if there is one among the causes, otherwise Ray's."""
    raised = error
    while error is not None:
        if isinstance(error, SafelightError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return RequestError(f"Ray could not finish: {raised}")
