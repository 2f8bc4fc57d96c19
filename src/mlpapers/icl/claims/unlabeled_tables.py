"""Looping in-context models of real tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.icl.adapters import tabpfn_adapter
from mlpapers.icl.claims._tables import (
    ALL_CLASSES,
    FEW_UNLABELED,
    MULTICLASS,
    SETS,
    USUAL,
    Sizes,
    gains,
    looped_accuracies,
    loops_of,
    peer_accuracies,
)
from mlpapers.icl.papers import ICL_UNLABELED as PAPER

_LOOPS = ("Loop-0", "Loop-1", "Loop-2", "Loop-5", "risk")


@PAPER.claim(
    "u10",
    "Looping a tabular in-context model over unlabelled rows makes it more accurate, mostly in the first two "
    "loops.",
    source="Table 1",
    shares="tables",
)
def looping_tables(scale: Scale, seed: int) -> Evidence:
    if scale == "quick":
        sets = ("breast_cancer", "wine 1 vs rest", "diabetes > median")
        return _evidence(_run(sets, USUAL, 20, seed, whole=False), 20)
    variants = [
        _summary(_run(SETS, FEW_UNLABELED, 30, seed), ", 40 unlabelled"),
        _summary(_run(MULTICLASS, ALL_CLASSES, 40, seed), ", all classes: 15 labelled, 80 unlabelled"),
    ]
    return _evidence(_run(SETS, USUAL, 40, seed), 40, variants)


def _run(
    sets: tuple[str, ...], sizes: Sizes, n_splits: int, seed: int, *, whole: bool = True
) -> pd.DataFrame:
    """Return accuracies, one row per set and split; the whole of it has the guard and the peers too."""
    rows = []
    for name in sets:
        for number in range(1000 * seed, 1000 * seed + n_splits):
            scores = looped_accuracies(name, number, sizes, guard=whole)
            peers = peer_accuracies(name, number, sizes) if whole else {}
            rows.append({"set": name, **scores, **peers})
    return pd.DataFrame(rows)


@PAPER.claim(
    "u10b",
    "Looping an off-the-shelf tabular foundation model over unlabelled rows makes it more accurate.",
    source="Table 1",
    requires=("package:tabpfn",),
)
def looping_tabpfn(scale: Scale, seed: int) -> Evidence:
    sets, n_splits = (("breast_cancer",), 2) if scale == "quick" else (SETS, 40)
    rows = [
        {"set": name, **loops_of(tabpfn_adapter(), name, 1000 * seed + number)}
        for name in sets
        for number in range(n_splits)
    ]
    frame = pd.DataFrame(rows)
    return Evidence(measurements=[_paired(frame, "risk")], table=_summary(frame))


def _evidence(frame: pd.DataFrame, n_splits: int, variants: list[pd.DataFrame] | None = None) -> Evidence:
    by_set = gains(frame, "risk")
    measurements = [
        Measurement("mean gain", by_set["gain"].mean(), ">=", 0.4, "points", paper="68.84 -> 73.21"),
        Measurement("gain on breast_cancer", by_set.loc["breast_cancer", "gain"], ">=", 1.0, "points"),
    ]
    wine = by_set.loc[[name for name in by_set.index if name.startswith("wine")], "gain"].mean()
    measurements.append(Measurement("gain on wine", wine, ">=", 1.0, "points"))
    measurements.append(_paired(frame, "risk"))
    if "cv" in frame:
        guarded = gains(frame, "cv")["gain"]
        given_up = 1.0 - guarded.mean() / by_set["gain"].mean()
        measurements.append(Measurement("share of the gain that the guard gives up", given_up, "<", 0.25))
        measurements += [
            Measurement(f"gain on {name} under the guard", guarded[name], ">=", 0.0, "points")
            for name in ("digits 3-8", "iris 1 vs 2")
        ]
    table = pd.concat([_summary(frame), *(variants or [])], ignore_index=True)

    def draw(ax: Any) -> None:
        loops = [column for column in frame if column.startswith("Loop-")]
        for name, part in frame.groupby("set", sort=False):
            points = 100.0 * (part[loops] - part[["Loop-0"]].to_numpy()).mean()
            ax.plot(range(len(loops)), points, ".-", label=name)
        ax.axhline(0.0, color="0.6", linewidth=0.8)
        ax.set(xlabel="loop", ylabel="gain in points")
        ax.legend(fontsize="x-small")

    losses = ", ".join(f"{name} {row.gain:+.2f}" for name, row in by_set.iterrows() if row.gain < 0) or "none"
    return Evidence(
        measurements=measurements,
        table=table,
        figure=draw,
        notes=f"10 labelled and up to 100 unlabelled rows, {n_splits} splits; sets that lose: {losses}.",
    )


def _paired(frame: pd.DataFrame, column: str) -> Measurement:
    """Compare the mean gain over splits with twice its standard error."""
    gain = frame[column] - frame["Loop-0"]
    by_set = gain.groupby(frame["set"])
    stderr = np.sqrt(np.square(by_set.sem()).sum()) / by_set.ngroups
    return Measurement("mean gain / its standard error", by_set.mean().mean() / stderr, ">", 2.0, "s.e.")


def _summary(frame: pd.DataFrame, variant: str = "") -> pd.DataFrame:
    """Accuracies in percent per set and their mean; what the selected loops gain, with standard errors."""
    means = 100.0 * frame.groupby("set", sort=False).mean(numeric_only=True)
    means.loc["mean"] = means.mean()
    columns = [name for name in means if name in _LOOPS or not name.startswith("Loop-")]
    table = means[columns].copy()
    for rule in ("risk", "cv"):
        if rule in frame:
            by_set = gains(frame, rule)
            table[f"gain of {rule}"] = means[rule] - means["Loop-0"]
            table[f"s.e. of {rule}"] = by_set["stderr"]
            table.loc["mean", f"s.e. of {rule}"] = np.sqrt(np.square(by_set["stderr"]).sum()) / len(by_set)
    table.index = [f"{name}{variant}" for name in table.index]
    return table.round(2).rename_axis("set").reset_index()
