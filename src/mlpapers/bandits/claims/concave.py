"""Strongly concave functions: the root of the horizon, in any dimension, whatever the bias."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.bandits import (
    ConcaveFunctionEnv,
    ConvexBandit1D,
    EstimatedKnapsack,
    InexactProximalGradient,
    KieferWolfowitz,
    NetworkRevenueEnv,
    TournamentLinUCB,
    TrisectionSearch,
)
from mlpapers.bandits.claims._inputs import DECADES, adversarial, final_regrets, slope_row
from mlpapers.bandits.papers import PAIRWISE_BANDIT as PAPER
from mlpapers.core.paper import Evidence, Measurement, Scale


@PAPER.claim(
    "b1",
    "For strongly concave functions the regret is of the order of the root of the horizon.",
    source="abstract (optimal regret, strongly concave); targets derived",
)
def root_of_the_horizon(scale: Scale, seed: int) -> Evidence:  # noqa: ARG001 - quick is already full
    env = ConcaveFunctionEnv(bias=0.1, bias_mode="constant")
    regret = final_regrets(InexactProximalGradient(4.0, 4.0), env, DECADES, 100, [seed, 1])
    row = slope_row(DECADES, regret)
    scaled = regret.mean(axis=1) / np.sqrt(DECADES)
    return Evidence(
        [
            Measurement("slope of ln regret on ln T", row["slope"], "in", (0.45, 0.55)),
            Measurement("max / min of R(T)/sqrt(T)", scaled.max() / scaled.min(), "<=", 1.3),
        ],
        table=pd.DataFrame([row]),
    )


@PAPER.claim(
    "b2",
    "The rate holds in every dimension, and the regret grows polynomially in it.",
    source="abstract (general dimension); targets derived",
)
def any_dimension(scale: Scale, seed: int) -> Evidence:  # noqa: ARG001 - quick is already full
    rows, measurements, ends = [], [], []
    dims = (1, 2, 5, 10)
    for condition in (1.0, 4.0):
        for d in dims:
            env = ConcaveFunctionEnv(dim=d, condition=condition, bias=0.1, bias_mode="constant")
            policy = InexactProximalGradient(env.sigma, env.smoothness)  # type: ignore[arg-type]
            regret = final_regrets(policy, env, DECADES, 40, [seed, 2, d, int(condition)])
            row = slope_row(DECADES, regret, d=d, condition=condition)
            rows.append(row)
            name = f"slope, d={d}, condition {condition:g}"
            measurements.append(Measurement(name, row["slope"], "in", (0.45, 0.57)))
            if condition == 1.0:
                ends.append(float(regret[-1].mean()))
    exponent = float(np.polyfit(np.log(dims), np.log(ends), 1)[0])
    measurements.append(Measurement("exponent in d at T=1e7, condition 1", exponent, "<=", 1.5))
    return Evidence(measurements, table=pd.DataFrame(rows))


@PAPER.claim(
    "b3",
    "A biased oracle does not change the rate; averaging many short comparisons fails under bias.",
    source="abstract (biased oracle); targets derived",
)
def biased_oracle(scale: Scale, seed: int) -> Evidence:
    rows, measurements = [], []
    gradient = InexactProximalGradient(4.0, 4.0)
    for bias in (0.0, 0.2, 1.0):
        regret = final_regrets(gradient, adversarial(bias), DECADES, 40, [seed, 3, int(10 * bias)])
        row = slope_row(DECADES, regret, policy="InexactProximalGradient", bias=bias)
        rows.append(row)
        measurements.append(Measurement(f"slope of the gradient, b={bias:g}", row["slope"], "<=", 0.55))
        if bias == 0.2:
            ours = float(regret[1].mean())
    if scale == "full":
        short = (10**3, 10**4, 10**5)
        for bias in (0.0, 0.2, 1.0):
            env = adversarial(bias)
            regret = final_regrets(KieferWolfowitz(4.0, 4.0), env, short, 5, [seed, 33, int(10 * bias)])
            row = slope_row(short, regret, policy="KieferWolfowitz", bias=bias)
            rows.append(row)
            if bias > 0.0:
                name = f"slope of Kiefer-Wolfowitz, b={bias:g}"
                measurements.append(Measurement(name, row["slope"], ">=", 0.9))
            if bias == 0.2:
                ratio = float(regret[-1].mean()) / ours
                name = "Kiefer-Wolfowitz / gradient at T=1e5, b=0.2"
                measurements.append(Measurement(name, ratio, ">=", 100.0, "times"))
    return Evidence(
        measurements,
        table=pd.DataFrame(rows),
        notes="Without bias Kiefer-Wolfowitz is as good. Its runs belong to scale full.",
    )


@PAPER.claim(
    "b8",
    "The length of a comparison is a decision: it grows with time, and few comparisons suffice.",
    source="abstract (stopping time of a query); targets derived",
)
def few_long_queries(scale: Scale, seed: int) -> Evidence:  # noqa: ARG001 - quick is already full
    rows, measurements = [], []
    for d in (1, 5):
        result = InexactProximalGradient(4.0, 4.0).run(
            ConcaveFunctionEnv(dim=d), 10**6, n_replications=20, random_state=seed
        )
        used = int(result.n_queries.max())
        rows.append({"policy": result.policy, "d": d, "horizon": 10**6, "queries at most": used})
        measurements.append(
            Measurement(f"queries / (d log2 T), d={d}, T=1e6", used / (d * np.log2(10**6)), "<=", 4.0)
        )
        lengths = result.trace_["n"].to_numpy()[:-1]
        shorter = int(np.count_nonzero(np.diff(lengths) < 0))
        measurements.append(Measurement(f"queries shorter than the one before, d={d}", shorter, "<=", 0.0))
    result = TournamentLinUCB(3, 1.0).run(ConcaveFunctionEnv(), 10**7, n_replications=10, random_state=seed)
    used = int(result.n_queries.max())
    rows.append({"policy": result.policy, "d": 1, "horizon": 10**7, "queries at most": used})
    measurements.append(Measurement("queries of the tournament, k=3, T=1e7", used, "<", 2000.0))
    return Evidence(measurements, table=pd.DataFrame(rows), notes="The last query is cut by the horizon.")


@PAPER.claim(
    "b12",
    "At large horizons the gradient policy beats earlier methods made of comparisons.",
    source="abstract (improves on earlier methods); targets derived",
)
def earlier_comparison_methods(scale: Scale, seed: int) -> Evidence:
    R = 20 if scale == "full" else 10
    env = adversarial(0.2)
    policies = (InexactProximalGradient(4.0, 4.0), ConvexBandit1D(), TrisectionSearch())
    ends = {
        type(policy).__name__: float(final_regrets(policy, env, (10**6,), R, [seed, 12]).mean())
        for policy in policies
    }
    ours = ends["InexactProximalGradient"]
    best = min(ends["ConvexBandit1D"], ends["TrisectionSearch"])
    return Evidence(
        [Measurement("gradient / best of the other two, T=1e6, b=0.2", ours / best, "<=", 0.5)],
        table=pd.DataFrame({"policy": list(ends), "regret at 1e6": list(ends.values())}),
    )


def _beyond(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return -2.0 * (points[:, 0] - 1.2) ** 2


def _far_beyond(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return -2.0 * (points[:, 0] - 1.6) ** 2


@PAPER.claim(
    "b14",
    "Screening keeps the regret almost constant where the optimum lies on the boundary (ours).",
    source="not in the paper; derived for this library",
)
def boundary_screening(scale: Scale, seed: int) -> Evidence:  # noqa: ARG001 - quick is already full
    rows, measurements = [], []
    for name, fn in (("1.2", _beyond), ("1.6", _far_beyond)):
        env = adversarial(0.2, fn=fn, x_star=1.0)
        ends = {}
        for screen in (True, False):
            policy = InexactProximalGradient(4.0, 4.0, screen=screen)
            regret = final_regrets(policy, env, DECADES, 20, [seed, 14])
            row = slope_row(DECADES, regret, optimum=name, screen=screen)
            rows.append(row)
            ends[screen] = float(regret[-1].mean())
            label = f"slope {'with' if screen else 'without'} screening, x*={name}"
            if screen:
                measurements.append(Measurement(label, row["slope"], "<=", 0.3))
            else:
                measurements.append(Measurement(label, row["slope"], "in", (0.68, 0.80)))
        ratio = ends[True] / ends[False]
        measurements.append(Measurement(f"with / without at T=1e7, x*={name}", ratio, "<=", 1.0 / 50.0))
    inside = [
        final_regrets(
            InexactProximalGradient(4.0, 4.0, screen=screen), adversarial(0.2), DECADES, 20, [seed, 14]
        )
        for screen in (True, False)
    ]
    gap = float(np.abs(inside[0] - inside[1]).max())
    measurements.append(Measurement("difference of regrets inside, x*=0.37", gap, "<=", 0.0))
    network = {}
    for screen in (True, False):
        # Three of four prices are at their upper bound.
        policy = InexactProximalGradient(25.42, 42.18, psi=EstimatedKnapsack(50.0), n_init=32, screen=screen)
        regret = final_regrets(policy, NetworkRevenueEnv.example(4), (10**7,), 8, [seed, 144])
        network[screen] = float(regret.mean())
        rows.append({"optimum": "network of 4", "screen": screen, "R(1e+07)": network[screen]})
    ratio = network[True] / network[False]
    measurements.append(Measurement("with / without at T=1e7, network of 4 products", ratio, "<=", 0.9))
    return Evidence(measurements, table=pd.DataFrame(rows))
