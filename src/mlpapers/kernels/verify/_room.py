"""A full disk, told apart from what a candidate did wrong."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

# A compiled kernel and its scratch files fit into it.
_LEAST_ROOM = 1 << 20
# Who left so much in its own folder has filled the disk itself.
_OWN_FAULT = 1 << 30


def check_room(folder: Path, *, own: bool = False) -> None:
    """Raise OSError, naming `folder`, where its disk is full: what failed there failed for that reason.

    A verdict that a full disk caused would be kept, and believed once there is room again.

    Parameters
    ----------
    folder : Path
    own : bool
        The folder is a worker's, who may have filled the disk: that is its own failure.
    """
    if shutil.disk_usage(folder).free >= _LEAST_ROOM:
        return
    if own and sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) >= _OWN_FAULT:
        return
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(folder))


def save_tensors(value: Any, path: Path) -> None:
    """Write tensors to a file; OSError, naming its folder, where the disk is full."""
    import torch

    try:
        torch.save(value, path)
    except RuntimeError:
        # Of a disk that is full, torch says that a file is not what it expected.
        check_room(path.parent)
        raise
