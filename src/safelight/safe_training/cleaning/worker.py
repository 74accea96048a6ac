"""A worker process that screens shards and is restarted when a sample crashes it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from safelight.concurrency.thread_count import limit_to_one_thread
from safelight.errors import RequestError, SafelightError
from safelight.hashing.pdq import PdqHasher
from safelight.safe_training.cleaning.caption_groups import CaptionGroups
from safelight.safe_training.cleaning.journal import Journal
from safelight.safe_training.cleaning.sample import Shard
from safelight.safe_training.cleaning.shard_screening import (
    HOPELESS,
    Screens,
    ShardScreening,
    give_up,
    journal_of,
)
from safelight.storage.atomic_write import write_error_message

# A batch takes seconds; a worker that reports nothing for so long is killed.
_PATIENCE_S = 900.0

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Task:
    """The settings of a worker: how to build the screens, the folder for findings, and the caption groups.

    With ``hashed``, perceptual hashes of the images are stored, to find near duplicates.
    """

    screens: Callable[[], Screens]
    folder: Path
    groups: CaptionGroups = field(default_factory=CaptionGroups.load)
    hashed: bool = False

    def screening(self) -> ShardScreening:
        return ShardScreening(self.screens(), self.folder, self.groups, PdqHasher() if self.hashed else None)


class Worker:
    """One process, started when there is work and restarted whenever it dies."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._process: Any = None
        self._link: Connection | None = None
        self._stopped = False

    def stop(self) -> None:
        """Stop at once and for good, from any thread; completed batches are kept."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def screen(self, number: int, shard: Shard, progress: Progress) -> int:
        """Screen a shard, reporting progress, and return its number of samples.

        Raises ``RequestError`` when it is stopped, and for errors that a retry would not change, such as a
        full disk or an unknown filter.
        """
        while not self._stopped:
            link = self._ready()
            if self._stopped:  # while the process started
                self.stop()
            try:
                link.send((number, shard))
                return _followed(link, "finished", progress)
            except (EOFError, OSError):
                if self._record_death(number) >= HOPELESS:
                    return self._give_up(number, shard, progress)
        raise RequestError("the run was stopped; the same command resumes it.")

    def _ready(self) -> Connection:
        if self._process is None or self._link is None:
            context = get_context("spawn")
            self._link, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._task), daemon=True)
            self._process.start()
            theirs.close()
            try:
                _followed(self._link, "ready", lambda _: None)
            except (EOFError, OSError):
                raise RequestError("a worker dies before it begins; is there memory left?") from None
        return self._link

    def _record_death(self, number: int) -> int:
        """Record a worker's death, and return how often workers died since the last completed batch."""
        self._process.kill()
        self._process.join()
        self._process = self._link = None
        if self._stopped:
            return 0
        with Journal(journal_of(self._task.folder, number)) as journal:
            journal.add_death()
            return journal.deaths

    def _give_up(self, number: int, shard: Shard, progress: Progress) -> int:
        try:
            samples = give_up(self._task.folder, number, shard)
        except OSError as error:
            raise RequestError(write_error_message(error.filename or "the findings", error)) from error
        progress(samples)
        return samples


def _followed(link: Connection, end: str, progress: Progress) -> int:
    """Report progress until the worker sends ``end``. Raises ``EOFError`` if it dies or falls silent."""
    while link.poll(_PATIENCE_S):
        message, value = link.recv()
        if message == "failed":
            raise RequestError(str(value))
        if message == end:
            return int(value)
        progress(int(value))
    raise EOFError


def _serve(link: Connection, task: Task) -> None:
    """Screen shards until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_to_one_thread()
    try:
        screening = task.screening()
        link.send(("ready", 0))
        while True:
            number, shard = link.recv()
            done = 0
            for done in screening.screen(number, shard):
                link.send(("done", done))
            link.send(("finished", done))
    except (EOFError, BrokenPipeError):
        return
    except SafelightError as error:
        link.send(("failed", str(error)))
    except OSError as error:
        link.send(("failed", write_error_message(error.filename or "the findings", error)))
