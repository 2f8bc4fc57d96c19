"""The trade-off between accuracy and fairness, from one fit."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result, transient
from mlpapers.fairness._checks import check_tolerance, check_weights
from mlpapers.fairness.groups import make_groups
from mlpapers.fairness.metrics import label_violation
from mlpapers.fairness.postprocessing import BayesFairClassifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ParetoFrontResult", "pareto_front"]

Array = NDArray[np.float64]
_LEAST, _N_POINTS = 0.002, 15


@dataclass(frozen=True, kw_only=True, eq=False)
class ParetoFrontResult(Result):
    """Optimal fair rules for a range of tolerances.

    Parameters
    ----------
    tolerances : ndarray of shape (T,)
        In increasing order.
    risk : ndarray of shape (T,)
        The optimal cost-sensitive risk as the posteriors see it: for a difference exactly convex and
        non-increasing in the tolerance.
    accuracy, violation : ndarray of shape (T,)
        Out of fold on the labels; randomised rules in expectation.
    test_accuracy, test_violation : ndarray of shape (T,) or None
    multipliers : ndarray of shape (T, Kc)
    shadow_price : ndarray of shape (T,)
        Derivative of `risk` by the tolerance.
    fitted : list of BayesFairClassifier
        One per tolerance, sharing the base models; not saved.
    """

    tolerances: Array
    risk: Array
    accuracy: Array
    violation: Array
    test_accuracy: Array | None
    test_violation: Array | None
    multipliers: Array
    shadow_price: Array
    fitted: list[BayesFairClassifier] | None = transient()

    def estimators(self) -> list[BayesFairClassifier]:
        """Return the fitted classifiers, one per tolerance.

        Returns
        -------
        estimators : list of BayesFairClassifier

        Raises
        ------
        ResultFormatError
            On a result that was loaded from a file: models are not saved.
        """
        return list(self.require("fitted"))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per tolerance."""
        columns = {
            "tolerance": self.tolerances,
            "risk": self.risk,
            "accuracy": self.accuracy,
            "violation": self.violation,
            "shadow_price": self.shadow_price,
        }
        if self.test_accuracy is not None and self.test_violation is not None:
            columns |= {"test_accuracy": self.test_accuracy, "test_violation": self.test_violation}
        return pd.DataFrame(columns)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw accuracy against violation, out of fold and on the test data where there are some.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        style = {"marker": "o", **options}
        ax.plot(self.violation, self.accuracy, **{"label": "out of fold", **style})
        if self.test_accuracy is not None and self.test_violation is not None:
            ax.plot(self.test_violation, self.test_accuracy, **{"label": "test", **style})
            ax.legend()
        ax.set_xlabel("violation")
        ax.set_ylabel("accuracy")
        return ax


def pareto_front(
    estimator: BayesFairClassifier,
    X: Any,
    y: ArrayLike,
    *,
    sensitive_features: Any,
    tolerances: ArrayLike | None = None,
    X_test: Any = None,
    y_test: ArrayLike | None = None,
    sensitive_features_test: Any = None,
) -> ParetoFrontResult:
    """Trace accuracy against fairness: one fit of the models, one small problem per tolerance.

    Parameters
    ----------
    estimator : BayesFairClassifier
        What to fit; it is cloned. Its tolerance does not matter.
    X, y : training data
    sensitive_features : DataFrame, Series, mapping, list or array of n rows
    tolerances : array of shape (T,), optional
        Default: 0 and 15 values in geometric progression from .002 to the violation of the unconstrained
        rule.
    X_test, y_test, sensitive_features_test : optional
        Data to evaluate every rule on.

    Returns
    -------
    front : ParetoFrontResult

    Raises
    ------
    TypeError
        Where `estimator` is no BayesFairClassifier.
    ValueError
        For tolerances outside [0, 1], test data that are incomplete, or an estimator with given multipliers.
    """
    if not isinstance(estimator, BayesFairClassifier):
        raise TypeError(f"estimator must be a BayesFairClassifier; got {type(estimator).__name__}")
    if estimator.multipliers is not None:
        raise ValueError("estimator must have multipliers=None: with given multipliers there is no trade-off")
    test = (X_test, y_test, sensitive_features_test)
    if any(part is not None for part in test) and any(part is None for part in test):
        raise ValueError("X_test, y_test and sensitive_features_test must be given together")
    values = None
    if tolerances is not None:
        given = np.atleast_1d(np.asarray(tolerances, dtype=np.float64))
        values = np.sort([check_tolerance(value, "tolerances") for value in given])
    # The unconstrained rule first: its violation says how far the default tolerances reach.
    model = clone(estimator).set_params(tolerance=1.0)
    model.fit(X, y, sensitive_features=sensitive_features)
    if values is None:
        values = _default_tolerances(model.oof_violation_)
    fitted = []
    for tolerance in values:
        model = copy.copy(model).resolve(tolerance=float(tolerance))
        fitted.append(model)
    on_test = (
        [] if X_test is None else [_evaluate(m, X_test, y_test, sensitive_features_test) for m in fitted]
    )
    return ParetoFrontResult(
        tolerances=values,
        risk=np.array([_risk(m) for m in fitted]),
        accuracy=np.array([m._found.accuracy for m in fitted]),
        violation=np.array([m.oof_violation_ for m in fitted]),
        test_accuracy=np.array([a for a, _ in on_test]) if on_test else None,
        test_violation=np.array([v for _, v in on_test]) if on_test else None,
        multipliers=np.array([m.multipliers_.to_numpy() for m in fitted]),
        shadow_price=np.array([m.shadow_price_ for m in fitted]),
        fitted=fitted,
    )


def _default_tolerances(unconstrained: float) -> Array:
    if not unconstrained > _LEAST:
        return np.array([0.0, _LEAST])
    return np.concatenate([[0.0], np.geomspace(_LEAST, unconstrained, _N_POINTS)])


def _risk(model: BayesFairClassifier) -> float:
    """Return the optimal risk (1-c) pi - E[(eta - c) f], pi as the posteriors have it."""
    posteriors = model._posteriors
    assert model.solution_ is not None
    return (1.0 - model.cost) * float(posteriors.weights @ posteriors.eta) - model.solution_.primal


def _evaluate(
    model: BayesFairClassifier, X: Any, y: ArrayLike | None, sensitive_features: Any
) -> tuple[float, float]:
    f = model.selection_proba(X, sensitive_features=sensitive_features)
    labels = (np.asarray(y) == model.classes_[1]).astype(np.float64)
    options = model._found.system.options
    violation = label_violation(
        labels,
        f,
        make_groups(sensitive_features, model.groups),
        blocks=options.blocks,
        measure=options.measure,
        reference=options.reference,
        ratio_form=options.ratio_form,
        weights=check_weights(None, len(f)),
    )
    return float(np.mean(labels * f + (1.0 - labels) * (1.0 - f))), violation
