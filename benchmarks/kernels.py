"""Generated kernels beside PyTorch eager and torch.compile: the same inputs, interleaved rounds.

``python benchmarks/kernels.py --peers`` prints ratios of seconds; torch.compile stands beside only with
``--peers``, for it takes a minute or two to compile.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np

from mlpapers.kernels import KernelAgent
from mlpapers.kernels.claims._suite import NAMES, speed_task
from mlpapers.kernels.claims._timing import measure
from mlpapers.kernels.graph.capture import capture

sys.path.insert(0, str(Path(__file__).parent))
from _harness import main, timed, version_of
from _rows import Row

ROUNDS = 21
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
    sys.exit(main((), figures=[from_module_to_kernel, tasks]))
