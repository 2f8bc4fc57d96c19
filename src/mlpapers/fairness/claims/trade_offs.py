"""The paper's experiments: two data sets, one feature and both, blind and aware, every notion and measure."""

from __future__ import annotations

import copy
import itertools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.fairness import BayesFairClassifier, GridSearchFairClassifier
from mlpapers.fairness._checks import NOTIONS
from mlpapers.fairness._posteriors import append_cells
from mlpapers.fairness.claims._inputs import (
    SHORT,
    Array,
    Split,
    fit_quietly,
    half_split,
    linear_regression,
)
from mlpapers.fairness.claims._peers import exponentiated_gradient, has_fairlearn
from mlpapers.fairness.claims.comparison import COMPAS_TOLERANCES, evaluate, frontier_at
from mlpapers.fairness.papers import BAYES_FAIR as PAPER


class Setting(NamedTuple):
    """One panel of the paper's figures."""

    data: str
    columns: tuple[str, ...]
    aware: bool
    notion: str
    measure: str


def _settings(scale: Scale) -> list[Setting]:
    features: tuple[tuple[str, ...], ...] = (("race",), ("sex",), ("sex", "race"))
    if scale == "quick":
        return [
            Setting("compas", columns, False, notion, "difference")
            for columns, notion in itertools.product(features[:2], NOTIONS[:2])
        ]
    return [
        Setting(*setting)
        for setting in itertools.product(
            ("compas", "adult"), features, (False, True), NOTIONS, ("difference", "ratio")
        )
    ]


@PAPER.claim(
    "f16",
    "In most settings the trade-off is no worse than that of the reduction.",
    source="Section 6, figures (curves, no numbers)",
    shares="bayes-fair-data",
)
def trade_offs(scale: Scale, seed: int) -> Evidence:
    rows = []
    for key, group in itertools.groupby(_settings(scale), key=lambda setting: setting[:3]):
        data, columns, aware = key
        split = half_split(data, seed)
        split = split._replace(
            sensitive=split.sensitive[list(columns)], sensitive_test=split.sensitive_test[list(columns)]
        )
        base = _base(data, columns, scale)
        model = BayesFairClassifier(base, attribute_aware=aware, random_state=seed)
        fit_quietly(model, split.X, split.y, sensitive_features=split.sensitive)
        rows += [_compared(model, base, split, setting, scale, seed) for setting in group]
    table = pd.DataFrame(rows)
    if not has_fairlearn():
        return Evidence(
            [Measurement("settings with a frontier", len(table), ">=", len(_settings(scale)))],
            table=table,
            notes="fairlearn is not installed, so there is nothing to compare with.",
        )
    share = float(np.mean(table["gain"] >= -2.0 * table["standard error"]))
    return Evidence(
        [Measurement("share of settings no worse than EG - 2 standard errors", share, ">=", 0.5)],
        table=table,
    )


def _base(data: str, columns: tuple[str, ...], scale: Scale) -> Any:
    """Return the paper's learner: logistic regression on COMPAS with one feature, else boosted trees."""
    if scale == "quick" or (data == "compas" and len(columns) == 1):
        return linear_regression()
    return HistGradientBoostingClassifier(max_iter=50, random_state=0)


def _compared(
    model: BayesFairClassifier, base: Any, split: Split, setting: Setting, scale: Scale, seed: int
) -> dict[str, Any]:
    measure, notion = setting.measure, setting.notion
    names = {"notion": SHORT[notion], "features": "+".join(setting.columns)}
    row: dict[str, Any] = {"data": setting.data, "aware": setting.aware, "measure": measure, **names}
    rules, points = [], []
    for tolerance in COMPAS_TOLERANCES:
        solved = copy.copy(model).resolve(
            constraint=notion, measure=measure, ratio_form="inverse", tolerance=tolerance
        )
        rules.append(solved.selection_proba(split.X_test, sensitive_features=split.sensitive_test))
        points.append(evaluate(split.y_test, rules[-1], split.sensitive_test, notion, measure))
    row |= {"least violation": min(violation for violation, _ in points)}
    if scale == "full":
        row |= _on_the_grid(base, split, setting, seed, points)
    if has_fairlearn():
        peer = _with_cells(model, split) if setting.aware else split
        f, _ = exponentiated_gradient(base, notion, 0.05, peer, seed, measure)
        violation, accuracy = evaluate(split.y_test, f, split.sensitive_test, notion, measure)
        nearest = rules[int(np.argmin([abs(v - violation) for v, _ in points]))]
        row |= {
            "EG violation": violation,
            "EG accuracy": accuracy,
            "gain": frontier_at(points, violation) - accuracy,
            "standard error": _paired_error(split.y_test, nearest, f),
        }
    return row


def _paired_error(y: NDArray[Any], ours: Array, theirs: Array) -> float:
    """Return the standard error of the difference of two accuracies on the same rows."""
    difference = (2.0 * y - 1.0) * (ours - theirs)
    return float(difference.std(ddof=1) / np.sqrt(len(y)))


def _with_cells(model: BayesFairClassifier, split: Split) -> Split:
    """Let the reduction see the cells, too."""
    n_cells = model.groups_.n_cells
    return split._replace(
        X=append_cells(split.X, model.groups_.transform(split.sensitive), n_cells),
        X_test=append_cells(split.X_test, model.groups_.transform(split.sensitive_test), n_cells),
    )


def _on_the_grid(
    base: Any, split: Split, setting: Setting, seed: int, points: list[tuple[float, float]]
) -> dict[str, float]:
    """Return the paper's own search at .05 on the test rows, and the exact frontier at its violation."""
    model = GridSearchFairClassifier(
        base,
        constraint=setting.notion,
        measure=setting.measure,
        ratio_form="inverse",
        attribute_aware=setting.aware,
        grid_interval=0.1 if len(setting.columns) == 1 else 0.5,
        random_state=seed,
    )
    fit_quietly(model, split.X, split.y, sensitive_features=split.sensitive)
    decided = model.predict(split.X_test, sensitive_features=split.sensitive_test).astype(np.float64)
    violation, accuracy = evaluate(
        split.y_test, decided, split.sensitive_test, setting.notion, setting.measure
    )
    return {
        "grid violation": violation,
        "grid accuracy": accuracy,
        "exact - grid": frontier_at(points, violation) - accuracy,
    }
