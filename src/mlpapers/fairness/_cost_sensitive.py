"""Learning with a cost per sample: targets and weights from margins, and the fit."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin

from mlpapers.fairness._posteriors import fit_weighted

__all__ = ["ConstantClassifier", "cost_sensitive_task", "fit_final"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
# Below this share of the mean a weight is as good as none, and some learners want it positive.
_LEAST_WEIGHT = 1e-6


class ConstantClassifier(ClassifierMixin, BaseEstimator):
    """Stands in where all rows ask for the same label."""

    def __init__(self, label: int = 0) -> None:
        self.label = label

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: ARG002
        """Learn nothing."""
        self.classes_ = np.array([0, 1])
        return self

    def predict(self, X: Any) -> Codes:
        """Return the label."""
        return np.full(len(X), self.label, dtype=np.int64)

    def predict_proba(self, X: Any) -> Array:
        """Return certainty."""
        positive = self.predict(X).astype(np.float64)
        return np.stack([1.0 - positive, positive], axis=1)

    def decision_function(self, X: Any) -> Array:
        """Return 1 or -1."""
        return 2.0 * self.predict(X).astype(np.float64) - 1.0


def cost_sensitive_task(y: Codes, eta: Array, Q: Array, cost: float, variant: str) -> tuple[Codes, Array]:
    r"""Return targets and weights whose weighted 0-1 loss the optimal fair rule minimises.

    The paper's costs are :math:`c_y = (1-2y)(c + Q) + y`, the price of a wrong decision on label y. A
    negative one rewards the wrong decision: the label is flipped and the weight is its absolute value.

    Parameters
    ----------
    y : ndarray of shape (n,) of 0 and 1
    eta, Q : ndarray of shape (n,)
    cost : float
    variant : {"labels", "distilled"}
        "distilled" replaces labels and costs by their conditional means: target 1{eta > c + Q}, weight
        |eta - c - Q|.

    Returns
    -------
    target : ndarray of shape (n,) of 0 and 1
    weights : ndarray of shape (n,), non-negative
    """
    if variant == "distilled":
        margin = eta - cost - Q
        return (margin > 0).astype(np.int64), np.abs(margin)
    weights = (1 - 2 * y) * (cost + Q) + y
    return np.where(weights < 0, 1 - y, y).astype(np.int64), np.abs(weights)


def fit_final(
    estimator: Any, X: Any, target: Codes, weights: Array, given: Array | None, seed: int
) -> tuple[Any, Array]:
    """Fit the final learner; weights are normalised to mean 1 (given weights counting as repetitions)."""
    repetitions = np.ones(len(target)) if given is None else given
    total = float(repetitions @ weights)
    scaled = weights * (repetitions.sum() / total) if total > 0 else np.ones(len(target))
    scaled = np.maximum(scaled, _LEAST_WEIGHT) * repetitions
    counted = target[scaled > 0]
    if len(np.unique(counted)) == 1:
        return ConstantClassifier(int(counted[0])).fit(X, target), scaled
    with config_context(enable_metadata_routing=False):
        return fit_weighted(estimator, X, target, scaled, seed=seed), scaled
