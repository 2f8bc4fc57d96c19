"""A worker in a container of Docker: its command line, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_END_SECONDS = 20.0


def docker_command(argv: Sequence[str], folder: Path) -> list[str]:
    """Return the command line of a container without network in which a worker runs.

    The job's folder is mounted for writing; the folders of its other files, and the one of compiled kernels,
    for reading. The worker has the caller's user and group, so that the folder can be removed.

    Parameters
    ----------
    argv : sequence of str
        The worker's command line here; its first word is the interpreter, in the image ``python``.
    folder : Path
        Of the job, with ``request.json``.

    Returns
    -------
    command : list of str

    Raises
    ------
    RuntimeError
        Without the command docker, or without an image's name in MLPAPERS_DOCKER_IMAGE.
    """
    if shutil.which("docker") is None:
        raise RuntimeError("sandbox='docker' needs the command docker, which is not on the PATH")
    image = os.environ.get("MLPAPERS_DOCKER_IMAGE")
    if not image:
        raise RuntimeError("sandbox='docker' needs MLPAPERS_DOCKER_IMAGE, an image with mlpapers installed")
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    mounts = ["-v", f"{folder}:{folder}"]
    for needed in sorted(_folders(request) - {folder}):
        mounts += ["-v", f"{needed}:{needed}:ro"]
    user = ["--user", f"{os.getuid()}:{os.getgid()}"]
    limits = ["--pids-limit", str(request["limits"]["processes"]), "--network", "none"]
    name = ["--name", container_name(folder)]
    return ["docker", "run", "--rm", "--init", *name, *user, *limits, *mounts, image, "python", *argv[1:]]


def container_name(folder: Path) -> str:
    """Return the name of a job's container."""
    return f"worker-{folder.name}"


def remove_container(folder: Path) -> None:
    """End a job's container, whose processes are not ours to kill; one that has ended is no error."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["docker", "rm", "--force", container_name(folder)],
            capture_output=True,
            check=False,
            timeout=_END_SECONDS,
        )


def _folders(request: Any) -> set[Path]:
    """Return the folders behind the absolute paths of a request."""
    found = set()
    for value in _texts([request["job"], request["environment"]]):
        if value.startswith("/") and "\n" not in value and Path(value).exists():
            path = Path(value)
            found.add(path if path.is_dir() else path.parent)
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
