"""The processor as a device: clock, and what it can do at most (measured once)."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from mlpapers.core._files import write_text
from mlpapers.kernels.dsl.base import Backend, Hardware


def cache_folder() -> Path:
    """Return the folder of compiled kernels and device measurements."""
    known = os.environ.get("MLPAPERS_KERNEL_CACHE")
    return Path(known) if known else Path.home() / ".cache" / "mlpapers" / "kernels"


class CPUBackend(Backend):
    """The processor.

    Examples
    --------
    >>> CPUBackend().device()
    'cpu'
    """

    name: ClassVar[str] = "cpu"

    def available(self) -> tuple[bool, str]:
        """Return True: there is always a processor."""
        return True, ""

    def device(self, i: int = 0) -> str:  # noqa: ARG002 - all cores are one device
        """Return "cpu".

        Parameters
        ----------
        i : int

        Returns
        -------
        device : str
        """
        return "cpu"

    def synchronize(self) -> None:
        """Return at once: calls are synchronous."""

    def timer(self) -> Callable[[], float]:
        """Return the monotonic clock."""
        return time.perf_counter

    def hardware(self) -> Hardware:
        """Return peak and bandwidth, measured the first time and then read from the cache folder."""
        return _hardware(str(cache_folder()))


def cpu_flags() -> tuple[str, ...]:
    """Return the processor's instruction sets, empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return tuple(found.split(":", 1)[1].split())


def cpu_model() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


@functools.cache
def _hardware(folder: str) -> Hardware:
    import torch

    flags = cpu_flags()
    identity = f"{cpu_model()} {torch.get_num_threads()} {' '.join(flags)}"
    path = Path(folder) / f"hardware-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        return Hardware(**{**known, "flags": tuple(known["flags"])})
    vector = 64 if "avx512f" in flags else 32 if "avx2" in flags else 16
    found = Hardware(
        name=cpu_model(),
        arch=platform.machine(),
        peak_flops=_measure_peak(),
        bandwidth=max(_measure_bandwidth(1 << size) for size in (16, 18, 20, 22)),
        bandwidth_dram=_measure_bandwidth(1 << 24),
        cores=torch.get_num_threads(),
        flags=flags,
        vector_bytes=vector,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(found)))
    return found


def _best(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def _measure_bandwidth(count: int) -> float:
    """Bytes per second of c = a + s b on `count` float32 elements."""
    import torch as t

    a, b, c = t.ones(count), t.ones(count), t.ones(count)
    return 12 * count / _best(lambda: t.add(a, b, alpha=2.0, out=c), 12)


def _measure_peak() -> float:
    """float32 operations per second of a square matrix product."""
    import torch as t

    n = 1024
    a, b, c = t.ones(n, n), t.ones(n, n), t.ones(n, n)
    return 2 * n**3 / _best(lambda: t.mm(a, b, out=c), 5)
