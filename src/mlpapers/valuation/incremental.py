"""Which utilities can be updated player by player with the numbers of a refit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid

from mlpapers.valuation._model_scans import (
    CentroidScan,
    GaussianScan,
    LinearScan,
    NeighboursClassifierScan,
    NeighboursRegressorScan,
)
from mlpapers.valuation.scan import Scan

if TYPE_CHECKING:
    from mlpapers.valuation.utility import Utility

__all__ = ["incremental_scan"]

_RIDGE_SOLVERS = ("auto", "svd", "cholesky")


def incremental_scan(utility: Utility) -> Scan | None:
    """Return a scan that updates the model of `utility`, or None where only refitting gives its numbers.

    There is one for ``Ridge`` and ``LinearRegression`` (of one target), ``KNeighborsClassifier`` and
    ``KNeighborsRegressor`` with uniform weights and Euclidean or Manhattan distance, ``GaussianNB`` without
    priors, and ``NearestCentroid`` with uniform priors and no shrinking, exactly these types, scored by
    accuracy, R2, or the negative (root) mean squared or mean absolute error.
    """
    if not isinstance(utility.X, np.ndarray) or utility.X.dtype != np.float64:
        return None
    estimator = utility.estimator
    params = estimator.get_params(deep=False)
    maker = _MAKERS.get(type(estimator))
    return maker(utility, params) if maker is not None else None


def _regression_score(utility: Utility) -> Callable[[NDArray[np.float64]], float] | None:
    """Return what maps predictions to the score, for scores that need nothing else."""
    targets = np.asarray(utility.y_val, dtype=np.float64)
    if utility.scoring in (None, "r2"):
        spread = float(((targets - targets.mean()) ** 2).sum())
        if spread == 0.0:
            return None
        return lambda predictions: 1.0 - float(((targets - predictions) ** 2).sum()) / spread
    if utility.scoring == "neg_mean_squared_error":
        return lambda predictions: -float(((targets - predictions) ** 2).mean())
    if utility.scoring == "neg_root_mean_squared_error":
        return lambda predictions: -float(np.sqrt(((targets - predictions) ** 2).mean()))
    if utility.scoring == "neg_mean_absolute_error":
        return lambda predictions: -float(np.abs(targets - predictions).mean())
    return None


def _is_number(value: Any, *, positive: bool) -> bool:
    numeric = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return numeric and bool(np.isfinite(value)) and (value > 0 or not positive)


def _neighbour_metric(params: dict[str, Any]) -> str | None:
    if params["weights"] != "uniform" or params["metric_params"] is not None:
        return None
    if not isinstance(params["n_neighbors"], int) or params["n_neighbors"] < 1:
        return None
    name, p = params["metric"], params["p"]
    if name in ("euclidean", "l2") or (name == "minkowski" and p == 2):
        return "sqeuclidean"
    if name in ("manhattan", "l1", "cityblock") or (name == "minkowski" and p == 1):
        return "cityblock"
    return None


def _make_ridge(utility: Utility, params: dict[str, Any]) -> Scan | None:
    score = _regression_score(utility)
    if score is None or params["positive"] or params["solver"] not in _RIDGE_SOLVERS:
        return None
    if not _is_number(params["alpha"], positive=True):
        return None
    return LinearScan(
        utility, score, alpha=float(params["alpha"]), fit_intercept=bool(params["fit_intercept"]), tol=0.0
    )


def _make_least_squares(utility: Utility, params: dict[str, Any]) -> Scan | None:
    score = _regression_score(utility)
    if score is None or params["positive"]:
        return None
    # Where scikit-learn's solver cuts singular values off has moved between versions; none is far above this.
    tol = max(float(params.get("tol", 0.0)), 1e-6)
    return LinearScan(utility, score, alpha=0.0, fit_intercept=bool(params["fit_intercept"]), tol=tol)


def _make_neighbours(utility: Utility, params: dict[str, Any]) -> Scan | None:
    metric = _neighbour_metric(params)
    if metric is None:
        return None
    if isinstance(utility.estimator, KNeighborsRegressor):
        score = _regression_score(utility)
        return score and NeighboursRegressorScan(utility, score, params["n_neighbors"], metric)
    if utility.scoring not in (None, "accuracy"):
        return None
    return NeighboursClassifierScan(utility, params["n_neighbors"], metric)


def _make_gaussian(utility: Utility, params: dict[str, Any]) -> Scan | None:
    if utility.scoring not in (None, "accuracy") or params["priors"] is not None:
        return None
    return GaussianScan(utility, float(params["var_smoothing"]))


def _make_centroid(utility: Utility, params: dict[str, Any]) -> Scan | None:
    if utility.scoring not in (None, "accuracy") or params["metric"] != "euclidean":
        return None
    if params["shrink_threshold"] or params.get("priors", "uniform") != "uniform":
        return None
    return CentroidScan(utility)


_MAKERS: dict[type, Callable[[Utility, dict[str, Any]], Scan | None]] = {
    Ridge: _make_ridge,
    LinearRegression: _make_least_squares,
    KNeighborsClassifier: _make_neighbours,
    KNeighborsRegressor: _make_neighbours,
    GaussianNB: _make_gaussian,
    NearestCentroid: _make_centroid,
}
