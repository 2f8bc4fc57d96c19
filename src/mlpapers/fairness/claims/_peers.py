"""The methods that the paper compares with: fairlearn's reduction, and LinearPost's linear program."""

from __future__ import annotations

import importlib.util
import time
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from mlpapers.fairness.claims._inputs import Array, Split
from mlpapers.fairness.groups import make_groups

# Accuracy and violation of ExponentiatedGradient with logistic regression on Adult at .05, by constraint and
# seed of the split, measured with fairlearn 0.15.0.
STORED_ADULT = {
    ("demographic_parity", 0): (0.8413, 0.0523),
    ("demographic_parity", 1): (0.8381, 0.0467),
    ("equal_opportunity", 0): (0.8530, 0.0384),
    ("equalized_odds", 0): (0.8528, 0.0412),
}
# On COMPAS with splines, means over these splits, by tolerance.
STORED_COMPAS_SPLITS = range(5)
STORED_COMPAS = {0.1: (0.1318, 0.6347), 0.03: (0.0713, 0.5935)}


def has_fairlearn() -> bool:
    """Whether fairlearn can be imported."""
    return importlib.util.find_spec("fairlearn") is not None


def exponentiated_gradient(
    base: Any, constraint: str, tolerance: float, split: Split, seed: int, measure: str = "difference"
) -> tuple[Array, float]:
    """Return P(Yhat = 1) on the test rows of fairlearn's reduction, and the seconds of its fit."""
    from fairlearn import reductions

    moment = {
        "demographic_parity": reductions.DemographicParity,
        "equal_opportunity": reductions.TruePositiveRateParity,
        "predictive_equality": reductions.FalsePositiveRateParity,
        "equalized_odds": reductions.EqualizedOdds,
        "accuracy_parity": reductions.ErrorRateParity,
    }[constraint]
    bound = {"difference_bound": tolerance} if measure == "difference" else {"ratio_bound": 1.0 - tolerance}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reduction = reductions.ExponentiatedGradient(
            clone(base),
            moment(**bound),
            eps=tolerance,
            sample_weight_name=_weight_name(base),
        )
        cells = cell_names(split.sensitive)
        np.random.seed(seed)  # noqa: NPY002 - fairlearn draws from the global state
        start = time.perf_counter()
        reduction.fit(split.X, split.y, sensitive_features=cells)
        seconds = time.perf_counter() - start
        probabilities = reduction._pmf_predict(split.X_test)[:, 1]
    return np.clip(np.asarray(probabilities, dtype=np.float64), 0.0, 1.0), seconds


def _weight_name(base: Any) -> str:
    steps = getattr(base, "steps", None)
    return "sample_weight" if steps is None else f"{steps[-1][0]}__sample_weight"


def cell_names(sensitive: Any) -> NDArray[Any]:
    """Return one name per row for the combination of all sensitive columns."""
    encoding = make_groups(sensitive)
    return np.array(encoding.cell_names, dtype=object)[encoding.codes]


def linear_post(
    score: Array, A: Array, k: Array, tolerance: float, weights: Array
) -> tuple[float, Array, float]:
    """Solve LinearPost's program as it is published: cvxpy, HiGHS, one variable per sample and class.

    Parameters
    ----------
    score : ndarray of shape (n,)
        eta - c.
    A : ndarray of shape (n, J)
        Group rates as linear functionals.
    k : ndarray of shape (J,)
        Their constants.
    tolerance : float
        Largest difference between two groups.
    weights : ndarray of shape (n,)

    Returns
    -------
    optimum : float
    f : ndarray of shape (n,)
    seconds : float
    """
    import cvxpy as cp

    n = len(score)
    start = time.perf_counter()
    assignment = cp.Variable((n, 2), nonneg=True)
    centre = cp.Variable()
    rates = (weights[:, None] * A).T @ assignment[:, 1] + k
    problem = cp.Problem(
        cp.Maximize((weights * score) @ assignment[:, 1]),
        [
            cp.sum(assignment, axis=1) == 1,
            rates - centre <= tolerance / 2,
            centre - rates <= tolerance / 2,
        ],
    )
    solver = cp.HIGHS if cp.HIGHS in cp.installed_solvers() else cp.SCIPY
    problem.solve(solver=solver)
    seconds = time.perf_counter() - start
    return float(problem.value), np.asarray(assignment.value)[:, 1], seconds
