"""Atomic writes: a reader, or a restart after a crash, sees the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def naming(path: str | os.PathLike[str], *others: str) -> Iterator[None]:
    """Let an error of the operating system name `path` where it names nothing, or one of `others`.

    A full disk shows when the bytes are written, and then the error knows no name.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or error.filename in others):
            error.filename = os.fspath(path)
        raise


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`; on success flush it to disk and rename it to `path`."""
    target = Path(path)
    descriptor, name = _make_part(target)
    part = Path(name)
    try:
        with naming(target, name):
            with os.fdopen(descriptor, "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files private; the result gets the permissions an ordinary open() would give.
            mask = os.umask(0)
            os.umask(mask)
            part.chmod(0o666 & ~mask)
            part.replace(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError, naming `path`, unless a file could be written there: to be asked before long work."""
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(target))
    descriptor, name = _make_part(target)
    os.close(descriptor)
    Path(name).unlink()


def _make_part(target: Path) -> tuple[int, str]:
    try:
        return tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    except OSError as error:
        error.filename = os.fspath(target)  # the name of the temporary file would say nothing
        raise


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write `text` (UTF-8) atomically and return the path."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))
    return Path(path)
