"""Processes that work for another one."""

from __future__ import annotations

import os
import threading
import time

from safelight.concurrency.thread_count import share_cores


def begin_worker() -> None:
    """Make this process one of as many workers as there are cores: it uses one core and ends with its parent.

    What is loaded later knows how many cores it has.
    """
    end_with_parent()
    share_cores()


def end_with_parent() -> None:
    """End this process soon after the one that started it: a killed program must not leave workers behind
    that write to the files of the next one.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
