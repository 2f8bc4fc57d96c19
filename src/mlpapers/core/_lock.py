"""A folder for one process at a time: a lock that ends with its process, however that ends."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from mlpapers.core._files import naming

LOCK_FILE = ".lock"

# What a system says that has no such locks: some network file systems.
_UNKNOWN = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL})


@contextlib.contextmanager
def only_process(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold `folder`, which exists, for this process while the context lasts.

    The lock is the process's own: children do not inherit it, and threads of one process share it. Where the
    system has no such locks the folder is not guarded.

    Raises
    ------
    BlockingIOError
        Where another process holds the folder; the message has its number.
    OSError
        Where the file of the lock cannot be written.
    """
    if importlib.util.find_spec("fcntl") is None:
        yield
        return
    path = Path(folder, LOCK_FILE)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with naming(path):
            _acquire(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path) -> None:
    import fcntl

    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        raise BlockingIOError(
            errno.EAGAIN,
            f"another run (process {holder}) works in this folder; wait for it, or choose another folder",
            os.fspath(path.parent),
        ) from None
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
