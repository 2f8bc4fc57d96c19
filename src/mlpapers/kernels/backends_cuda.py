"""NVIDIA GPUs as devices: clock, and what they can do at most (measured once)."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from mlpapers.core._files import write_text
from mlpapers.kernels.backends import cache_folder
from mlpapers.kernels.dsl.base import Backend, Hardware

# Bytes of the largest buffer of the bandwidth measurement: more than any cache.
_LARGE = 1 << 30


class CUDABackend(Backend):
    """NVIDIA GPUs.

    Examples
    --------
    >>> CUDABackend().device(1)
    'cuda:1'
    """

    name: ClassVar[str] = "cuda"

    def available(self) -> tuple[bool, str]:
        """Return whether torch sees a GPU, and the reason where not."""
        if importlib.util.find_spec("torch") is None:
            return False, "torch is not installed"
        import torch

        if torch.version.cuda is None:
            return False, "this build of torch has no CUDA"
        if not torch.cuda.is_available():
            return False, "torch sees no GPU"
        return True, ""

    def device(self, i: int = 0) -> str:
        """Return torch's name of the i-th GPU.

        Parameters
        ----------
        i : int

        Returns
        -------
        device : str
        """
        return f"cuda:{i}"

    def synchronize(self) -> None:
        """Wait for all GPUs."""
        import torch

        for i in range(torch.cuda.device_count()):
            torch.cuda.synchronize(i)

    def timer(self) -> Callable[[], float]:
        """Return a clock that waits for the GPU first."""

        def clock() -> float:
            self.synchronize()
            return time.perf_counter()

        return clock

    def hardware(self) -> Hardware:
        """Return peak and bandwidth of the first GPU, measured once and then read from the cache folder."""
        return _hardware(str(cache_folder()))


@functools.cache
def _hardware(folder: str) -> Hardware:
    import torch

    properties = torch.cuda.get_device_properties(0)
    arch = f"sm_{properties.major}{properties.minor}"
    identity = f"{properties.name} {arch} {properties.multi_processor_count} {torch.version.cuda}"
    path = Path(folder) / f"hardware-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        return Hardware(**{**known, "flags": tuple(known["flags"])})
    cache = int(getattr(properties, "L2_cache_size", 0))
    memory = min(_LARGE, properties.total_memory // 8)
    found = Hardware(
        name=properties.name,
        arch=arch,
        peak_flops=_measure_peak(torch),
        bandwidth=max(_measure_bandwidth(torch, max(cache // 4, 1 << 20)), _measure_bandwidth(torch, memory)),
        bandwidth_dram=_measure_bandwidth(torch, memory),
        cores=int(properties.multi_processor_count),
        flags=(arch, f"cuda{torch.version.cuda}"),
        vector_bytes=16,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(found)))
    return found


def _best(torch: Any, function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        times.append(1e-3 * start.elapsed_time(end))
    return float(min(times[1:]))


def _measure_bandwidth(torch: Any, size: int) -> float:
    """Bytes per second of a copy of `size` bytes, reads and writes counted."""
    a = torch.ones(size // 4, device="cuda")
    b = torch.empty_like(a)
    return 2 * size / _best(torch, lambda: b.copy_(a), 10)


def _measure_peak(torch: Any) -> float:
    """float32 operations per second of a square matrix product, by TF32 where the GPU has it.

    Kernels may use TF32 in three passes; a bound below that would accuse honest ones.
    """
    n = 4096
    a = torch.ones(n, n, device="cuda")
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return 2 * n**3 / _best(torch, lambda: torch.mm(a, a), 6)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
