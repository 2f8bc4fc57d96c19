"""A model that can be handed out: scikit-learn's own classes, with the published numbers only.

One function of this library is among them, the one that scales rows down to a ``norm_bound``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, LabelBinarizer
from sklearn.svm import LinearSVC

if TYPE_CHECKING:
    from mlpapers.unlearning._unlearning import Unlearning

__all__ = ["make_release"]


def make_release(est: Unlearning) -> Any:
    """Return a scikit-learn model with the published parameters of a fitted estimator.

    Parameters
    ----------
    est : DVWUClassifier or DVWURegressor

    Returns
    -------
    model : Ridge for a regressor, LogisticRegression for log-loss (OneVsRestClassifier of them under "ovr"),
    LinearSVC
        for the smooth hinge; with ``norm_bound`` behind :func:`clip_rows`, in a Pipeline
    """
    if not hasattr(est, "classes_"):
        model: Any = _with_parameters(Ridge(), est.coef_.copy(), est.intercept_, None, est.n_features_in_)
    else:
        model = _classifier(est)
    first = model
    if est.norm_bound is not None:
        longest = math.sqrt(est.norm_bound**2 - float(est.fit_intercept))
        first = FunctionTransformer(clip_rows, kw_args={"longest": longest}, validate=True)
        first.fit(np.zeros((1, est.n_features_in_)))
        model = Pipeline([("clip", first), ("model", model)])
    names = getattr(est, "feature_names_in_", None)
    if names is not None:
        first.feature_names_in_ = names.copy()
    return model


def clip_rows(X: Any, longest: float) -> NDArray[np.float64]:
    """Return rows scaled down to norm `longest` where they exceed it."""
    rows = np.asarray(X, dtype=np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return rows * (longest / np.maximum(norms, longest))[:, None]


def _classifier(est: Any) -> Any:
    classes, d = est.classes_.copy(), est.n_features_in_
    if est.loss == "smooth_hinge":
        return _with_parameters(LinearSVC(), est.coef_.copy(), est.intercept_.copy(), classes, d)
    if est._settings.scheme != "ovr":
        return _with_parameters(LogisticRegression(), est.coef_.copy(), est.intercept_.copy(), classes, d)
    # One binary model a class: LogisticRegression itself would turn the scores into a softmax.
    model = OneVsRestClassifier(LogisticRegression())
    binarizer = LabelBinarizer(sparse_output=True).fit(classes)
    model.label_binarizer_, model.classes_, model.n_features_in_ = binarizer, classes, d
    model.estimators_ = [
        _with_parameters(LogisticRegression(), coef[None].copy(), np.array([intercept]), np.array([0, 1]), d)
        for coef, intercept in zip(est.coef_, est.intercept_)
    ]
    return model


def _with_parameters(
    model: Any, coef: Any, intercept: Any, classes: NDArray[Any] | None, n_features: int
) -> Any:
    model.coef_, model.intercept_, model.n_features_in_ = coef, intercept, n_features
    if classes is not None:
        model.classes_ = classes
    return model
