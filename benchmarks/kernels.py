"""Generated kernels beside PyTorch eager and torch.compile: the same inputs, interleaved rounds.

``python benchmarks/kernels.py --peers`` prints ratios of seconds; torch.compile stands beside only with
``--peers``, for it takes a minute or two to compile.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from mlpapers.kernels import KernelAgent
from mlpapers.kernels.claims._suite import NAMES, speed_task
from mlpapers.kernels.claims._timing import interleaved, load_module, measure
from mlpapers.kernels.graph.capture import capture
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.isolation import Outcome, run_job
from mlpapers.kernels.verify.reference import Reference

sys.path.insert(0, str(Path(__file__).parent))
from _harness import compared, main, timed, version_of
from _rows import Row

ROUNDS = 21
# Templates that do so little with a number that memory bounds them.
MEMORY_BOUND = ("relu", "swish", "sum", "mse")
LEAST_BANDWIDTH = 0.8
MOST_OVERHEAD = 0.5
_CANDIDATES = 5
_TRIAD = 1 << 23
# Of the C library: how many blocks come from the system each for itself, and what the heap keeps when freed.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
# What the geometric mean over eager has to reach, and every single task.
LEAST_MEAN, LEAST = 2.5, 0.9


def interval(ratios: np.ndarray, n_resamples: int = 2000) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the geometric mean over tasks."""
    rng = np.random.default_rng(0)
    logs = np.log(ratios)
    means = logs[rng.integers(0, len(logs), (n_resamples, len(logs)))].mean(axis=1)
    low, high = np.exp(np.quantile(means, [0.025, 0.975]))
    return float(low), float(high)


def from_module_to_kernel(_: bool) -> Iterator[Row]:
    """Seconds from a module to its graph, and to a verified kernel: nothing compiled yet, and once more."""
    task = speed_task("swish")
    capture(task)
    yield Row(what="graph of a module", ours=timed(lambda: capture(task))[0], target=1.0, relation="<=")
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, MLPAPERS_KERNEL_CACHE=folder):
        for what, most in (("nothing compiled", 10.0), ("compiled before", 1.0)):
            agent = KernelAgent(search="none", store=Path(folder) / "runs.db", random_state=0)
            seconds, result = timed(lambda agent=agent: agent.generate(task))
            if not result.success:
                raise RuntimeError(f"no kernel for {task.name}: {result.report.error}")
            yield Row(what=f"verified kernel, {what}", ours=seconds, target=most, relation="<=")


def what_verifying_costs(_: bool) -> Iterator[Row]:
    """Seconds that the verifier adds to a candidate's calls, the reference's and the compiler's."""
    for rows, size in ((512, "1.0"), (4096, "8.4")):
        task = speed_task("swish").with_overrides(rows=rows)
        code = candidate(synthesise(task)[0]).code
        seconds = []
        with Examiner(task, dsl="cpp", random_state=0) as examiner:
            # The first candidate waits for the trials and for the process that workers are forked from.
            for number in range(1 + _CANDIDATES):
                other = f"{code}\n# {number}\n"
                examiner.build(other)
                seconds.append(added_seconds(examiner, other))
        yield Row(
            what=f"verifier per candidate, {size} million elements",
            ours=float(np.median(seconds[1:])),
            turns=_CANDIDATES,
            target=MOST_OVERHEAD,
            relation="<=",
            note="without the calls themselves and the compiler",
        )


def added_seconds(examiner: Examiner, code: str) -> float:
    """Return the seconds of an examination less those of the candidate's and the reference's calls."""
    outcomes: list[Outcome] = []
    called = [0.0]

    def noted(*arguments: Any, **options: Any) -> Outcome:
        outcomes.append(run_job(*arguments, **options))
        return outcomes[-1]

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            result = method(*arguments, **options)
            called[0] += time.perf_counter() - begun
            return result

        return call

    with (
        mock.patch.object(sys.modules[Examiner.__module__], "run_job", noted),
        mock.patch.object(Reference, "run_watched", counted(Reference.run_watched)),
        mock.patch.object(Reference, "run_double", counted(Reference.run_double)),
    ):
        seconds, verdict = timed(lambda: examiner.examine(code))
    if not verdict.ok:
        raise RuntimeError(f"no kernel for {examiner.task.name}: {verdict.report.error}")
    correct, *rounds = (outcome.result for outcome in outcomes)
    called[0] += sum(row["seconds"] for row in correct["trials"])
    for found in rounds:
        kernel, eager, repeats = found["kernel"], found["eager"], found["repeats"]
        called[0] += repeats * (sum(kernel) + sum(eager) + sum(found["alone"]))
        called[0] += sum(block["seconds"] for block in found["blocks"])
        # Warm-ups of both, and the last call, which are not timed one by one.
        called[0] += 5 * float(np.median(eager)) + 4 * float(np.median(kernel))
    return seconds - called[0]


def bandwidth(_: bool) -> Iterator[Row]:
    """Memory-bound templates beside the triad a + s b: outputs on fresh memory, then on kept.

    The last of the figures, for the allocator keeps memory from then on.
    """
    library = ctypes.CDLL(None)
    for memory in ("fresh memory", "kept memory"):
        if memory == "kept memory":
            if not hasattr(library, "mallopt"):
                return
            library.mallopt(_M_MMAP_MAX, 0)
            library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        for name in MEMORY_BOUND:
            yield beside_triad(name, memory)


def beside_triad(name: str, memory: str) -> Row:
    """Return the row of one template: the triad's seconds for its bytes over its own."""
    task = speed_task(name)
    module, inputs = task.build(0)
    ours = load_module(candidate(synthesise(task)[0]).code, task, module)
    a, b = torch.rand(_TRIAD), torch.rand(_TRIAD)
    functions = {"ours": lambda: ours(*inputs), "triad": lambda: torch.add(a, b, alpha=2.0)}
    with torch.no_grad():
        moved = sum(x.nbytes for x in inputs) + module(*inputs).nbytes
        seconds = interleaved(functions, ROUNDS)
    triad = seconds["triad"] * moved / (3 * a.nbytes)
    return compared(
        f"{name}, {memory}",
        "triad",
        seconds["ours"].tolist(),
        triad.tolist(),
        target=LEAST_BANDWIDTH,
        note=f"{1e-9 * moved / float(np.median(seconds['ours'])):.1f} GB/s",
    )


def tasks(with_peers: bool) -> Iterator[Row]:
    """Every task beside eager and, with peers, torch.compile; then the geometric means."""
    ratios: dict[str, list[float]] = {"torch eager": [], "torch compile": []}
    for name in NAMES:
        found = measure(speed_task(name), ROUNDS, compiled=with_peers)
        ours, eager = 1e-3 * found["kernel_ms"], 1e-3 * found["eager_ms"]
        speedups = {"torch eager": found["speedup"]}
        if with_peers:
            speedups["torch compile"] = found["speedup"] / found["compile_speedup"]
        for peer, ratio in speedups.items():
            ratios[peer].append(ratio)
            yield Row(
                what=name,
                peer=peer,
                version=version_of(peer),
                ours=ours,
                theirs=eager if peer == "torch eager" else ratio * ours,
                ratio=ratio,
                turns=ROUNDS,
                note=found["templates"],
            )
    for peer, found_ratios in ratios.items():
        if found_ratios:
            values = np.array(found_ratios)
            low, high = interval(values)
            yield Row(
                what=f"geometric mean over {len(values)} tasks",
                peer=peer,
                version=version_of(peer),
                ratio=float(np.exp(np.log(values).mean())),
                low=low,
                high=high,
                turns=len(values),
                target=LEAST_MEAN if peer == "torch eager" else None,
                note=f"95% interval; above 1 in {(values > 1).sum()}",
            )
            yield Row(
                what=f"smallest of {len(values)} tasks",
                peer=peer,
                version=version_of(peer),
                ratio=float(values.min()),
                target=LEAST if peer == "torch eager" else None,
                note=NAMES[int(values.argmin())],
            )


if __name__ == "__main__":
    sys.exit(main((), figures=[from_module_to_kernel, what_verifying_costs, tasks, bandwidth]))
