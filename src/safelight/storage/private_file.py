"""Files that nobody but their owner may read: they hold prompts, captions, or words that were found."""

from __future__ import annotations

import os
import stat


def private_opener(path: str, flags: int) -> int:
    """The ``opener`` of ``open`` for such a file, new or old: mode 0600, or stricter where the umask is.

    Windows has no such modes; there the file inherits the rights of its folder.
    """
    descriptor = os.open(path, flags, 0o600)
    if hasattr(os, "fchmod"):
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & ~0o600:
            os.fchmod(descriptor, mode & 0o600)
    return descriptor
