"""Kernels on a GPU: compared with the reference, and timed beside it, in this process."""

from __future__ import annotations

import copy
import os
import random
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
# Of products that are measured: three passes in TF32 have the digits of float32.
PRECISION = "tf32x3"
_FLUSH_BYTES = 256 << 20
_WARM_UPS = 2
# KernelBench's tolerance for float32, absolute and relative.
_KERNELBENCH = 1e-4
# Elements that are compared at once.
_PART = 1 << 27


def source_for(dsl: str, task: Task, *, precision: str = "reference", **params: Any) -> str:
    """Return the first choice of the rules for a GPU, untuned."""
    return candidate(
        synthesise(task, dsl=dsl, backend="cuda", precision=precision)[0], dsl, "cuda", params
    ).code


def on_gpu(
    dsl: str,
    task: Task,
    seed: int = 0,
    *,
    precision: str = "reference",
    code: str | None = None,
    **params: Any,
) -> tuple[Any, Any, list[Any]]:
    """Return the reference, our kernel with the reference's state, and inputs, all on the GPU."""
    import torch

    from mlpapers.kernels.dsl.base import get_dsl

    if code is None:
        code = source_for(dsl, task, precision=precision, **params)
    get_dsl(dsl).build(code, cache_folder(), "cuda")
    # Inputs of full size are drawn where they are needed: a gigabyte of random numbers takes a CPU seconds.
    with torch.device("cuda"):
        module, inputs = task.build(seed)
        ours = Kernel(code, dsl, "cuda", task).load()(*task.init_inputs())
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
    """Return milliseconds of each function over rounds, the cache overwritten before each call.

    Every round has an order of its own, drawn at random: in a fixed one, or forwards and backwards in turns,
    the first would follow upon itself and the others never.
    """
    import torch

    flush = torch.empty(_FLUSH_BYTES // 4, dtype=torch.int32, device="cuda")
    names = list(functions)
    for name in names * _WARM_UPS:
        functions[name](*inputs)
    times: dict[str, list[float]] = {name: [] for name in names}
    chance = random.Random(0)
    for _ in range(pairs):
        for name in chance.sample(names, len(names)):
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
    """Return a row: errors, milliseconds, speed-ups; or what went wrong.

    ``gap`` is the largest difference to eager in units of its root mean square. Where it is too large, the
    kernel is right all the same if it is as near to float64 as eager, ``excess``: a result that is rounding
    noise around zero has no scale of its own. ``kernelbench`` is what KernelBench's own check says,
    ``allclose`` at 1e-4 to eager, whose convolutions have three digits. The generator is seeded alike before
    each call, so that tasks with dropout draw the same numbers.
    """
    import torch

    row: dict[str, Any] = {"id": f"{task.level}/{task.problem_id}", "ok": False, "error": ""}
    try:
        with torch.no_grad():
            module, ours, inputs = on_gpu(dsl, task, seed, precision=PRECISION, **params)
            functions: dict[str, Any] = {"eager": module, "ours": ours}
            if compiled:
                functions["compile"] = torch.compile(module)
            row |= _judged(module, ours, inputs, seed)
            times = timed(functions, inputs, pairs)
        for name, found in times.items():
            row[f"{name}_ms"] = statistics.median(found)
            row[name] = statistics.median(e / t for e, t in zip(times["eager"], found))
    except Exception as error:  # noqa: BLE001 - a problem that fails is a row of the table
        row["ok"] = False
        row["error"] = "".join(traceback.format_exception_only(type(error), error))[-500:]
    torch.cuda.empty_cache()
    return row


def _judged(module: Any, ours: Any, inputs: Sequence[Any], seed: int) -> dict[str, Any]:
    """Return whether our outputs are right, and by how much they differ."""
    import torch

    def called(function: Any, given: Sequence[Any]) -> list[Any]:
        torch.manual_seed(seed)
        return leaves(function(*given))

    # Before eager has changed the running statistics of its norms.
    exact = copy.deepcopy(module)
    pairs = list(zip(called(module, inputs), called(ours, inputs), strict=True))
    gap = max(_gap(a, b) for a, b in pairs)
    near = all(torch.allclose(b.float(), a.float(), rtol=_KERNELBENCH, atol=_KERNELBENCH) for a, b in pairs)
    row = {"gap": gap, "kernelbench": near, "ok": gap <= _largest_gap(module)}
    if not row["ok"]:
        wide = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs]
        values = called(exact.double(), wide)
        row["excess"] = max(excess(a, b, q) for (a, b), q in zip(pairs, values, strict=True))
        row["ok"] = row["excess"] <= 1
    return row


def _gap(eager: Any, found: Any) -> float:
    """Return the largest difference in units of eager's root mean square; by parts, which fit beside both."""
    import torch

    if eager.shape != found.shape:
        raise ValueError(f"the output has the shape {tuple(found.shape)}; expected {tuple(eager.shape)}")
    largest = squares = torch.zeros((), dtype=torch.float64, device=eager.device)
    parts = (x.reshape(-1).split(_PART) for x in (eager, found))
    for a, b in zip(*parts, strict=True):
        # Unlike Python's, this maximum keeps what is no number.
        largest = torch.maximum(largest, (a.double() - b.double()).abs().max())
        squares = squares + a.double().pow(2).sum()
    return float(largest / ((squares / max(eager.numel(), 1)).sqrt() + 1e-30))


def _largest_gap(module: Any) -> float:
    """Return the gap that is no mistake: eager's convolutions use TF32, long sums differ in order."""
    import torch

    convolves = any("Conv" in type(layer).__name__ for layer in module.modules())
    return 3e-2 if convolves and torch.backends.cudnn.allow_tf32 else 3e-3


def clone_path() -> str | None:
    """Return the folder of the user's clone of KernelBench, None where the environment names none."""
    return os.environ.get(CLONE)
