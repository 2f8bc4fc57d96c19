"""How the number of queries grows: with n, with d, with the accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.optim.claims._inputs import (
    median_queries,
    queries_to_gap,
    queries_to_value,
    replications,
    slope,
    value_after,
)
from mlpapers.optim.papers import ZO_FRANK_WOLFE as PAPER

SIZES = (250, 1000, 4000, 16000)
DIMENSIONS = (16, 32, 64, 128)
FIXED: dict[str, Any] = {"schedule": "fixed"}


def loglog(column: str, names: list[str], frame: pd.DataFrame) -> Any:
    """Return a figure of queries against `column`."""

    def draw(ax: Any) -> None:
        for name in names:
            ax.loglog(frame[column], frame[name], "o-", label=name)
        ax.set(xlabel=column, ylabel="queries")
        ax.legend()

    return draw


@PAPER.claim(
    "o1",
    "Convex sums: the number of queries grows like the root of n, not like n.",
    source="abstract (sqrt n); targets derived",
)
def convex_in_n(scale: Scale, seed: int) -> Evidence:
    seeds, rows = replications(scale, seed), []
    for n in SIZES:
        dvr = median_queries(queries_to_value, "dvr", seeds, n, 32, 2e-3, **FIXED)
        fd = median_queries(queries_to_value, "fd", seeds, n, 32, 2e-3)
        rows.append({"n": n, "dvr": dvr, "fd": fd, "fd / dvr": fd / dvr})
    frame = pd.DataFrame(rows)
    measurements = [
        Measurement("slope in n", slope(frame["n"], frame["dvr"]), "<=", 0.60),
        Measurement("slope in n of full differences", slope(frame["n"], frame["fd"]), "in", (0.85, 1.1)),
        Measurement("full differences / dvr at n=16000", rows[-1]["fd / dvr"], ">=", 15.0, "times"),
    ]
    return Evidence(measurements, table=frame, figure=loglog("n", ["dvr", "fd"], frame))


@PAPER.claim(
    "o2", "Convex sums: the number of queries is linear in d.", source="abstract (d); targets derived"
)
def convex_in_d(scale: Scale, seed: int) -> Evidence:
    seeds, rows = replications(scale, seed), []
    for d in DIMENSIONS:
        dvr = median_queries(queries_to_value, "dvr", seeds, 1000, d, 2e-3, **FIXED)
        fd = median_queries(queries_to_value, "fd", seeds, 1000, d, 2e-3)
        rows.append({"d": d, "dvr": dvr, "fd": fd})
    frame = pd.DataFrame(rows)
    measurements = [Measurement("slope in d", slope(frame["d"], frame["dvr"]), "<=", 1.15)]
    return Evidence(measurements, table=frame, figure=loglog("d", ["dvr", "fd"], frame))


@PAPER.claim(
    "o3", "Convex sums: queries grow no faster than 1/eps.", source="abstract (1/eps); targets derived"
)
def convex_in_eps(scale: Scale, seed: int) -> Evidence:
    seeds = replications(scale, seed)
    accuracies = (1e-2, 5e-3, 2.5e-3, 1.28e-3, 6.4e-4)
    rows = [
        {"1/eps": 1.0 / eps, "dvr": median_queries(queries_to_value, "dvr", seeds, 1000, 32, eps, **FIXED)}
        for eps in accuracies
    ]
    frame = pd.DataFrame(rows)
    measurements = [Measurement("slope in 1/eps", slope(frame["1/eps"], frame["dvr"]), "<=", 1.1)]
    return Evidence(measurements, table=frame, figure=loglog("1/eps", ["dvr"], frame))


@PAPER.claim(
    "o4",
    "Non-convex sums: the number of queries grows like the root of n at most.",
    source="abstract (sqrt n); targets derived",
)
def nonconvex_in_n(scale: Scale, seed: int) -> Evidence:
    seeds, measurements, rows = replications(scale, seed), [], []
    for eps in (2e-3, 2e-4) if scale == "full" else (2e-3,):
        part = []
        for n in SIZES:
            dvr = median_queries(queries_to_gap, "dvr", seeds, n, 32, eps)
            part.append({"gap": eps, "n": n, "dvr": dvr})
        measurements.append(
            Measurement(f"slope in n at gap {eps:g}", slope(SIZES, [row["dvr"] for row in part]), "<=", 0.6)
        )
        if eps == 2e-3:
            part[-1]["fd"] = median_queries(queries_to_gap, "fd", seeds, SIZES[-1], 32, eps)
            ratio = part[-1]["fd"] / part[-1]["dvr"]
            measurements.append(Measurement("full differences / dvr at n=16000", ratio, ">=", 20.0, "times"))
        rows += part
    frame = pd.DataFrame(rows)
    return Evidence(measurements, table=frame, figure=loglog("n", ["dvr"], frame[frame["gap"] == 2e-3]))


@PAPER.claim(
    "o5",
    "Non-convex sums: the number of queries grows no faster than d^(3/2).",
    source="abstract (d^(3/2)); targets derived",
)
def nonconvex_in_d(scale: Scale, seed: int) -> Evidence:
    seeds = replications(scale, seed)
    rows = [{"d": d, "dvr": median_queries(queries_to_gap, "dvr", seeds, 1000, d, 2e-3)} for d in DIMENSIONS]
    frame = pd.DataFrame(rows)
    measurements = [Measurement("slope in d", slope(frame["d"], frame["dvr"]), "<=", 1.65)]
    return Evidence(measurements, table=frame, figure=loglog("d", ["dvr"], frame))


@PAPER.claim(
    "o6",
    "Non-convex sums: queries grow no faster than 1/eps^2.",
    source="abstract (1/eps^2); targets derived",
)
def nonconvex_in_eps(scale: Scale, seed: int) -> Evidence:
    seeds = replications(scale, seed)
    rows = [
        {"1/eps": 1.0 / eps, "dvr": median_queries(queries_to_gap, "dvr", seeds, 1000, 32, eps)}
        for eps in (1e-2, 5e-3, 2.5e-3, 1.25e-3)
    ]
    frame = pd.DataFrame(rows)
    measurements = [Measurement("slope in 1/eps", slope(frame["1/eps"], frame["dvr"]), "<=", 2.1)]
    return Evidence(measurements, table=frame, figure=loglog("1/eps", ["dvr"], frame))


@PAPER.claim(
    "o7",
    "No step needs d partial derivatives: one direction a refresh, root n functions an increment.",
    source="abstract (per-step cost); targets derived",
)
def lean_steps(scale: Scale, seed: int) -> Evidence:
    n, rows = 500, []
    b = math.isqrt(n)
    for d in (8, 16, 32, 64) if scale == "full" else (8, 16, 32):
        runs = [
            queries_to_value(
                "dvr",
                n,
                d,
                2e-3,
                s,
                schedule="fixed",
                n_directions=1,
                batch_size=b,
                refresh_prob=1.0 / math.sqrt(n),
                step_offset=d * math.sqrt(n) / 4.0,
                init="full",
                warmup="none",
            )
            for s in replications("full", seed)
        ]
        dearest = max(run.max_queries_per_iter for run in runs)
        total = float(np.median([run.n_queries if run.status == 4 else np.inf for run in runs]))
        rows.append({"d": d, "queries": total, "dearest step": dearest})
    frame = pd.DataFrame(rows)
    measurements = [
        Measurement("dearest step of all", float(frame["dearest step"].max()), "<=", 2.0 * n + 4.0 * b),
        Measurement("spread of the dearest step over d", float(np.ptp(frame["dearest step"])), "<=", 0.0),
        Measurement("slope of all queries in d", slope(frame["d"], frame["queries"]), "<=", 1.1),
    ]
    notes = (
        "A base value that both halves of a step need is asked once, so that the dearest step costs "
        "2n + 3b and not 2n + 4b."
    )
    return Evidence(measurements, table=frame, figure=loglog("d", ["queries"], frame), notes=notes)


@PAPER.claim(
    "o7b",
    "With E = sqrt(d), non-convex sums take d^(3/2) at most while the dearest step hardly grows with d.",
    source="abstract (d^(3/2), per-step cost); targets derived",
)
def root_d_mode(scale: Scale, seed: int) -> Evidence:
    n, rows = 1000, []
    for d in DIMENSIONS if scale == "full" else DIMENSIONS[:3]:
        runs = [
            queries_to_gap("dvr", n, d, 2e-3, s, E="sqrt_d", memory="project", warmup="none")
            for s in replications(scale, seed)
        ]
        E = math.sqrt(d)
        l, b = math.ceil(2.0 * d / (E * math.sqrt(n))), math.ceil(d * math.sqrt(n) / (2.0 * E))
        rows.append(
            {
                "d": d,
                "queries": float(np.median([r.n_queries if r.status == 4 else np.inf for r in runs])),
                "steps": float(np.median([r.n_iter for r in runs])),
                "dearest step": max(r.max_queries_per_iter for r in runs),
                "bound": 4 * b + n * (1 + l),
            }
        )
    frame = pd.DataFrame(rows)
    share = float((frame["dearest step"] / frame["bound"]).max())
    measurements = [
        Measurement("slope of the dearest step in d", slope(frame["d"], frame["dearest step"]), "<=", 0.25),
        Measurement("dearest step / (4b + n(1 + l))", share, "<=", 1.0),
        Measurement("slope of steps in d", slope(frame["d"], frame["steps"]), "in", (0.3, 0.75)),
        Measurement("slope of all queries in d", slope(frame["d"], frame["queries"]), "<=", 1.5),
    ]
    return Evidence(measurements, table=frame, figure=loglog("d", ["queries", "steps"], frame))


@PAPER.claim(
    "o12",
    "Linear minimisations: no more than a small multiple of those of exact Frank-Wolfe.",
    source="abstract (LMO calls beside queries); targets derived",
)
def linear_minimisations(scale: Scale, seed: int) -> Evidence:
    seeds = replications(scale, seed)

    def beside(what: str, measure: Callable[..., float]) -> dict[str, Any]:
        dvr, fd = (
            float(np.median([measure(name, s, **own) for s in seeds]))
            for name, own in (("dvr", FIXED), ("fd", {}))
        )
        return {"measure": what, "dvr": dvr, "fd": fd, "dvr / fd": dvr / fd}

    calls = [
        beside(
            f"LMO calls to f - f* = {eps:g}",
            lambda name, s, eps=eps, **own: queries_to_value(name, 1000, 32, eps, s, **own).n_lmo,
        )
        for eps in (2e-3, 5e-4)
    ]
    reached = [
        beside(
            f"f - f* after {steps} steps",
            lambda name, s, steps=steps, **own: value_after(name, 1000, 32, steps, s, **own),
        )
        for steps in (100, 400)
    ]
    worst = max(row["dvr / fd"] for row in calls)
    measurements = [Measurement("LMO calls, dvr / full differences", worst, "<=", 2.5)]
    return Evidence(measurements, table=pd.DataFrame(calls + reached))
