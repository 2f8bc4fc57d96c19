"""The paper's kinds of experiment with linear models: sparse and robust classification, a large problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.optim.claims._inputs import (
    excess_after,
    reference,
    replications,
    robust_regression,
    sparse_logistic,
)
from mlpapers.optim.constraints import L1Ball
from mlpapers.optim.datasets import make_sparse_logistic
from mlpapers.optim.linear import LinearFiniteSum
from mlpapers.optim.minimize import minimize_fw_zo
from mlpapers.optim.papers import ZO_FRANK_WOLFE as PAPER

STAR = {
    f"{step}, b={b}": {"method": "acc_szofw_star", "batch_size": b, "step": step}
    for step in ("open-loop", 0.02, 0.1)
    for b in (16, 64)
}
QUICK_STAR = {name: STAR[name] for name in ("open-loop, b=64", "0.1, b=64")}


def rivals(scale: Scale) -> dict[str, dict[str, Any]]:
    """Return name -> settings; of Acc-SZOFW* the whole grid at full scale."""
    star = STAR if scale == "full" else QUICK_STAR
    named: dict[str, dict[str, Any]] = {
        "dvr": {},
        "dvr, fixed": {"schedule": "fixed"},
        "auto": {"method": "auto"},
        "FD-FW": {"method": "fd"},
        "JAGUAR": {"method": "jaguar"},
        **{f"Acc-SZOFW* {name}": settings for name, settings in star.items()},
    }
    if scale == "full":
        named |= {
            "ZSCG": {"method": "zscg"},
            "SGFFW": {"method": "sgffw"},
            "Acc-SZOFW, UniGE": {"method": "acc_szofw", "options": {"variant": "unige"}},
            "Acc-SZOFW, CooGE": {"method": "acc_szofw"},
            "FZFW": {"method": "fzfw"},
        }
    return named


def star_best(middle: pd.Series) -> float:
    """Return the best of the Acc-SZOFW* settings."""
    return float(min(middle[name] for name in middle.index if name.startswith("Acc-SZOFW*")))


@PAPER.claim(
    "o9",
    "Sparse logistic regression: closer to the optimum than the rivals at equal queries.",
    source="abstract (superior); targets derived",
)
def logistic_regression(scale: Scale, seed: int) -> Evidence:
    n, d, passes = 1000, 30, 400
    rows: dict[str, list[float]] = {}
    for s in replications(scale, seed):
        total, ball, least = sparse_logistic(s)
        for name, settings in rivals(scale).items():
            # One function a step: SGFFW gets an eighth of the budget.
            budget = passes * n * d // (8 if name == "SGFFW" else 1)
            rows.setdefault(name, []).append(excess_after(total, ball, least, budget, s, **settings))
    middle = pd.Series({name: float(np.median(values)) for name, values in rows.items()})
    dvr = middle["dvr"]
    measurements = [
        Measurement("f - f* of dvr after 400 n d queries", dvr, "<=", 1e-5),
        Measurement("JAGUAR / dvr", middle["JAGUAR"] / dvr, ">=", 10.0, "times"),
        Measurement("best Acc-SZOFW* / dvr", star_best(middle) / dvr, ">=", 2.0, "times"),
        Measurement("FD-FW / dvr", middle["FD-FW"] / dvr, ">=", 1.3, "times"),
    ]
    if scale == "full":
        measurements += [
            Measurement("ZSCG / dvr", middle["ZSCG"] / dvr, ">=", 50.0, "times"),
            Measurement("SGFFW at an eighth of the budget / dvr", middle["SGFFW"] / dvr, ">=", 50.0, "times"),
        ]
    frame = middle.rename("f - f*").rename_axis("method").reset_index()
    notes = (
        f"The table is after {passes} n d queries; f* from projected gradient steps with a gap of at most "
        "1e-13. At low accuracy a well tuned Acc-SZOFW* can be as good, and on small n methods with full "
        "checkpoints are; "
        "method='auto' is ahead of all of them here."
    )
    return Evidence(measurements, table=frame, figure=bars(middle), notes=notes)


@PAPER.claim(
    "o10",
    "Robust regression with gross outliers: closer to the best point known than the rivals.",
    source="abstract (superior); targets derived",
)
def robust(scale: Scale, seed: int) -> Evidence:
    n, d, passes = 4000, 100, 16 if scale == "full" else 4
    rows: dict[str, list[float]] = {}
    for s in replications(scale, seed):
        total, ball, curvature = robust_regression(s)
        points = {
            name: np.asarray(
                minimize_fw_zo(
                    total, np.zeros(d), ball, max_queries=passes * n * d, random_state=s, **settings
                ).x
            )
            for name, settings in rivals(scale).items()
            if name != "SGFFW"
        }
        start = min(points.values(), key=total.mean)
        best = total.mean(reference(total, ball, start, curvature, 2000))
        for name, x in points.items():
            rows.setdefault(name, []).append(total.mean(x) - best)
    middle = pd.Series({name: float(np.median(values)) for name, values in rows.items()})
    dvr = middle["dvr"]
    far = dvr
    if scale == "quick":
        far = excess_after(total, ball, best, 16 * n * d, seed)
    measurements = [
        Measurement("f - best known of dvr after 16 n d queries", far, "<=", 6e-4),
        Measurement("FD-FW / dvr", middle["FD-FW"] / dvr, ">=", 20.0, "times"),
        Measurement("JAGUAR / dvr", middle["JAGUAR"] / dvr, ">=", 100.0, "times"),
        Measurement("dvr / best Acc-SZOFW*", dvr / star_best(middle), "<=", 5.0, "times"),
        Measurement("auto / best Acc-SZOFW*", middle["auto"] / star_best(middle), "<=", 1.5, "times"),
    ]
    if scale == "full":
        measurements += [
            Measurement("UniGE / dvr", middle["Acc-SZOFW, UniGE"] / dvr, ">=", 20.0, "times"),
            Measurement("FZFW / dvr", middle["FZFW"] / dvr, ">=", 5.0, "times"),
            Measurement("CooGE / dvr", middle["Acc-SZOFW, CooGE"] / dvr, ">=", 5.0, "times"),
            Measurement("ZSCG / dvr", middle["ZSCG"] / dvr, ">=", 3.0, "times"),
        ]
    frame = middle.rename("f - best").rename_axis("method").reset_index()
    return Evidence(measurements, table=frame, figure=bars(middle))


def bars(middle: pd.Series) -> Any:
    """Return a figure of one bar per method."""

    def draw(ax: Any) -> None:
        ordered = middle.sort_values()
        ax.barh(list(ordered.index), np.maximum(ordered.to_numpy(), 1e-16))
        ax.set(xscale="log", xlabel="f above the best")

    return draw


@PAPER.claim(
    "o13",
    "It scales: sparse data with many functions and coordinates, ahead of the rivals at equal queries.",
    source="abstract (large scale); targets derived",
    known_miss=(
        "dvr is ahead of full differences by 0.10 to 0.21 and behind Acc-SZOFW* with b=64 by 0.0043, 0.0039 "
        "and 0.012 (quick scale, seeds 0 to 2; method='auto' is ahead of both). At full scale it is behind "
        "by 0.0008, and method='auto' by 0.0007"
    ),
)
def large_sparse(scale: Scale, seed: int) -> Evidence:
    n, d, passes = (100_000, 10_000, 1.5) if scale == "full" else (4000, 200, 4.0)
    A, y, _ = make_sparse_logistic(n, d, random_state=seed)
    total, ball = LinearFiniteSum(A, y, "logistic"), L1Ball(20.0)
    named: dict[str, dict[str, Any]] = {
        "dvr": {},
        "auto": {"method": "auto"},
        "FD-FW": {"method": "fd"},
        "Acc-SZOFW*": {"method": "acc_szofw_star", "batch_size": 64},
    }
    values = {
        name: minimize_fw_zo(
            total, np.zeros(d), ball, max_queries=int(passes * n * d), random_state=seed, **settings
        ).fun
        for name, settings in named.items()
    }
    dvr = float(values["dvr"] or np.nan)
    measurements = [
        Measurement("f(dvr) - f(FD-FW)", dvr - float(values["FD-FW"] or np.nan), "<=", 0.0),
        Measurement("f(dvr) - f(Acc-SZOFW*)", dvr - float(values["Acc-SZOFW*"] or np.nan), "<=", 0.0),
    ]
    return Evidence(measurements, table=pd.Series(values, name="f").rename_axis("method").reset_index())
