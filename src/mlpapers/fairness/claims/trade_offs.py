"""The paper's experiments: two data sets, one feature and both, blind and aware, every notion and measure."""

from __future__ import annotations

import copy
import itertools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.fairness import BayesFairClassifier, GridSearchFairClassifier
from mlpapers.fairness._checks import NOTIONS
from mlpapers.fairness._posteriors import append_cells
from mlpapers.fairness.claims._inputs import (
    SHORT,
    Array,
    Split,
    coded_adult_split,
    fit_quietly,
    half_split,
    linear_regression,
    mean_advantage,
)
from mlpapers.fairness.claims._peers import exponentiated_gradient
from mlpapers.fairness.claims.comparison import COMPAS_TOLERANCES, evaluate, frontier_at
from mlpapers.fairness.papers import BAYES_FAIR as PAPER

Points = list[tuple[float, float]]
Curves = dict[str, Points]
# The reduction is fitted anew for each tolerance, which takes a minute with boosted trees.
EG_TOLERANCES = (0.02, 0.05, 0.1)


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
    "In most settings the trade-off is better than that of the reduction.",
    source="Section 6, figures (curves, no numbers)",
    shares="bayes-fair-data",
    requires=("package:fairlearn",),
)
def trade_offs(scale: Scale, seed: int) -> Evidence:
    rows = []
    curves: dict[Setting, Curves] = {}
    for key, group in itertools.groupby(_settings(scale), key=lambda setting: setting[:3]):
        data, columns, aware = key
        base = base_learner(data, columns, scale)
        split = chosen_split(data, columns, base, seed)
        model = fitted_rule(base, split, aware, seed)
        for setting in group:
            row, curves[setting] = compared(model, base, split, setting, scale, seed)
            rows.append(row)
    return judged(pd.DataFrame(rows), curves)


def judged(table: pd.DataFrame, curves: dict[Setting, Curves]) -> Evidence:
    """Return the evidence: in how many settings our curve is above the reduction's points."""

    def draw(ax: Any) -> None:
        setting = next(iter(curves))
        for name, points in curves[setting].items():
            violations, accuracies = np.array(sorted(points)).T
            ax.plot(violations, accuracies, marker="o", label=name)
        ax.set(xlabel="violation", ylabel="accuracy", title=f"{setting.data}, {SHORT[setting.notion]}")
        ax.legend()

    # Where a point of theirs is fairer than all of ours the gain is nan: not better.
    better = table["gain"] >= 0.0
    beyond = int(table["gain"].isna().sum())
    parts = {
        "blind": better[~table["aware"]],
        "aware": better[table["aware"]],
        "differences": better[table["measure"] == "difference"],
        "ratios": better[table["measure"] == "ratio"],
    }
    shares = ", ".join(
        f"{name} {part.mean():.2f} of {len(part)}" for name, part in parts.items() if len(part)
    )
    return Evidence(
        [
            Measurement(
                "share of settings with an accuracy above EG's at its violation", better.mean(), ">=", 0.5
            )
        ],
        table=table,
        figure=draw,
        notes=f"Share of settings: {shares}. In {beyond} of {len(table)} EG has a point that is fairer than "
        "all of ours; they count as not better. LinearPost solves the same program with pairwise bounds.",
    )


def chosen_split(data: str, columns: tuple[str, ...], base: Any, seed: int) -> Split:
    """Return the split with some of the sensitive columns."""
    linear = data == "compas" or isinstance(base, LogisticRegression)
    split = half_split(data, seed) if linear else coded_adult_split(seed)
    return split._replace(
        sensitive=split.sensitive[list(columns)], sensitive_test=split.sensitive_test[list(columns)]
    )


def fitted_rule(base: Any, split: Split, aware: bool, seed: int) -> BayesFairClassifier:
    """Return the classifier whose tolerances and notions are to be changed."""
    model = BayesFairClassifier(base, attribute_aware=aware, random_state=seed)
    fit_quietly(model, split.X, split.y, sensitive_features=split.sensitive)
    return model


def base_learner(data: str, columns: tuple[str, ...], scale: Scale) -> Any:
    """Return the paper's learner: logistic regression on COMPAS with one feature, else boosted trees."""
    if scale == "quick" or (data == "compas" and len(columns) == 1):
        return linear_regression()
    return HistGradientBoostingClassifier(max_iter=50, random_state=0)


def compared(
    model: BayesFairClassifier, base: Any, split: Split, setting: Setting, scale: Scale, seed: int
) -> tuple[dict[str, Any], Curves]:
    """Return a row of the table and the (violation, accuracy) points of each method on the test rows."""
    measure, notion = setting.measure, setting.notion

    def points_of(reference: str) -> Points:
        points = []
        for tolerance in COMPAS_TOLERANCES:
            solved = copy.copy(model).resolve(
                constraint=notion,
                measure=measure,
                reference=reference,
                ratio_form="inverse",
                tolerance=tolerance,
            )
            f = solved.selection_proba(split.X_test, sensitive_features=split.sensitive_test)
            points.append(evaluate(split.y_test, f, split.sensitive_test, notion, measure))
        return points

    curves = {"exact": points_of("overall")}
    row: dict[str, Any] = {
        "data": setting.data,
        "features": "+".join(setting.columns),
        "aware": setting.aware,
        "notion": SHORT[notion],
        "measure": measure,
        "least violation": min(violation for violation, _ in curves["exact"]),
    }
    if measure == "difference" and notion != "accuracy_parity":
        curves["LinearPost"] = points_of("pairwise")
        row["exact - LinearPost"] = mean_advantage(_arrays(curves["exact"]), _arrays(curves["LinearPost"]))
    if scale == "full":
        curves["grid"] = [_on_the_grid(base, split, setting, seed)]
        row["exact - grid"] = _mean_gain(curves["exact"], curves["grid"])
    peer = _with_cells(model, split) if setting.aware else split
    curves["EG"] = []
    cheap = scale == "full" and isinstance(base, LogisticRegression)
    for tolerance in EG_TOLERANCES if cheap else EG_TOLERANCES[1:2]:
        f, _ = exponentiated_gradient(base, notion, tolerance, peer, seed, measure)
        curves["EG"].append(evaluate(split.y_test, f, split.sensitive_test, notion, measure))
    violations, accuracies = _arrays(curves["EG"])
    row |= {
        "EG violation": violations.mean(),
        "EG accuracy": accuracies.mean(),
        "gain": _mean_gain(curves["exact"], curves["EG"]),
    }
    return row, curves


def _arrays(points: Points) -> tuple[Array, Array]:
    violations, accuracies = np.array(points).T
    return violations, accuracies


def _mean_gain(ours: Points, theirs: Points) -> float:
    """Return how far our frontier is above their points, at the violations of these.

    nan where one of theirs is fairer than all of ours.
    """
    return float(np.mean([frontier_at(ours, violation) - accuracy for violation, accuracy in theirs]))


def _with_cells(model: BayesFairClassifier, split: Split) -> Split:
    """Let the reduction see the cells, too."""
    n_cells = model.groups_.n_cells
    return split._replace(
        X=append_cells(split.X, model.groups_.transform(split.sensitive), n_cells),
        X_test=append_cells(split.X_test, model.groups_.transform(split.sensitive_test), n_cells),
    )


def _on_the_grid(base: Any, split: Split, setting: Setting, seed: int) -> tuple[float, float]:
    """Return violation and accuracy of the paper's own search at .05 on the test rows."""
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
    return evaluate(split.y_test, decided, split.sensitive_test, setting.notion, setting.measure)
