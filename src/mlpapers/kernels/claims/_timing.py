"""Paired timing of functions in this process."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.task import Task


def load_module(code: str, task: Task, module: Any) -> Any:
    """Return an instance of a kernel's class with the reference's state; the code is our own."""
    made = Kernel(code, "cpp", "cpu", task).load()(*task.init_inputs())
    made.load_state_dict(module.state_dict())
    return made


def interleaved(functions: Mapping[str, Callable[[], Any]], pairs: int) -> dict[str, np.ndarray]:
    """Return the seconds of each function over `pairs` rounds; every other round runs in reverse order.

    A call that counts follows one of the same function that does not: it finds the allocator, and the
    system's free pages, as its own kind leaves them, not as the others do.
    """
    names = list(functions)
    for name in names * 2:
        functions[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for k in range(pairs):
        for name in names if k % 2 else names[::-1]:
            functions[name]()
            start = time.perf_counter()
            result = functions[name]()
            seconds[name].append(time.perf_counter() - start)
            # Freed before the next function allocates, as in a program that goes on with the result.
            del result
    return {name: np.array(values) for name, values in seconds.items()}


def paired_ratio(slow: np.ndarray, fast: np.ndarray) -> float:
    """Return the median over rounds of slow / fast."""
    return float(np.median(slow / fast))


def _no_compiler_pool() -> contextlib.AbstractContextManager[None]:
    """Return the context in which torch.compile starts no pool of compilers beside the timed runs."""
    inductor = importlib.import_module("torch._inductor.config")
    return inductor.patch(compile_threads=1)


def measure(
    task: Task, pairs: int, *, compiled: bool = False, seed: int = 0, **options: Any
) -> dict[str, Any]:
    """Return speed-up over eager, milliseconds and templates of the first design of a task.

    Parameters
    ----------
    task : Task
    pairs : int
    compiled : bool
        Time torch.compile's version in the same rounds.
    seed : int
    **options : object
        Of ``synthesise``.

    Returns
    -------
    row : dict
    """
    return measure_all([task], pairs, compiled=compiled, seed=seed, **options)[0]


def measure_all(
    tasks: Sequence[Task],
    pairs: int,
    *,
    passes: int = 1,
    compiled: bool = False,
    seed: int = 0,
    **options: Any,
) -> list[dict[str, Any]]:
    """Return the row of every task, its rounds spread over several passes through all of them.

    A machine that is busy with something else for a second or two then spoils some of a task's rounds, and
    not their median.

    Parameters
    ----------
    tasks : sequence of Task
    pairs : int
        Rounds of a task in each pass.
    passes : int
    compiled, seed, **options
        As in :func:`measure`.

    Returns
    -------
    rows : list of dict
    """
    import torch

    made = [_contestants(task, compiled, seed, options) for task in tasks]
    seconds: list[list[dict[str, np.ndarray]]] = [[] for _ in tasks]
    with torch.no_grad(), _no_compiler_pool() if compiled else contextlib.nullcontext():
        for _ in range(passes):
            for (functions, _), found in zip(made, seconds):
                found.append(interleaved(functions, pairs))
    rows = []
    for task, (functions, templates), found in zip(tasks, made, seconds):
        times = {name: np.concatenate([one[name] for one in found]) for name in functions}
        row: dict[str, Any] = {
            "task": task.name,
            "speedup": paired_ratio(times["eager"], times["ours"]),
            "eager_ms": 1e3 * float(np.median(times["eager"])),
            "kernel_ms": 1e3 * float(np.median(times["ours"])),
            "templates": templates,
        }
        if compiled:
            row["compile_speedup"] = paired_ratio(times["eager"], times["compile"])
        rows.append(row)
    return rows


def _contestants(
    task: Task, compiled: bool, seed: int, options: Mapping[str, Any]
) -> tuple[dict[str, Callable[[], Any]], str]:
    """Return eager, ours and, where asked for, torch.compile's version as functions, and our templates."""
    import torch

    design = synthesise(task, **options)[0]
    module, inputs = task.build(seed)
    ours = load_module(candidate(design).code, task, module)
    functions: dict[str, Callable[[], Any]] = {
        "eager": lambda: module(*inputs),
        "ours": lambda: ours(*inputs),
    }
    if compiled:
        quick = torch.compile(module)
        functions["compile"] = lambda: quick(*inputs)
    return functions, "+".join(design.sketch.templates)
