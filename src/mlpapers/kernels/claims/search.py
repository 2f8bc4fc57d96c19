"""Claims about search over knobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.kernels.papers import AKG_KERNEL_AGENT as PAPER
from mlpapers.kernels.search.evolve import Params, search

# A wide valley around 2 and a narrow, deeper one around 6.
SPACE = {f"knob{i}": tuple(range(8)) for i in range(6)}
# Independent runs and measurements of each.
_RUNS = 20
_EVALUATIONS = 96
_VARIANTS: dict[str, dict[str, Any]] = {
    "random": {"strategy": "random"},
    "population": {"strategy": "population"},
    "islands": {"strategy": "islands"},
    "ucb(0.3)": {"strategy": "ucb", "ucb_c": 0.3},
    "ucb(1.414)": {"strategy": "ucb", "ucb_c": 1.414},
}


def costs(some: Sequence[Params]) -> list[float]:
    """Return min(1 + 0.12 sum |x_i - 6|, 1.35 + 0.05 sum |x_i - 2|) of each setting."""
    x = np.array([[params[name] for name in SPACE] for params in some])
    deep, wide = 1 + 0.12 * np.abs(x - 6).sum(axis=1), 1.35 + 0.05 * np.abs(x - 2).sum(axis=1)
    return [float(value) for value in np.minimum(deep, wide)]


@PAPER.claim(
    "k10",
    "With 96 measurements of a landscape with two valleys, evolution on islands and selection by upper "
    "confidence bounds end at least 0.1 below random search, on average over 20 runs; the same seed gives "
    "the same run.",
    source="Section on search (design choice)",
)
def search_finds_more_than_chance(scale: Scale, seed: int) -> Evidence:
    rows = []
    for name, options in _VARIANTS.items():
        for run in range(_RUNS):
            found = search(
                SPACE, costs, n_evaluations=_EVALUATIONS, random_state=1000 * seed + run, **options
            )  # type: ignore[arg-type]
            rows.append({"strategy": name, "run": run, "best": found.best.cost})
    table = pd.DataFrame(rows)
    mean = table.groupby("strategy")["best"].mean()
    again = [search(SPACE, costs, n_evaluations=_EVALUATIONS, random_state=seed) for _ in range(2)]
    same = [[one.params for one in outcome.history] for outcome in again]
    return Evidence(
        measurements=[
            Measurement("random - islands, mean best", mean["random"] - mean["islands"], ">=", 0.1),
            Measurement("random - UCB(0.3), mean best", mean["random"] - mean["ucb(0.3)"], ">=", 0.1),
            Measurement("two runs of the same seed agree", float(same[0] == same[1]), ">=", 1.0),
        ],
        table=mean.rename("mean best").reset_index(),
        notes=f"scale {scale}: the same experiment; not claimed: that islands beat one population",
    )
