"""Group rates, mean difference and mean ratio of predictions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_choice, check_int
from mlpapers.fairness._checks import (
    NOTIONS,
    RATIO_FORMS,
    REFERENCES,
    FairnessWarning,
    as_floats,
    check_binary,
    check_weights,
    constraint_blocks,
    flat_labels,
    label_pair,
)
from mlpapers.fairness.groups import GroupEncoding, make_groups

__all__ = ["group_rates", "label_violation", "make_rate_metric", "mean_difference", "mean_ratio"]

Array = NDArray[np.float64]


def outcomes(notion: str, y: Array, f: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return what a notion averages, and over whom: P(Yhat = 1), or P(Yhat = Y) for accuracy parity."""
    if notion == "equal_opportunity":
        return f, y == 1.0
    if notion == "predictive_equality":
        return f, y == 0.0
    everyone = np.ones(len(y), dtype=bool)
    return (y * f + (1.0 - y) * (1.0 - f) if notion == "accuracy_parity" else f), everyone


def rates_of(
    notion: str, y: Array, f: Array, weights: Array, encoding: GroupEncoding
) -> tuple[Array, NDArray[np.int64], Array]:
    """Return rate, number of samples and standard error per group, the population last; nan where empty."""
    values, event = outcomes(notion, y, f)
    codes, n_cells = encoding.codes, encoding.n_cells
    mass = np.where(event, weights, 0.0)

    def per_group(amounts: Array) -> Array:
        cells = np.bincount(codes, weights=amounts, minlength=n_cells)
        return np.append(cells @ encoding.membership, cells.sum())

    count = per_group(event.astype(np.float64)).round().astype(np.int64)
    total = per_group(mass)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = per_group(mass * values) / total
        first, second, third = (per_group(mass**2 * values**power) for power in (2, 1, 0))
        se = np.sqrt(np.maximum(first - 2.0 * rate * second + rate**2 * third, 0.0)) / total
    return rate, count, se


def check_predictions(y_true: ArrayLike, y_pred: ArrayLike) -> tuple[Array, Array]:
    """Return labels as 0/1, and predictions (the same labels, or probabilities), as float64.

    Of two labels that are not 0 and 1 the greater is positive, as for the classifiers.
    """
    given = flat_labels(y_true)
    if given.size == 0:
        raise ValueError("y_true must hold at least one label")
    predicted = np.asarray(y_pred)
    predicted = predicted if predicted.shape == given.shape else flat_labels(predicted)
    if predicted.shape != given.shape:
        raise ValueError(f"y_pred must have shape {given.shape} like y_true; got {predicted.shape}")
    y, f = as_floats(given), as_floats(predicted)
    standard = y is not None and y.ndim == 1 and bool(np.isin(y, (0.0, 1.0)).all())
    if f is not None and ((f >= 0.0) & (f <= 1.0)).all():
        if y is not None and standard:
            return y, f
        # Two labels such as 1 and 2 may be predicted by numbers that would do as probabilities.
        if y is None or not np.isin(f, y).all():
            return check_binary(given), f
    try:
        if (y is None) != (f is None):
            raise ValueError("y_true and y_pred must hold labels of one type")
        pair = label_pair(np.concatenate([given, predicted]), "y_true and y_pred")
    except ValueError as error:
        if standard:
            raise ValueError("y_pred must hold numbers in [0, 1], or the labels of y_true") from error
        raise
    return (given == pair[1]).astype(np.float64), (predicted == pair[1]).astype(np.float64)


def group_rates(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sensitive_features: Any,
    constraint: Any,
    groups: str = "intersectional",
    sample_weight: ArrayLike | None = None,
) -> pd.DataFrame:
    r"""Tabulate the rate that a constraint compares, group by group.

    Demographic parity: P(Yhat=1 | g); equal opportunity: P(Yhat=1 | g, Y=1); predictive equality:
    P(Yhat=1 | g, Y=0); accuracy parity: P(Yhat=Y | g).

    Parameters
    ----------
    y_true : array of shape (n,)
        Labels 0 and 1, or any two, of which the greater is positive, as for the classifiers.
    y_pred : array of shape (n,)
        Predicted labels, or probabilities of the positive one: a randomised rule is then scored in
        expectation.
    sensitive_features : DataFrame, Series, mapping, list or array
    constraint : str or tuple of str
    groups : {"intersectional", "marginal", "all"}, default="intersectional"
    sample_weight : array of shape (n,), optional

    Returns
    -------
    rates : DataFrame
        One row per group and a last row "overall"; columns rate, count (samples in the event) and se. For
        several notions the index has a first level that names them.

    Raises
    ------
    ValueError
        For a third label, predictions that are neither labels nor in [0, 1], and lengths that differ.
    """
    blocks = constraint_blocks(constraint)
    y, f, weights, encoding = _prepare(y_true, y_pred, sensitive_features, groups, sample_weight)
    frames = {}
    for block in blocks:
        rate, count, se = rates_of(block, y, f, weights, encoding)
        index = pd.Index([*encoding.names, "overall"], name="group")
        frames[block] = pd.DataFrame({"rate": rate, "count": count, "se": se}, index=index)
    return frames[blocks[0]] if len(blocks) == 1 else pd.concat(frames, names=["constraint"])


def mean_difference(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sensitive_features: Any,
    constraint: Any = "demographic_parity",
    groups: str = "intersectional",
    reference: str = "overall",
    sample_weight: ArrayLike | None = None,
    min_group_count: int = 1,
) -> float:
    r"""Largest difference of rates: the measure MD.

    "overall": :math:`\max_g |\mathrm{rate}_g - \mathrm{rate}|`; "pairwise":
    :math:`\max_g \mathrm{rate}_g - \min_g \mathrm{rate}_g`. Of several notions the largest.

    Parameters
    ----------
    y_true, y_pred, sensitive_features, constraint, groups
        As in :func:`group_rates`.
    reference : {"overall", "pairwise"}, default="overall"
    sample_weight
        As in :func:`group_rates`.
    min_group_count : int, default=1
        Groups with fewer samples in the event are skipped.

    Returns
    -------
    difference : float in [0, 1]; nan, with a FairnessWarning, where every group is skipped

    References
    ----------
    [1] Yang, Huang and Chang, arXiv:2505.00631, Definition of MD and Lemma 1.
    """
    return _measure(
        "difference",
        "complement",
        *(y_true, y_pred, sensitive_features, constraint, groups, reference, sample_weight, min_group_count),
    )


def mean_ratio(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    sensitive_features: Any,
    constraint: Any = "demographic_parity",
    groups: str = "intersectional",
    reference: str = "overall",
    ratio_form: str = "complement",
    sample_weight: ArrayLike | None = None,
    min_group_count: int = 1,
) -> float:
    r"""Smallest ratio of rates: the measure MR.

    "overall": the least over groups of

    - "complement": :math:`\min(\mathrm{rate}_g / \mathrm{rate},\ (1-\mathrm{rate}_g)/(1-\mathrm{rate}))`;
    - "inverse": :math:`\min(\mathrm{rate}_g / \mathrm{rate},\ \mathrm{rate} / \mathrm{rate}_g)`;
    - "lower": :math:`\mathrm{rate}_g / \mathrm{rate}`.

    "pairwise": :math:`\min_g \mathrm{rate}_g / \max_g \mathrm{rate}_g`. 0/0 counts as 1, x/0 as 0.

    Parameters
    ----------
    y_true, y_pred, sensitive_features, constraint, groups
        As in :func:`group_rates`.
    reference : {"overall", "pairwise"}, default="overall"
    ratio_form : {"complement", "inverse", "lower"}, default="complement"
        Ignored for "pairwise".
    sample_weight
        As in :func:`group_rates`.
    min_group_count : int, default=1
        Groups with fewer samples in the event are skipped.

    Returns
    -------
    ratio : float in [0, 1] ("lower" may exceed 1 only where all groups equal the population); nan, with a
        FairnessWarning, where every group is skipped

    References
    ----------
    [1] Yang, Huang and Chang, arXiv:2505.00631, Definition of MR and Lemma 2.
    """
    return _measure(
        "ratio",
        ratio_form,
        *(y_true, y_pred, sensitive_features, constraint, groups, reference, sample_weight, min_group_count),
    )


@dataclass(frozen=True)
class _RateMetric:
    """A rate as a metric; an object, so that it pickles."""

    notion: str

    def __call__(self, y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the rate; nan where nobody is in the event."""
        numbers = as_floats(flat_labels(y_true))
        if numbers is not None and not np.isin(numbers, (0.0, 1.0)).all():
            # Of one label alone, as a group may have it, numbers don't say whether it is the positive one.
            raise ValueError(
                "Only binary classification is supported: y_true must hold 0 and 1, or two words; "
                f"got numbers such as {numbers[~np.isin(numbers, (0.0, 1.0))][0]:g}"
            )
        y, f = check_predictions(y_true, y_pred)
        values, event = outcomes(self.notion, y, f)
        mass = np.where(event, check_weights(sample_weight, len(y)), 0.0)
        return float(mass @ values / mass.sum()) if mass.sum() > 0 else float("nan")

    @property
    def __name__(self) -> str:
        return {
            "demographic_parity": "selection_rate",
            "equal_opportunity": "true_positive_rate",
            "predictive_equality": "false_positive_rate",
            "accuracy_parity": "accuracy",
        }[self.notion]


def make_rate_metric(constraint: str) -> Callable[..., float]:
    """Return the rate that a notion compares as a metric ``(y_true, y_pred, sample_weight=None) -> float``.

    It serves in fairlearn's ``MetricFrame``, which computes it by group, and in scikit-learn's
    ``make_scorer``. Labels are 0 and 1, or two words; by group give 0 and 1, as a group may lack a label.

    Parameters
    ----------
    constraint : {"demographic_parity", "equal_opportunity", "predictive_equality", "accuracy_parity"}

    Returns
    -------
    metric : callable

    Raises
    ------
    ValueError
        For "equalized_odds", which is two rates, and unknown names.

    Examples
    --------
    >>> make_rate_metric("equal_opportunity")([1, 1, 0], [1, 0, 1])
    0.5
    """
    return _RateMetric(check_choice("constraint", constraint, NOTIONS))


def label_violation(
    y: Array,
    f: Array,
    encoding: GroupEncoding,
    *,
    blocks: tuple[str, ...],
    measure: str,
    reference: str,
    ratio_form: str,
    weights: Array,
    min_group_count: int = 1,
) -> float:
    """Return the mean difference, or 1 - the mean ratio: what a tolerance bounds; nan if nothing counts."""
    worst = []
    for block in blocks:
        rate, count, _ = rates_of(block, y, f, weights, encoding)
        usable = (count[:-1] >= min_group_count) & np.isfinite(rate[:-1])
        if usable.any():
            worst.append(worst_of(rate[:-1][usable], float(rate[-1]), measure, reference, ratio_form))
    return max(worst) if worst else float("nan")


def worst_of(rates: Array, overall: float, measure: str, reference: str, ratio_form: str) -> float:
    """Return the mean difference, or 1 - the mean ratio, of given rates."""
    if measure == "difference":
        if reference == "pairwise":
            return float(rates.max() - rates.min())
        return float(np.abs(rates - overall).max())
    if reference == "pairwise":
        return 1.0 - float(_ratio(rates.min(), rates.max()))
    ratios = [_ratio(rates, overall)]
    if ratio_form == "complement":
        ratios.append(_ratio(1.0 - rates, 1.0 - overall))
    if ratio_form == "inverse":
        ratios.append(_ratio(overall, rates))
    return 1.0 - float(np.min(ratios))


def _ratio(numerator: Any, denominator: Any) -> Array:
    top, bottom = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    ratio = np.where(top == 0.0, 1.0, 0.0)
    return np.divide(top, bottom, out=ratio, where=bottom != 0.0)


def _prepare(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sensitive_features: Any,
    groups: str,
    sample_weight: ArrayLike | None,
) -> tuple[Array, Array, Array, GroupEncoding]:
    y, f = check_predictions(y_true, y_pred)
    encoding = make_groups(sensitive_features, groups)
    if len(encoding.codes) != len(y):
        raise ValueError(f"sensitive_features must have {len(y)} rows; got {len(encoding.codes)}")
    return y, f, check_weights(sample_weight, len(y)), encoding


def _measure(
    measure: str,
    ratio_form: str,
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sensitive_features: Any,
    constraint: Any,
    groups: str,
    reference: str,
    sample_weight: ArrayLike | None,
    min_group_count: int,
) -> float:
    blocks = constraint_blocks(constraint)
    check_choice("reference", reference, REFERENCES)
    check_choice("ratio_form", ratio_form, RATIO_FORMS)
    min_group_count = check_int("min_group_count", min_group_count, minimum=1)
    y, f, weights, encoding = _prepare(y_true, y_pred, sensitive_features, groups, sample_weight)
    violation = label_violation(
        y,
        f,
        encoding,
        blocks=blocks,
        measure=measure,
        reference=reference,
        ratio_form=ratio_form,
        weights=weights,
        min_group_count=min_group_count,
    )
    if np.isnan(violation):
        warnings.warn(
            "no group has enough samples in the event; the measure is nan", FairnessWarning, stacklevel=3
        )
    return violation if measure == "difference" else 1.0 - violation
