"""An exclusive lock on an open file, between processes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

if sys.platform == "win32":
    import msvcrt

    # Far beyond the end of any log: locked bytes cannot be read or written by others on Windows.
    _LOCK_OFFSET = 2**40

    @contextlib.contextmanager
    def locked(descriptor: int) -> Iterator[None]:
        """Hold an exclusive lock on the file while the context lasts; waits for it."""
        import os

        os.lseek(descriptor, _LOCK_OFFSET, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)
        try:
            yield
        finally:
            os.lseek(descriptor, _LOCK_OFFSET, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    @contextlib.contextmanager
    def locked(descriptor: int) -> Iterator[None]:
        """Hold an exclusive lock on the file while the context lasts; waits for it."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
