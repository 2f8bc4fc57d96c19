"""Times calls in a worker: by the clock on a processor, by events on the stream of a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable
from typing import Any

import torch

_clock = time.perf_counter
# More than twice the largest second-level cache of a GPU.
_SWEEP = 256 << 20
_LIMIT_PERSISTING_L2 = 0x06


class Stopwatch:
    """Times calls on one device; made before a candidate is imported, so that it cannot replace the clock.

    Parameters
    ----------
    device : str
    cold : bool
        Overwrite the caches before each measurement.
    cuda : module, optional
        What gives events and waits, by default ``torch.cuda``.
    """

    def __init__(self, device: str, *, cold: bool = False, cuda: Any = None) -> None:
        self.on_gpu = device.startswith("cuda")
        cuda = cuda or torch.cuda
        marks = [cuda.Event(enable_timing=True) for _ in range(2)] if self.on_gpu else []
        # Bound now: a candidate may change the class.
        self._record = [mark.record for mark in marks]
        self._elapsed = [mark.elapsed_time for mark in marks]
        self._end = marks[-1:]
        self._wait: Callable[[], Any] | None = cuda.synchronize if self.on_gpu else None
        self._sweep = torch.zeros(_SWEEP // 4, device=device) if cold else None
        self._driver = _driver() if self.on_gpu else None

    def synchronize(self) -> None:
        """Wait until the device is idle; on a processor a call has ended when it returns."""
        if self._wait is not None:
            self._wait()

    def time(self, function: Any, x: list[Any], repeats: int = 1) -> tuple[float, float, Any]:
        """Call a function and return its seconds, those of this process's clock, and its last output.

        On a GPU the first are those between two events; work that a kernel hides from the current stream
        shows as a difference of the two.

        Parameters
        ----------
        function : callable
        x : list
        repeats : int

        Returns
        -------
        seconds : float
            Per call.
        here : float
            Per call.
        output : object
        """
        if self._sweep is not None:
            self._sweep.add_(1.0)
        self._reset_cache()
        self.synchronize()
        start = _clock()
        if self._record:
            self._record[0]()
        for _ in range(repeats):
            output = function(*x)
        if self._record:
            self._record[1]()
        self.synchronize()
        here = (_clock() - start) / repeats
        if not self._elapsed:
            return here, here, output
        return 1e-3 * float(self._elapsed[0](self._end[0])) / repeats, here, output

    def _reset_cache(self) -> None:
        """Take back the part of the cache that a kernel may have set aside for what it reads again."""
        if self._driver is not None:
            self._driver.cuCtxSetLimit(_LIMIT_PERSISTING_L2, ctypes.c_size_t(0))
            self._driver.cuCtxResetPersistingL2Cache()


def _driver() -> Any:
    with contextlib.suppress(OSError):
        return ctypes.CDLL("libcuda.so.1")
    return None
