"""Generated kernels beside PyTorch eager and torch.compile: the same inputs, interleaved rounds.

Run it on an idle machine::

    python benchmarks/kernels.py [--tasks softmax,relu] [--rounds 21] [--no-compile]
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from mlpapers.kernels.claims._suite import NAMES, speed_task
from mlpapers.kernels.claims._timing import measure


def interval(ratios: np.ndarray, n_resamples: int = 2000) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the geometric mean over tasks."""
    rng = np.random.default_rng(0)
    logs = np.log(ratios)
    means = logs[rng.integers(0, len(logs), (n_resamples, len(logs)))].mean(axis=1)
    low, high = np.exp(np.quantile(means, [0.025, 0.975]))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(NAMES))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    rows = []
    for name in options.tasks.split(","):
        rows.append(measure(speed_task(name), options.rounds, compiled=not options.no_compile))
        print(
            " ".join(f"{k}={v:.2f}" if isinstance(v, float) else str(v) for k, v in rows[-1].items()),
            flush=True,
        )
    table = pd.DataFrame(rows)
    for column in ("speedup", "compile_speedup"):
        if column in table:
            ratios = table[column].to_numpy()
            low, high = interval(ratios)
            print(
                f"{column}: geometric mean {np.exp(np.log(ratios).mean()):.2f} [{low:.2f}, {high:.2f}], "
                f"smallest {ratios.min():.2f}, above 1 in {(ratios > 1).sum()} of {len(ratios)}"
            )


if __name__ == "__main__":
    main()
