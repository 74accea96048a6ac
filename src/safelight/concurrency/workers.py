"""Initialisation of worker processes."""

from __future__ import annotations

import os
import threading
import time

from safelight.concurrency.thread_count import limit_to_one_thread


def begin_worker() -> None:
    """Initialise a worker process: it uses one thread and ends with its parent process.

    It must be called before libraries are loaded that read OMP_NUM_THREADS.
    """
    end_with_parent()
    limit_to_one_thread()


def end_with_parent() -> None:
    """End this process within about a second after its parent has ended.

    Otherwise the workers of a killed program would keep writing to the files of the next run.
    """
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
