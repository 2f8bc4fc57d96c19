"""The devices on which candidates run: their names, and one measurement at a time on each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import IO, Any

from mlpapers.kernels.verify.settings import kernel_cache

_POLL_SECONDS = 0.02


def on_host(device: str) -> bool:
    """Return whether a device is the processor.

    Parameters
    ----------
    device : str
    """
    return device.split(":")[0] == "cpu"


def check_devices(devices: Any, backend: str) -> tuple[str, ...]:
    """Return the names of the devices of a kind; None is the first one.

    Parameters
    ----------
    devices : sequence of str or None
        Such as ``["cuda:0", "cuda:1"]``.
    backend : str

    Returns
    -------
    names : tuple of str

    Raises
    ------
    TypeError
        If it is no list of names.
    ValueError
        If a name is of another kind, comes twice, or names a device that is not there.
    """
    from mlpapers.kernels.dsl.base import get_backend

    first = get_backend(backend).device()
    if devices is None:
        return (first,)
    if not (isinstance(devices, list | tuple) and devices and all(isinstance(item, str) for item in devices)):
        raise TypeError(f"devices must be a list of names or None; got {devices!r}")
    kind = first.split(":")[0]
    for name in devices:
        prefix, _, number = name.partition(":")
        if prefix != kind or (number and not number.isdigit()):
            raise ValueError(
                f"devices of the backend {backend!r} are named {kind}:0, {kind}:1, ...; got {name!r}"
            )
        _check_there(name)
    if len({name.partition(":")[2] or "0" for name in devices}) < len(devices):
        raise ValueError(f"devices must differ; got {list(devices)}")
    return tuple(f"{name}:0" if name == "cuda" else name for name in devices)


def _check_there(name: str) -> None:
    prefix, _, number = name.partition(":")
    if prefix != "cuda":
        return
    import torch

    count = torch.cuda.device_count()
    if int(number or 0) >= count:
        raise ValueError(f"devices must name devices that are there; got {name!r} of {count}")


@contextlib.contextmanager
def take_device(devices: Sequence[str]) -> Iterator[str]:
    """Hold the first of some devices that nobody else, in this process or another, measures on.

    Parameters
    ----------
    devices : sequence of str

    Yields
    ------
    device : str
    """
    import fcntl

    held: tuple[str, IO[str]] | None = None
    try:
        while held is None:
            for device in devices:
                file = (kernel_cache() / f"{device.replace(':', '-')}.lock").open("w")
                try:
                    # The system hands on the lock of a single device; of several the next free one is taken.
                    fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if len(devices) > 1 else 0))
                except BlockingIOError:
                    file.close()
                    continue
                held = device, file
                break
            else:
                time.sleep(_POLL_SECONDS)
        yield held[0]
    finally:
        if held is not None:
            # Closing gives the lock back.
            held[1].close()


def share_out(n: int, lanes: int) -> list[list[int]]:
    """Deal the places 1 .. n - 1 onto at most `lanes` groups of two and more; each begins with place 0.

    Place 0 is what all others are compared with: by its time in every group the groups' times compare.

    Parameters
    ----------
    n : int
    lanes : int

    Returns
    -------
    groups : list of list of int

    Examples
    --------
    >>> share_out(6, 2)
    [[0, 1, 3, 5], [0, 2, 4]]
    >>> share_out(3, 4)
    [[0, 1, 2]]
    """
    count = max(1, min(lanes, (n - 1) // 2))
    return [[0, *range(1 + k, n, count)] for k in range(count)]


def put_together(
    groups: Sequence[Sequence[int]], parts: Sequence[Sequence[list[float] | None]], n: int
) -> list[list[float] | None]:
    """Return the times of n places from those of groups, as if all had run on the first group's device.

    Parameters
    ----------
    groups : sequence of sequence of int
        From :func:`share_out`.
    parts : sequence of sequence of list or None
        The seconds of each group's places.
    n : int

    Returns
    -------
    times : list

    Examples
    --------
    >>> put_together([[0, 1], [0, 2]], [[[1.0], [3.0]], [[2.0], [2.0]]], 3)
    [[1.0], [3.0], [1.0]]
    """
    times: list[list[float] | None] = [None] * n
    first = parts[0][0]
    for number, (group, part) in enumerate(zip(groups, parts)):
        base = part[0]
        scale = median(first) / median(base) if first and base else 1.0
        for place, seconds in list(zip(group, part))[min(number, 1) :]:
            times[place] = [scale * value for value in seconds] if seconds else None
    return times
