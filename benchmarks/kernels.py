"""Generated kernels beside PyTorch eager and torch.compile: the same inputs, interleaved rounds.

``python benchmarks/kernels.py --peers`` prints ratios of seconds; torch.compile stands beside only with
``--peers``, for it takes a minute or two to compile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlpapers.kernels.claims._suite import NAMES, speed_task
from mlpapers.kernels.claims._timing import measure

sys.path.insert(0, str(Path(__file__).parent))
from _harness import main, version_of
from _rows import Row

ROUNDS = 21


def interval(ratios: np.ndarray, n_resamples: int = 2000) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the geometric mean over tasks."""
    rng = np.random.default_rng(0)
    logs = np.log(ratios)
    means = logs[rng.integers(0, len(logs), (n_resamples, len(logs)))].mean(axis=1)
    low, high = np.exp(np.quantile(means, [0.025, 0.975]))
    return float(low), float(high)


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
                note=f"95% interval; smallest {values.min():.2f}, above 1 in {(values > 1).sum()}",
            )


if __name__ == "__main__":
    sys.exit(main((), figures=[tasks]))
