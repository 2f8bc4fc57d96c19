"""Finite-sample certificates of group fairness."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result, transient
from mlpapers.core.validation import check_choice, check_real
from mlpapers.fairness._checks import BOUNDS, check_binary
from mlpapers.fairness.constraints import ConstraintOptions, check_options
from mlpapers.fairness.groups import GroupEncoding, make_groups
from mlpapers.fairness.metrics import outcomes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FairnessCertificate", "certify_fairness", "certify_tightened"]

Array = NDArray[np.float64]
# Inner tolerances that are tried, as shares of the nominal one.
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class FairnessCertificate(Result):
    """What a fresh sample proves about the fairness of a rule.

    Parameters
    ----------
    certified : bool
        Whether `upper_bound` is at most `tolerance`.
    upper_bound : float
        With probability `confidence` the population's mean difference (or 1 - its mean ratio) is below.
    tolerance : float
    confidence : float
    bound : {"normal", "hoeffding", "bernstein"}
    per_group : DataFrame
        Columns block, group, count, rate, share (of the event that is in the group), rest (rate of all
        others), radius, rest_radius, estimate and upper_bound.
    candidate : float or None
        The tolerance that the rule was solved for, where :meth:`BayesFairClassifier.certify` chose it.
    estimator : object
        The rule itself; not saved.
    """

    certified: bool
    upper_bound: float
    tolerance: float
    confidence: float
    bound: str
    per_group: pd.DataFrame
    candidate: float | None = None
    estimator: Any = transient()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per notion and group."""
        return self.per_group.copy()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw estimate and upper bound of every group, and the tolerance.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``Axes.bar``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        place = np.arange(len(self.per_group))
        estimate = self.per_group["estimate"].to_numpy()
        upper = self.per_group["upper_bound"].to_numpy()
        above = np.stack([np.zeros(len(place)), upper - estimate])
        ax.bar(place, estimate, **{"yerr": above, "capsize": 3, **options})
        ax.axhline(self.tolerance, color="0.4", linestyle="--", linewidth=0.8)
        ax.set_xticks(place, self.per_group["group"].astype(str), rotation=30, ha="right")
        ax.set_ylabel("violation and its upper bound")
        return ax


def certify_fairness(
    f_or_estimator: Any,
    X: Any,
    y: ArrayLike,
    *,
    sensitive_features: Any,
    constraint: Any,
    measure: str = "difference",
    tolerance: float,
    reference: str = "overall",
    confidence: float = 0.95,
    bound: str = "normal",
    ratio_form: str = "complement",
    groups: str = "intersectional",
) -> FairnessCertificate:
    r"""Bound the unfairness of a rule on the population from a sample that it has not seen.

    The difference to the population is :math:`\mathrm{rate}_g - \mathrm{rate} = (1-w_g)(\mathrm{rate}_g -
    \mathrm{rate}_{\neg g})`, :math:`w_g` being the share of g in the event (taken as known), so two
    independent means are bounded:

    .. math:: |\mathrm{MD}_g| \le (1-w_g)\big(|\hat r_g - \hat r_{\neg g}| + e_g + e_{\neg g}\big),

    each radius at level (1 - confidence) / (4 J blocks). Ratios and pairwise differences are bounded by the
    worst values within the same intervals.

    Parameters
    ----------
    f_or_estimator : fitted classifier, callable X -> probabilities, or array of shape (n,)
        A classifier with ``selection_proba`` is certified as the randomised rule that it is.
    X : array or DataFrame of shape (n, d)
        Independent of everything that was fitted.
    y : array of shape (n,)
        The classifier's classes; 0 and 1, or two others of which the greater is positive, for a callable or
        an array.
    sensitive_features : DataFrame, Series, mapping, list or array of n rows
    constraint : str or tuple of str
    measure : {"difference", "ratio"}, default="difference"
    tolerance : float in [0, 1]
    reference : {"overall", "pairwise"}, default="overall"
    confidence : float in (0, 1), default=0.95
    bound : {"normal", "hoeffding", "bernstein"}, default="normal"
        "normal" is the practical choice, exact as counts grow; "hoeffding" holds for every sample size;
        "bernstein" (Maurer and Pontil) too, and is tighter where rates are near 0 or 1 and counts large.
    ratio_form : {"complement", "inverse", "lower"}, default="complement"
    groups : {"intersectional", "marginal", "all"}, default="intersectional"

    Returns
    -------
    certificate : FairnessCertificate
        A group without samples in an event has the upper bound 1.

    References
    ----------
    [1] Maurer and Pontil, "Empirical Bernstein bounds and sample variance penalization", COLT 2009.
    """
    options = check_options(constraint, measure, tolerance, reference, ratio_form)
    confidence = check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
    check_choice("bound", bound, BOUNDS)
    labels, f = _rule_on(f_or_estimator, X, y, sensitive_features)
    encoding = make_groups(sensitive_features, groups)
    if len(encoding.codes) != len(labels):
        raise ValueError(f"sensitive_features must have {len(labels)} rows; got {len(encoding.codes)}")
    per_group = _bounds_of_groups(labels, f, encoding, options, 1.0 - confidence, bound)
    upper = float(per_group["upper_bound"].max())
    return FairnessCertificate(
        certified=upper <= options.tolerance,
        upper_bound=upper,
        tolerance=options.tolerance,
        confidence=confidence,
        bound=bound,
        per_group=per_group,
    )


def certify_tightened(
    model: Any, X: Any, y: ArrayLike, *, sensitive_features: Any, confidence: float
) -> FairnessCertificate:
    """Certify the rules of a :class:`BayesFairClassifier` from tolerance 0 up to its own: a fixed sequence.

    Each test has the full level, and the first failure ends the sequence.
    """
    certificate: FairnessCertificate | None = None
    for share in _SHARES if model.multipliers is None else _SHARES[-1:]:
        inner = share * model.tolerance
        candidate = copy.copy(model).resolve(tolerance=inner) if model.multipliers is None else model
        found = certify_fairness(
            candidate,
            X,
            y,
            sensitive_features=sensitive_features,
            constraint=model.constraint,
            measure=model.measure,
            tolerance=model.tolerance,
            reference=model.reference,
            ratio_form=model.ratio_form,
            groups=model.groups,
            confidence=confidence,
        )
        found = replace(found, candidate=float(inner), estimator=candidate)
        if not found.certified:
            return found if certificate is None else certificate
        certificate = found
    assert certificate is not None
    return certificate


def _rule_on(rule: Any, X: Any, y: ArrayLike, sensitive_features: Any) -> tuple[Array, Array]:
    """Return labels 0/1 and the rule's probabilities of predicting 1."""
    classes = getattr(rule, "classes_", None)
    labels = np.asarray(y)
    if classes is not None:
        if len(classes) != 2 or not np.isin(labels, classes).all():
            raise ValueError(f"y must hold the classes of the estimator, {list(classes)}")
        labels = labels == classes[1]
    labels = check_binary(labels, "y")
    if hasattr(rule, "selection_proba") or hasattr(rule, "predict"):
        method: Callable[..., Any] = getattr(rule, "selection_proba", None) or rule.predict
        takes = "sensitive_features" in inspect.signature(method).parameters
        f = np.asarray(method(X, sensitive_features=sensitive_features) if takes else method(X))
        if not hasattr(rule, "selection_proba") and classes is not None:
            f = f == classes[1]
    else:
        f = np.asarray(rule(X) if callable(rule) else rule)
    f = f.astype(np.float64)
    if f.shape != labels.shape or not ((f >= 0.0) & (f <= 1.0)).all():
        raise ValueError(
            f"f_or_estimator must give {len(labels)} probabilities in [0, 1]; got shape {f.shape}"
        )
    return labels, f


def _bounds_of_groups(
    y: Array, f: Array, encoding: GroupEncoding, options: ConstraintOptions, miss: float, bound: str
) -> pd.DataFrame:
    n_groups = encoding.membership.shape[1]
    level = miss / (2 * n_groups * len(options.blocks))
    if options.reference == "overall":
        level /= 2.0
    members = encoding.membership[encoding.codes]  # (n, J)
    rows = []
    for block in options.blocks:
        values, event = outcomes(block, y, f)
        total = int(event.sum())
        block_rows = []
        for j, name in enumerate(encoding.names):
            inside = values[event & members[:, j]]
            outside = values[event & ~members[:, j]]
            rate, radius = _interval(inside, level, bound)
            rest, rest_radius = _interval(outside, level, bound)
            block_rows.append(
                {
                    "block": block,
                    "group": name,
                    "count": len(inside),
                    "rate": rate,
                    "share": len(inside) / total if total else 0.0,
                    "rest": rest,
                    "radius": radius,
                    "rest_radius": rest_radius,
                }
            )
        rows.append(_violations(pd.DataFrame(block_rows), options))
    return pd.concat(rows, ignore_index=True)


def _interval(values: Array, level: float, bound: str) -> tuple[float, float]:
    """Return the mean of values in [0, 1] and the radius of a one-sided bound at `level`."""
    n = len(values)
    if n < 2:
        return (float(values.mean()) if n else 0.0), 1.0
    variance = float(values.var(ddof=1))
    if bound == "hoeffding":
        radius = np.sqrt(np.log(1.0 / level) / (2 * n))
    elif bound == "bernstein":
        log = np.log(2.0 / level)
        radius = np.sqrt(2.0 * variance * log / n) + 7.0 * log / (3.0 * (n - 1))
    else:
        radius = -float(ndtri(level)) * np.sqrt(variance / n)
    return float(values.mean()), min(1.0, float(radius))


def _violations(table: pd.DataFrame, options: ConstraintOptions) -> pd.DataFrame:
    """Add the estimate of each group's violation and its upper bound."""
    rate, share, rest = (table[name].to_numpy() for name in ("rate", "share", "rest"))
    radius, rest_radius = table["radius"].to_numpy(), table["rest_radius"].to_numpy()
    empty = table["count"].to_numpy() == 0
    low, high = np.clip(rate - radius, 0.0, 1.0), np.clip(rate + radius, 0.0, 1.0)
    if options.reference == "pairwise":
        estimate = _pairwise(rate, rate, options.measure)
        upper = _pairwise(low, high, options.measure)
    elif options.measure == "difference":
        estimate = (1.0 - share) * np.abs(rate - rest)
        upper = estimate + (1.0 - share) * (radius + rest_radius)
    else:
        rest_low, rest_high = np.clip(rest - rest_radius, 0.0, 1.0), np.clip(rest + rest_radius, 0.0, 1.0)
        estimate = _ratio_violation(rate, rate, rest, rest, share, options.ratio_form)
        upper = _ratio_violation(low, high, rest_low, rest_high, share, options.ratio_form)
    return table.assign(
        estimate=np.where(empty, 0.0, estimate), upper_bound=np.where(empty, 1.0, np.clip(upper, 0.0, 1.0))
    )


def _pairwise(low: Array, high: Array, measure: str) -> Array:
    """Return each group's largest possible violation against any other."""
    worst = np.zeros(len(low))
    for g in range(len(low)):
        others = np.arange(len(low)) != g
        if others.any():
            if measure == "difference":
                worst[g] = max(high[g] - low[others].min(), high[others].max() - low[g])
            else:
                ratios = (_quotient(low[g], high[others].max()), _quotient(low[others].min(), high[g]))
                worst[g] = 1.0 - min(ratios)
    return worst


def _ratio_violation(
    low: Array, high: Array, rest_low: Array, rest_high: Array, share: Array, ratio_form: str
) -> Array:
    """Return 1 - the smallest ratio to the population within the intervals, group by group."""

    def against(inside: Array, outside: Array) -> Array:
        # rate_g / rate with rate = w rate_g + (1 - w) rate_not_g grows in rate_g and falls in rate_not_g.
        return np.array([_quotient(a, b) for a, b in zip(inside, share * inside + (1.0 - share) * outside)])

    ratio = against(low, rest_high)
    if ratio_form == "complement":
        ratio = np.minimum(ratio, against(1.0 - high, 1.0 - rest_low))
    if ratio_form == "inverse":
        overall = share * high + (1.0 - share) * rest_low
        ratio = np.minimum(ratio, [_quotient(a, b) for a, b in zip(overall, high)])
    return 1.0 - ratio


def _quotient(top: float, bottom: float) -> float:
    if bottom > 0.0:
        return float(top / bottom)
    return 1.0 if top == 0.0 else 0.0
