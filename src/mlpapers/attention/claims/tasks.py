"""Synthetic tasks: a walk on a graph, a needle among keys, a signal in noise, associative recall."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mlpapers.attention.denoising import denoising
from mlpapers.attention.dilution import DilutionResult, dilution
from mlpapers.attention.graph import GraphTaskResult, graph_next_token
from mlpapers.attention.papers import SELECTIVE_ATTENTION as PAPER
from mlpapers.core.paper import Evidence, Measurement, Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRAPH_RUNS = "graph runs"
# The quick runs end at step 500.
_CHECKPOINTS = {"quick": (200, 500), "full": (200, 500, 2000)}


@functools.cache
def _graph_runs(scale: Scale, seed: int) -> tuple[dict[str, GraphTaskResult], ...]:
    n_seeds, n_steps = (5, 500) if scale == "quick" else (20, 2000)
    return tuple(
        {
            method: graph_next_token("star", 6, method, n_steps, random_state=n_seeds * seed + index)
            for method in ("ssa", "vanilla")
        }
        for index in range(n_seeds)
    )


@PAPER.claim(
    "a-optim",
    "Temperatures help optimisation: at the same step the divergence from the true transition probabilities "
    "is "
    "smaller, for every seed.",
    source="section 4.1, Figure 2",
    shares=GRAPH_RUNS,
)
def optimisation(scale: Scale, seed: int) -> Evidence:
    runs = _graph_runs(scale, seed)
    rows = [
        {
            "seed": index,
            "step": step,
            "ssa": float(run["ssa"].divergence[step]),
            "vanilla": float(run["vanilla"].divergence[step]),
        }
        for index, run in enumerate(runs)
        for step in _CHECKPOINTS[scale]
    ]
    table = pd.DataFrame(rows)
    means = table.groupby("step")[["ssa", "vanilla"]].mean()

    def draw(ax: Axes) -> None:
        for method in ("ssa", "vanilla"):
            ax.plot(np.mean([run[method].divergence for run in runs], axis=0), label=method)
        ax.set(xlabel="step", ylabel="mean divergence (nats)", yscale="log")
        ax.legend()

    return Evidence(
        measurements=[
            Measurement(
                "share of seeds and steps with less divergence",
                (table["ssa"] < table["vanilla"]).mean(),
                ">=",
                1.0,
            ),
            Measurement(
                "divergence with / without at step 500",
                means["ssa"][500] / means["vanilla"][500],
                "<=",
                0.5,
                paper="cross-entropy 0.009 against 0.0126",
            ),
        ],
        table=table,
        figure=draw,
    )


@PAPER.claim(
    "a-spiky",
    "Temperatures control the spikiness of each query: hubs get a flat row, leaves a spiky one, with "
    "smaller weights.",
    source="section 4.1, Figure 2",
    shares=GRAPH_RUNS,
)
def spiky(scale: Scale, seed: int) -> Evidence:
    rows = []
    for index, run in enumerate(_graph_runs(scale, seed)):
        ssa, plain = run["ssa"], run["vanilla"]
        rows.append(
            {
                "seed": index,
                "error with": ssa.err_map,
                "error without": plain.err_map,
                "tau of leaves": ssa.tau[ssa.degrees == 2].mean(),
                "tau of the hub": ssa.tau[ssa.degrees == 8].mean(),
                "norm with": ssa.norm,
                "norm without": plain.norm,
            }
        )
    table = pd.DataFrame(rows)
    means = table.mean()
    return Evidence(
        measurements=[
            Measurement(
                "error of the map with / without",
                means["error with"] / means["error without"],
                "<=",
                0.5,
                paper="0.358 against 0.543",
            ),
            Measurement(
                "share of seeds with tau(leaf) > tau(hub)",
                (table["tau of leaves"] > table["tau of the hub"]).mean(),
                ">=",
                1.0,
            ),
            Measurement("norm with / without", means["norm with"] / means["norm without"], "<", 1.0),
        ],
        table=table,
    )


@PAPER.claim(
    "a-dilution",
    "A position temperature keeps attention on a needle when there are 64 times as many keys as in training.",
    source="section 4.2",
)
def dilution_claim(scale: Scale, seed: int) -> Evidence:
    n_seeds = 1 if scale == "quick" else 3
    lengths = (64, 4096) if scale == "quick" else (16, 64, 256, 1024, 4096)
    methods = (
        ("vanilla", "linear", "sigmoid") if scale == "quick" else ("vanilla", "linear", "sigmoid", "ssmax")
    )
    runs: list[tuple[int, DilutionResult]] = [
        (index, dilution(method, lengths=lengths, random_state=n_seeds * seed + index))
        for index in range(n_seeds)
        for method in methods
    ]
    if scale == "full":
        runs += [
            (index, dilution(method, lengths=lengths, penalty=0.0, random_state=n_seeds * seed + index))
            for index in range(n_seeds)
            for method in methods
        ]
    table = pd.concat(
        [
            run.to_frame().assign(
                method=run.method, seed=index, penalty=run.penalty, norm=run.norm, alpha=run.alpha
            )
            for index, run in runs
        ],
        ignore_index=True,
    )
    judged = table[table["penalty"] > 0]
    mass = judged.groupby(["method", "length"])["mass"].mean().unstack()

    def draw(ax: Axes) -> None:
        for method in methods:
            ax.plot(lengths, mass.loc[method, list(lengths)], marker=".", label=method)
        ax.set(xlabel="keys", ylabel="attention to the needle", xscale="log", ylim=(0, 1))
        ax.legend()

    return Evidence(
        measurements=[
            Measurement("needle's mass among 4096, linear", mass.loc["linear", 4096], ">=", 0.8),
            Measurement("needle's mass among 4096, sigmoid", mass.loc["sigmoid", 4096], ">=", 0.7),
            Measurement("needle's mass among 4096, without", mass.loc["vanilla", 4096], "<=", 0.05),
            Measurement(
                "mass at 4096 / mass at 64, linear",
                mass.loc["linear", 4096] / mass.loc["linear", 64],
                ">=",
                0.9,
            ),
            Measurement(
                "mass at 4096 / mass at 64, without",
                mass.loc["vanilla", 4096] / mass.loc["vanilla", 64],
                "<=",
                0.1,
            ),
        ],
        table=table,
        figure=draw,
        notes="Compared at one penalty on the weights, which is what keeps them from growing; "
        "at full scale the rows with penalty 0 show attention without it.",
    )


@PAPER.claim(
    "a-value",
    "A temperature of the values suppresses tokens that carry nothing but noise.",
    source="section 4.3, Table 2",
)
def value(scale: Scale, seed: int) -> Evidence:
    settings = [(32, 0.2)] if scale == "quick" else [(16, 0.2), (32, 0.2), (64, 0.3)]
    rows = [
        {
            "length": length,
            "sigma": sigma,
            **{
                method: denoising(method, length, sigma, random_state=seed).mse
                for method in ("naive", "bayes", "vanilla", "gate", "learned")
            },
        }
        for length, sigma in settings
    ]
    table = pd.DataFrame(rows)
    measured = []
    for row in rows:
        where = f"L={row['length']}, sigma={row['sigma']:g}"
        if row["length"] > 16:
            measured += [
                Measurement(f"{where}: gate / plain attention", row["gate"] / row["vanilla"], "<=", 0.85),
                Measurement(
                    f"{where}: learned / plain attention", row["learned"] / row["vanilla"], "<=", 0.9
                ),
                Measurement(
                    f"{where}: plain attention / mean of all tokens", row["vanilla"] / row["naive"], "<", 1.0
                ),
            ]
        if row["sigma"] == 0.2:
            measured.append(Measurement(f"{where}: gate / Bayes", row["gate"] / row["bayes"], "<=", 1.2))
    return Evidence(measurements=measured, table=table)
