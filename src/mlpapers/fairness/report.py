"""A report of every fairness measure of a set of predictions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_int
from mlpapers.fairness._checks import (
    CONSTRAINTS,
    MEASURES,
    NOTIONS,
    RATIO_FORMS,
    REFERENCES,
    constraint_blocks,
)
from mlpapers.fairness.metrics import _prepare, rates_of, worst_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FairnessReport", "fairness_report"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FairnessReport(Result):
    """Every notion, measure and reference for one set of predictions.

    Parameters
    ----------
    accuracy : float
        Expected share of correct predictions.
    measures : DataFrame
        Columns constraint, measure, reference, value, violation (the value, or 1 - a ratio) and worst_group,
        the group farthest from the population.
    rates : DataFrame
        Columns constraint, group, rate, count, se; the group "overall" is the population.
    """

    accuracy: float
    measures: pd.DataFrame
    rates: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return the measures, one row per notion, measure and reference."""
        return self.measures.copy()

    def summary(self) -> str:
        """Return the measures as text."""
        table = self.measures.to_string(index=False, float_format="%.4f")
        return f"{type(self).__name__}: accuracy {self.accuracy:.4f}\n{table}"

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the rates of the groups, one marker per group and notion, with bars of two standard errors.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``Axes.errorbar``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        groups = list(dict.fromkeys(self.rates["group"]))
        for shift, (notion, rows) in enumerate(self.rates.groupby("constraint", sort=False)):
            place = np.array([groups.index(group) for group in rows["group"]]) + 0.12 * (shift - 1.5)
            style = {"fmt": "o", "label": str(notion).replace("_", " "), **options}
            ax.errorbar(place, rows["rate"].to_numpy(), yerr=2.0 * rows["se"].to_numpy(), **style)
        ax.set_xticks(range(len(groups)), groups, rotation=30, ha="right")
        ax.set_ylabel("rate")
        ax.legend()
        return ax


def fairness_report(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sensitive_features: Any,
    groups: str = "all",
    ratio_form: str = "complement",
    sample_weight: ArrayLike | None = None,
    min_group_count: int = 1,
) -> FairnessReport:
    """Measure predictions by every notion, as difference and as ratio, overall and pairwise.

    Parameters
    ----------
    y_true : array of shape (n,)
        Labels 0 and 1, or any two, of which the greater is positive.
    y_pred : array of shape (n,)
        Predicted labels, or probabilities of the positive one.
    sensitive_features : DataFrame, Series, mapping, list or array
    groups : {"all", "intersectional", "marginal"}, default="all"
    ratio_form : {"complement", "inverse", "lower"}, default="complement"
    sample_weight : array of shape (n,), optional
    min_group_count : int, default=1
        Groups with fewer samples in an event are left out of its measures.

    Returns
    -------
    report : FairnessReport
    """
    check_choice("ratio_form", ratio_form, RATIO_FORMS)
    min_group_count = check_int("min_group_count", min_group_count, minimum=1)
    y, f, weights, encoding = _prepare(y_true, y_pred, sensitive_features, groups, sample_weight)
    rates = {notion: rates_of(notion, y, f, weights, encoding) for notion in NOTIONS}
    rows: list[dict[str, Any]] = []
    for constraint, measure, reference in itertools.product(CONSTRAINTS, MEASURES, REFERENCES):
        violation, worst = float("nan"), ""
        for notion in constraint_blocks(constraint):
            rate, count, _ = rates[notion]
            usable = np.flatnonzero((count[:-1] >= min_group_count) & np.isfinite(rate[:-1]))
            if not len(usable):
                continue
            used, overall = rate[:-1][usable], float(rate[-1])
            found = worst_of(used, overall, measure, reference, ratio_form)
            if not violation >= found:
                each = [
                    worst_of(used[j : j + 1], overall, measure, "overall", ratio_form)
                    for j in range(len(usable))
                ]
                violation, worst = found, encoding.names[usable[int(np.argmax(each))]]
        rows.append(
            {
                "constraint": constraint,
                "measure": measure,
                "reference": reference,
                "value": violation if measure == "difference" else 1.0 - violation,
                "violation": violation,
                "worst_group": worst,
            }
        )
    names = [*encoding.names, "overall"]
    frames = [
        pd.DataFrame({"constraint": notion, "group": names, "rate": rate, "count": count, "se": se})
        for notion, (rate, count, se) in rates.items()
    ]
    return FairnessReport(
        accuracy=float(weights @ (y * f + (1.0 - y) * (1.0 - f))),
        measures=pd.DataFrame(rows),
        rates=pd.concat(frames, ignore_index=True),
    )
