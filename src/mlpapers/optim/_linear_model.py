"""What the linear estimators share: distinct rows, their weights, the finite sum and its solver."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpapers.core.validation import check_bool, check_choice, check_int, check_real, check_workers
from mlpapers.optim.constraints._base import ConstraintSet
from mlpapers.optim.constraints.balls import L1Ball, LInfBall
from mlpapers.optim.constraints.combined import Product
from mlpapers.optim.linear import LinearFiniteSum, Loss
from mlpapers.optim.minimize import minimize_fw_zo
from mlpapers.optim.result import FWResult

__all__ = ["LinearFW"]

Array = NDArray[np.float64]

# Queries of "auto", in units of all central differences.
_PASSES = 20
_SOLVERS = ("auto", "dvr", "fd", "fzfw", "fcgs", "acc_szofw", "acc_szofw_star", "jaguar", "zscg")


class LinearFW(BaseEstimator):
    """What the estimators share: inputs, the finite sum, the solver."""

    coef_: Array
    intercept_: Any
    result_: FWResult
    n_features_in_: int
    n_iter_: int

    def __init__(
        self,
        radius: float = 1.0,
        solver: str = "auto",
        max_queries: Any = "auto",
        fit_intercept: bool = True,
        *,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.radius = radius
        self.solver = solver
        self.max_queries = max_queries
        self.fit_intercept = fit_intercept
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _loss(self) -> Loss:
        """Return the loss, its parameters checked."""
        raise NotImplementedError

    def _check_parameters(self) -> None:
        check_real("radius", self.radius, low=0.0, closed="neither")
        check_choice("solver", self.solver, _SOLVERS)
        check_bool("fit_intercept", self.fit_intercept)
        check_workers(self.n_jobs, self.verbose)
        if isinstance(self.max_queries, str):
            check_choice("max_queries", self.max_queries, ("auto",))
        else:
            check_int("max_queries", self.max_queries, minimum=1)

    def _solve(
        self, X: Array, y: Array, weight: Array, loss: Loss, *, shifts_target: bool = False
    ) -> tuple[Array, float]:
        """Return coefficients and intercept; rows with weight w count w times.

        With an intercept, columns are centered, and where it `shifts_target` y is too. It is the same
        problem, as the ball does not bound the intercept, but how hard it is does not depend on where 0 is.
        """
        d = X.shape[1]
        X, y, weight = _distinct(X, y, weight)
        center, offset = np.zeros(d), 0.0
        if self.fit_intercept:
            center = (weight[:, None] * X).mean(axis=0)
            X = X - center
            if shifts_target:
                offset = _median(y, weight)
                y = y - offset
        A = np.hstack([X, np.ones((len(X), 1))]) if self.fit_intercept else X
        value, slope = loss.value, loss.slope
        assert slope is not None
        packed = Weighted(y, weight)
        weighted = Loss(
            lambda m, code: packed.weight(code) * value(m, packed.target(code)),
            lambda m, code: packed.weight(code) * slope(m, packed.target(code)),
            loss.curvature,
        )
        same = bool((weight == 1.0).all())
        total = LinearFiniteSum(A, y if same else packed.codes, loss if same else weighted)
        ball: ConstraintSet = L1Ball(self.radius)
        if self.fit_intercept:
            reach = float(np.abs(y).max()) + self.radius * float(np.abs(X).max(initial=1.0))
            if not shifts_target:
                # The log odds of the classes, which a logistic intercept may have to be.
                reach += abs(math.log((1.0 + weight[y > 0.0].sum()) / (1.0 + weight[y < 0.0].sum())))
            ball = Product([ball, LInfBall(reach)], [d, 1])
        queries = _PASSES * total.n_functions * 2 * A.shape[1]
        self.result_ = minimize_fw_zo(
            total,
            np.zeros(A.shape[1]),
            ball,
            method=self.solver,
            fd="central",
            max_queries=queries if isinstance(self.max_queries, str) else self.max_queries,
            random_state=self.random_state,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        self.n_iter_ = self.result_.n_iter
        w = np.asarray(self.result_.x)
        intercept = float(w[d]) + offset - float(center @ w[:d]) if self.fit_intercept else 0.0
        return w[:d].copy(), intercept

    def _margins(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64, accept_sparse="csr")
        return X @ np.ravel(self.coef_) + float(np.ravel(self.intercept_)[0])


def _distinct(A: Array, y: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Return distinct rows, in lexical order, with their targets and the sums of their weights, of mean 1.

    Rows of weight 0 are not there, and equal rows are one function: a weight counts like repeated rows to the
    last bit, whatever is sampled.
    """
    kept = weight > 0.0
    rows, which = np.unique(np.column_stack([A, y])[kept], axis=0, return_inverse=True)
    total = np.bincount(which.ravel(), weight[kept])
    return np.ascontiguousarray(rows[:, :-1]), rows[:, -1].copy(), total / total.mean()


def _median(y: Array, weight: Array) -> float:
    """Return the lower weighted median."""
    order = np.argsort(y, kind="stable")
    passed = np.cumsum(weight[order])
    return float(y[order][np.searchsorted(passed, 0.5 * passed[-1])])


class Weighted:
    """Codes 0..n-1 in place of targets, which look up target and weight."""

    def __init__(self, y: Array, weight: Array) -> None:
        self.y, self.w = y, weight
        self.codes = np.arange(len(y), dtype=np.float64)

    def target(self, code: Array) -> Array:
        return self.y[code.astype(np.int64)]

    def weight(self, code: Array) -> Array:
        return self.w[code.astype(np.int64)]
