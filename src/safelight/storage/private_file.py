"""Files that only their owner may read, because they contain prompts, captions or matched words."""

from __future__ import annotations

import os
import stat


def private_opener(path: str, flags: int) -> int:
    """Open a new or existing file with mode 0600 or a stricter one; an ``opener`` for ``open``.

    Windows has no such modes; there the file inherits the permissions of its folder.
    """
    descriptor = os.open(path, flags, 0o600)
    if hasattr(os, "fchmod"):
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & ~0o600:
            os.fchmod(descriptor, mode & 0o600)
    return descriptor
