"""Ray: the same workers on all machines of a cluster, fed by Ray Data."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from safelight.alignment.training_data.engines.local import Tell
from safelight.alignment.training_data.sample import Shard
from safelight.alignment.training_data.worker import Task, Worker
from safelight.errors import MissingExtraError, RequestError, SafelightError, first_line

# So many shards for each worker that it matters little who has the last ones.
_MANY = 10


class _Actor:
    """One worker of the cluster. What kills its process is dealt with there, a lost machine by Ray."""

    def __init__(self, task: Task) -> None:
        self._worker = Worker(task)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["number"])
        return {"number": number, "samples": self._worker.screen(number, row["shard"], lambda _: None)}


def run_ray(
    task: Task, shards: Mapping[int, Shard], workers: int, tell: Tell, address: str | None = None
) -> None:
    """As ``run_local``, with actors of the cluster at ``address``, or of one that is started here and stopped
    again; told after every shard.

    All machines must see the folder of ``task`` and the data. Ray's object store holds no image, only which
    files and rows a shard is of, and counts.
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
                tell(row["number"], row["samples"])
        except ray.exceptions.RayError as error:
            raise _cause(error) from error


def _in_flight(shards: int, workers: int) -> int:
    """The next shard waits where this one is screened, and nobody waits for Ray; unless there are so few that
    the actor that is ready first would take what the others could begin with.
    """
    return 2 if shards >= _MANY * workers else 1


@contextmanager
def _cluster(address: str | None, workers: int) -> Iterator[Any]:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("The engine ray", "data") from error
    begun = not ray.is_initialized()
    if begun:
        address = address or os.environ.get("RAY_ADDRESS")
        _check_listening(address)
        quiet = {"log_to_driver": False, "logging_level": logging.WARNING}
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.init(address, num_cpus=None if address else workers, include_dashboard=False, **quiet)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield ray
    finally:
        if begun:
            ray.shutdown()


def _check_listening(address: str | None) -> None:
    """Ray itself tries for minutes, and then ends the program."""
    host, colon, port = (address or "").rpartition(":")
    if not colon:  # none, or a word of Ray's
        return
    try:
        with socket.create_connection((host.rpartition("//")[2], int(port)), timeout=10):
            return
    except (OSError, ValueError) as error:
        raise RequestError(f"there is no Ray cluster at {address}: {first_line(error)}.") from error


def _cause(error: BaseException | None) -> SafelightError:
    """What a worker said; else what Ray says."""
    told = error
    while error is not None:
        if isinstance(error, SafelightError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return RequestError(f"Ray could not finish: {told}")
