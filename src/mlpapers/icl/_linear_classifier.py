"""What the linear classifiers of the symmetric mixture share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpapers.icl._labels import read_rows

__all__ = ["LinearClassifier", "supervised_mean"]

Array = NDArray[np.float64]


class LinearClassifier(ClassifierMixin, BaseEstimator):
    """Binary linear classifier sgn(x' mu_hat) that reads -1 in y as "no label"."""

    def decision_function(self, X: Any) -> Array:
        """Return x' mu_hat for every row; positive means ``classes_[1]``.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        scores : ndarray of shape (q,)
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        scores: Array = X @ self.coef_[0] + self.intercept_
        return scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of every row; ``classes_[0]`` where the score is 0.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        y : ndarray of shape (q,)
        """
        positive = self.decision_function(X) > 0.0
        return np.asarray(self.classes_[positive.astype(np.int64)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _read(self, X: Any, y: Any) -> tuple[Array, Array]:
        """Validate, set ``classes_``, and return X and labels in {-1, 0, +1}."""
        X, labels = read_rows(self, X, y, binary=type(self).__name__)
        self.classes_ = labels.classes
        self.intercept_ = 0.0
        return X, np.where(labels.labeled, 2.0 * labels.codes - 1.0, 0.0)

    def _set(self, direction: Array) -> None:
        self.coef_ = direction[None, :]


def supervised_mean(X: Array, s: Array) -> Array:
    """Return X's/m for labels s in {-1, 0, +1}, m of them not 0."""
    mean: Array = X.T @ s / max(1, int(np.count_nonzero(s)))
    return mean
