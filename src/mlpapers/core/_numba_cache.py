"""A place for numba's compiled code where it has none: a read-only installation, a user without a home."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_VARIABLE = "NUMBA_CACHE_DIR"


def ensure_numba_cache() -> None:
    """Let numba keep compiled code in a temporary folder of this process, where it could keep it nowhere.

    numba keeps it beside the sources, else in the user's cache folder, and raises on import of the sources
    where neither can be written. The temporary folder is private, for what lies in it is executed; workers
    find it through the environment, and it goes when this process ends.
    """
    if os.environ.get(_VARIABLE) or os.access(Path(__file__).parent, os.W_OK) or _may_create(_user_cache()):
        return
    import atexit
    import tempfile

    try:
        folder = tempfile.mkdtemp(prefix="mlpapers-numba-")
    except OSError:
        return  # nothing can be written anywhere: numba says so when it is used
    atexit.register(_remove, folder, os.getpid())
    os.environ[_VARIABLE] = folder
    if numba := sys.modules.get("numba"):
        numba.config.CACHE_DIR = folder


def _user_cache() -> Path:
    """Return where numba looks second."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111 - never raises
    return home / "numba"


def _may_create(folder: Path) -> bool:
    """Whether the folder can be written, or made in the nearest one that exists."""
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    return nearest.is_dir() and os.access(nearest, os.W_OK)


def _remove(folder: str, process: int) -> None:
    # A forked child runs the same handlers when it ends; the folder is still its parent's.
    if os.getpid() == process:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)
