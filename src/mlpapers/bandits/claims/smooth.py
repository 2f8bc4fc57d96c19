"""Smooth functions: the rate, in one and two dimensions, and why LinUCB must be batched."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlpapers.bandits import ConcaveFunctionEnv, TournamentLinUCB
from mlpapers.bandits.claims._inputs import adversarial, final_regrets, slope_row
from mlpapers.bandits.papers import PAIRWISE_BANDIT as PAPER
from mlpapers.core.paper import Evidence, Measurement, Scale

# Bound on the derivatives that the policy is told, for each order of smoothness.
BOUNDS = {1: 2.0, 2: 4.0, 3: 1.0}


@PAPER.claim(
    "b5",
    "The rate of smooth functions holds in two dimensions.",
    source="abstract (any dimension); targets derived",
)
def two_dimensions(scale: Scale, seed: int) -> Evidence:
    horizons = (10**4, 10**5, 10**6) if scale == "quick" else (10**4, 10**5, 10**6, 10**7)
    rows, measurements = [], []
    for k, limit in ((2, 2 / 3 + 0.05), (3, 5 / 8 + 0.05)):
        policy = TournamentLinUCB(k, BOUNDS[k], approx_scale=0.1)
        for bias in (0.0, 0.2):
            env = adversarial(bias, dim=2, x_star=np.array([0.37, 0.61]))
            regret = final_regrets(policy, env, horizons, 5, [seed, 5, k])
            row = slope_row(horizons, regret, k=k, bias=bias)
            rows.append(row)
            measurements.append(Measurement(f"slope, d=2, k={k}, b={bias:g}", row["slope"], "<=", limit))
    return Evidence(measurements, table=pd.DataFrame(rows))


@PAPER.claim(
    "b7",
    "LinUCB inside a cell must be batched: with short queries a bias makes the regret linear.",
    source="abstract (interactive batched LinUCB); targets derived",
)
def batches_are_needed(scale: Scale, seed: int) -> Evidence:
    horizons, R = (10**3, 10**4, 10**5), 2 if scale == "quick" else 5
    rows, ends, slopes = [], {}, {}
    for bias in (0.2,) if scale == "quick" else (0.2, 0.0):
        for batched in (True, False):
            policy = TournamentLinUCB(3, 1.0, cells=3, batched=batched)
            regret = final_regrets(policy, adversarial(bias), horizons, R, [seed, 7])
            row = slope_row(horizons, regret, bias=bias, batched=batched)
            rows.append(row)
            if bias == 0.2:
                ends[batched], slopes[batched] = float(regret[-1].mean()), row["slope"]
    return Evidence(
        [
            Measurement("unbatched / batched at T=1e5, b=0.2", ends[False] / ends[True], ">=", 10.0, "times"),
            Measurement("slope unbatched, b=0.2", slopes[False], ">=", 0.9),
            Measurement("slope batched, b=0.2", slopes[True], "<=", 0.6),
        ],
        table=pd.DataFrame(rows),
    )


def random_optimum_regrets(k: int, bias: float, horizons: tuple[int, ...], R: int, seed: int) -> np.ndarray:
    """Return final regrets (horizons, R) on quadratics whose optimum is drawn anew for every replication."""
    regret = np.empty((len(horizons), R))
    policy = TournamentLinUCB(k, BOUNDS[k])
    for i, T in enumerate(horizons):
        seeds = np.random.SeedSequence([seed, 4, k, T]).spawn(R)
        for r, own in enumerate(seeds):
            x_star = float(np.random.default_rng(own).uniform(0.2, 0.8))
            env = ConcaveFunctionEnv(x_star=x_star, bias=bias, bias_mode="adversarial")
            regret[i, r] = policy.run(env, T, random_state=own).final_regret[0]
    return regret


@PAPER.claim(
    "b4",
    "For functions of smoothness k the regret is of the order T^((k+1)/(2k+1)) on an interval.",
    source="abstract (optimal regret, Hoelder smooth); targets derived",
)
def smooth_rate(scale: Scale, seed: int) -> Evidence:
    horizons = tuple(round(10 ** (half / 2)) for half in range(8, 15))
    orders, R = ((2, 3), 20) if scale == "quick" else ((1, 2, 3), 40)
    rows, measurements = [], []
    for k in orders:
        limit = (k + 1) / (2 * k + 1) + 0.05
        for bias in (0.0, 0.2) if scale == "quick" else (0.0, 0.2, 1.0):
            row = slope_row(horizons, random_optimum_regrets(k, bias, horizons, R, seed), k=k, bias=bias)
            rows.append(row)
            if bias < 1.0:
                measurements.append(Measurement(f"slope, k={k}, b={bias:g}", row["slope"], "<=", limit))
    return Evidence(
        measurements,
        table=pd.DataFrame(rows),
        notes="The optimum is drawn anew in every run: a fixed one measures how it lies in the grid. A slope "
        "below the theory is an upper bound that holds; it does not prove the exponent.",
    )
