"""Both variances go: along a run, in the recursion, and with either part taken away."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.core.validation import seed_sequence
from mlpapers.optim._directions import VectorBlock
from mlpapers.optim._dvr import FixedDVR, refresh_memory
from mlpapers.optim._estimators import Estimator
from mlpapers.optim._increment import Increment
from mlpapers.optim._loop import Loop, Stopping
from mlpapers.optim._oracle import Oracle
from mlpapers.optim._run import Run, Settings
from mlpapers.optim._steps import FrankWolfe
from mlpapers.optim.claims._inputs import excess_after, replications, sparse_logistic
from mlpapers.optim.minimize import minimize_fw_zo
from mlpapers.optim.papers import ZO_FRANK_WOLFE as PAPER

Array = NDArray[np.float64]

# Functions of the full scale's second ablation, where the root of n leaves more to gain.
MANY = 16_000


class Forgetful(FixedDVR):
    """PAGE without a memory: with probability 2/sqrt(n), v is the mean of four fresh Gaussian directions."""

    def estimate(self) -> Array:
        """Return the estimate at the run's point."""
        run = self.run
        if self.x_old is None:
            self.x_old = run.x
            return self.start()
        _, b, _ = self._plan()
        self.v = self.v + Increment(run, self.x_old, b).change
        if run.coins.random() < 2.0 / np.sqrt(run.n):
            block = VectorBlock(run.frame_rng.normal(size=(4, run.d)))
            delta, _ = run.probe(run.x).means(block, np.arange(run.n))
            self.v = np.zeros(run.d)
            block.add(self.v, delta / 4.0)
        self.x_old = run.x
        return self.v


class WithoutIncrements(FixedDVR):
    """The memory alone: components are replaced, nothing carries them along."""

    def estimate(self) -> Array:
        """Return the estimate at the run's point."""
        run = self.run
        if self.x_old is None:
            self.x_old = run.x
            return self.start()
        rho, _, l = self._plan()
        count = self._refreshes(rho, l)
        if count:
            self.v, _, _ = refresh_memory(run, run.probe(run.x), self.v, count, self._functions(), "project")
        return self.v


def run_variant(kind: type[Estimator], seed: int, n: int, budget: int) -> float:
    """Return f - f* of an estimator under open-loop Frank-Wolfe steps on the logistic problem."""
    total, ball, least = sparse_logistic(seed, n)
    run = Run(
        Oracle(total, total.dim or 0, max_queries=budget),
        ball,
        Settings(schedule="fixed"),
        np.zeros(total.dim or 0),
        seed_sequence(seed),
        None,
    )
    estimator = kind(run)
    stopping = Stopping(None, None, False, None, None, 1.05, None, 0)
    Loop(run, estimator, FrankWolfe(run, estimator), stopping, keep_best=False, fingerprint={}).execute()
    return total.mean(run.x) - least


def error_along(seed: int, budget: int, **settings: Any) -> Array:
    """Return |v_t - grad f(x_t)|^2 of every step."""
    total, ball, _ = sparse_logistic(seed)
    points, errors = [np.zeros(total.dim or 0)], []

    def watch(state: Any) -> None:
        errors.append(float(np.sum((state.v - total.gradient(points[-1])) ** 2)))
        points.append(state.x)

    minimize_fw_zo(
        total,
        points[0],
        ball,
        max_queries=budget,
        certificate="none",
        random_state=seed,
        callback=watch,
        **settings,
    )
    return np.array(errors)


def last_over_first(errors: Array) -> float:
    """Return the mean of the last tenth over that of the first."""
    part = max(1, len(errors) // 10)
    return float(errors[-part:].mean() / errors[:part].mean())


def ablation(seed: int, n: int, d: int = 30, passes: int = 60) -> dict[str, float]:
    """Return f - f* after 60 n d queries with both parts, with either of them, and with none."""
    budget = passes * n * d
    total, ball, least = sparse_logistic(seed, n)
    unige: dict[str, Any] = {"method": "acc_szofw", "options": {"variant": "unige"}}
    return {
        "n": n,
        "seed": seed,
        "both": run_variant(FixedDVR, seed, n, budget),
        "memory alone": run_variant(WithoutIncrements, seed, n, budget),
        "SPIDER, unit directions": excess_after(total, ball, least, budget, seed, **unige),
        "no memory": run_variant(Forgetful, seed, n, budget),
        "ZSCG": excess_after(total, ball, least, budget, seed, method="zscg"),
    }


@PAPER.claim(
    "o8",
    "Both variances are reduced, and without the memory of directions the method fails.",
    source="abstract (double variance reduction); targets derived",
)
def both_variances(scale: Scale, seed: int) -> Evidence:
    seeds = replications(scale, seed)
    n, d = 1000, 30
    ratios, flat, rows = [], [], []
    for s in seeds:
        ratios.append(last_over_first(error_along(s, 200 * n * d)))
        flat.append(last_over_first(error_along(s, 15 * n * d, method="zscg", batch_size=1000)))
        rows += [ablation(s, size) for size in ((n, MANY) if scale == "full" else (n,))]
    frame = pd.DataFrame(rows).sort_values(["n", "seed"], ignore_index=True)
    middle = frame[frame["n"] == n].median()
    measurements = [
        Measurement("squared error, last / first tenth", float(np.median(ratios)), "<=", 1e-2),
        Measurement("the same for ZSCG with 1000 pairs", float(np.median(flat)), ">=", 0.2),
        Measurement("f - f*, no memory / both", float(middle["no memory"] / middle["both"]), ">=", 100.0),
        Measurement("f - f*, ZSCG / both", float(middle["ZSCG"] / middle["both"]), ">=", 10.0),
    ]
    notes = "The memory of directions is indispensable."
    for size, part in frame.groupby("n"):
        far = part.median()
        notes += (
            f" With n={size} the memory alone is {far['memory alone'] / far['both']:.2g} times as far from "
            f"the optimum as both, and SPIDER {far['SPIDER, unit directions'] / far['both']:.2g} times."
        )
    return Evidence(measurements, table=frame, notes=notes)
