"""A process that screens shards: what kills it costs a sample, never the work."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from safelight.alignment.training_data.caption_groups import CaptionGroups
from safelight.alignment.training_data.journal import Journal
from safelight.alignment.training_data.sample import Shard
from safelight.alignment.training_data.shard_screening import (
    HOPELESS,
    Screens,
    ShardScreening,
    give_up,
    journal_of,
)
from safelight.concurrency.thread_count import limit_to_one_thread
from safelight.errors import RequestError, SafelightError
from safelight.hashing.pdq import PdqHasher
from safelight.storage.atomic_write import write_error_message

# A batch takes seconds; a decoder that never returns is killed.
_PATIENCE_S = 900.0

Tell = Callable[[int], None]


@dataclass(frozen=True)
class Task:
    """How to make the screens, anywhere; where what they find is written; and the groups of captions.

    ``hashed`` images can be compared by what they look like.
    """

    screens: Callable[[], Screens]
    folder: Path
    groups: CaptionGroups = field(default_factory=CaptionGroups.load)
    hashed: bool = False

    def screening(self) -> ShardScreening:
        return ShardScreening(self.screens(), self.folder, self.groups, PdqHasher() if self.hashed else None)


class Worker:
    """One process, started when there is something to do, and again whenever it dies."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._process: Any = None
        self._link: Connection | None = None
        self._stopped = False

    def stop(self) -> None:
        """For good and at once, from any thread; what it has done is kept."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def screen(self, number: int, shard: Shard, tell: Tell) -> int:
        """Gives the number of samples, after telling how many are done.

        Raises ``RequestError`` for what no other try would change: a full disk, a filter that is not there;
        and when it is stopped.
        """
        while not self._stopped:
            link = self._ready()
            if self._stopped:  # meanwhile
                self.stop()
            try:
                link.send((number, shard))
                return _followed(link, "finished", tell)
            except (EOFError, OSError):
                if self._record_death(number) >= HOPELESS:
                    return self._give_up(number, shard, tell)
        raise RequestError("the work was stopped; the same command goes on with it.")

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
        """Gives how often workers died at this shard since they last made progress."""
        self._process.kill()
        self._process.join()
        self._process = self._link = None
        if self._stopped:
            return 0
        with Journal(journal_of(self._task.folder, number)) as journal:
            journal.add_death()
            return journal.deaths

    def _give_up(self, number: int, shard: Shard, tell: Tell) -> int:
        try:
            samples = give_up(self._task.folder, number, shard)
        except OSError as error:
            raise RequestError(write_error_message(error.filename or "what was found", error)) from error
        tell(samples)
        return samples


def _followed(link: Connection, end: str, tell: Tell) -> int:
    """Until it says that this is the end. Raises ``EOFError`` if it dies before, or says nothing for long."""
    while link.poll(_PATIENCE_S):
        said, value = link.recv()
        if said == "failed":
            raise RequestError(str(value))
        if said == end:
            return int(value)
        tell(int(value))
    raise EOFError


def _serve(link: Connection, task: Task) -> None:
    """Until the other end is gone."""
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
        link.send(("failed", write_error_message(error.filename or "what was found", error)))
