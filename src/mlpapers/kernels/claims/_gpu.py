"""Kernels on a GPU: compared with the reference, and timed beside it, in this process."""

from __future__ import annotations

import os
import statistics
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

from mlpapers.kernels.backends import cache_folder
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.task import Task

# The environment variable that names a clone of KernelBench.
CLONE = "MLPAPERS_KERNELBENCH"
_FLUSH_BYTES = 256 << 20
_WARM_UPS = 2


def on_gpu(
    dsl: str, task: Task, seed: int = 0, *, precision: str = "reference", **params: Any
) -> tuple[Any, Any, list[Any]]:
    """Return the reference, our kernel with the reference's state, and inputs, all on the GPU."""
    import torch

    from mlpapers.kernels.dsl.base import get_dsl

    made = candidate(synthesise(task, dsl=dsl, backend="cuda", precision=precision)[0], dsl, "cuda", params)
    get_dsl(dsl).build(made.code, cache_folder(), "cuda")
    # Inputs of full size are drawn where they are needed: a gigabyte of random numbers takes a CPU seconds.
    with torch.device("cuda"):
        module, inputs = task.build(seed)
        ours = Kernel(made.code, dsl, "cuda", task).load()(*task.init_inputs())
    module, ours = module.cuda(), ours.cuda()
    ours.load_state_dict(module.state_dict())
    return module, ours, [x.cuda() if isinstance(x, torch.Tensor) else x for x in inputs]


def leaves(output: Any) -> list[Any]:
    """Return the tensors of an output."""
    return list(output) if isinstance(output, list | tuple) else [output]


def excess(eager: Any, found: Any, exact: Any) -> float:
    """Return the largest error of `found` in units of what is allowed.

    Allowed is 1e-4 relative to the value plus the scale of the tensor, or four times the error that eager has
    against float64, whichever is more.
    """
    scale = min(1.0, float(exact.double().pow(2).mean().sqrt()))
    divisor = exact.double().abs() + scale + 1e-30
    gap = float(((found.double() - exact.double()).abs() / divisor).max())
    base = float(((eager.double() - exact.double()).abs() / divisor).max())
    return gap / max(1e-4, 4 * base)


def timed(functions: Mapping[str, Any], inputs: Sequence[Any], pairs: int) -> dict[str, list[float]]:
    """Return milliseconds of each function over rounds in turns, the cache overwritten before each call."""
    import torch

    flush = torch.empty(_FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")
    names = list(functions)
    for name in names * _WARM_UPS:
        functions[name](*inputs)
    times: dict[str, list[float]] = {name: [] for name in names}
    for k in range(pairs):
        for name in names if k % 2 else names[::-1]:
            flush.zero_()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            out = functions[name](*inputs)
            end.record()
            end.synchronize()
            times[name].append(float(start.elapsed_time(end)))
            del out
    return times


def measure_problem(
    task: Task, *, dsl: str = "triton", compiled: bool = False, pairs: int = 15, seed: int = 0, **params: Any
) -> dict[str, Any]:
    """Return a row: the error in units of eager's scale, milliseconds, speed-ups; or what went wrong."""
    import torch

    row: dict[str, Any] = {"id": f"{task.level}/{task.problem_id}", "ok": False, "error": ""}
    try:
        with torch.no_grad():
            module, ours, inputs = on_gpu(dsl, task, seed, precision="tf32x3", **params)
            functions: dict[str, Any] = {"eager": module, "ours": ours}
            if compiled:
                functions["compile"] = torch.compile(module)
            row["gap"] = max(
                float((a.double() - b.double()).abs().max() / (a.double().pow(2).mean().sqrt() + 1e-30))
                for a, b in zip(leaves(module(*inputs)), leaves(ours(*inputs)), strict=True)
            )
            times = timed(functions, inputs, pairs)
        row["ok"] = row["gap"] <= _largest_gap(module)
        for name, found in times.items():
            row[f"{name}_ms"] = statistics.median(found)
            row[name] = statistics.median(e / t for e, t in zip(times["eager"], found))
    except Exception as error:  # noqa: BLE001 - a problem that fails is a row of the table
        row["error"] = "".join(traceback.format_exception_only(type(error), error))[-500:]
    torch.cuda.empty_cache()
    return row


def _largest_gap(module: Any) -> float:
    """Return the gap that is no mistake: eager's convolutions use TF32, long sums differ in order."""
    import torch

    convolves = any("Conv" in type(layer).__name__ for layer in module.modules())
    return 3e-2 if convolves and torch.backends.cudnn.allow_tf32 else 3e-3


def clone_path() -> str | None:
    """Return the folder of the user's clone of KernelBench, None where the environment names none."""
    return os.environ.get(CLONE)
