"""Linear models over an L1 ball, fitted from values of their losses alone."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from mlpapers.core.validation import check_bool, check_choice, check_int, check_real, check_workers
from mlpapers.optim.constraints._base import ConstraintSet
from mlpapers.optim.constraints.balls import L1Ball, LInfBall
from mlpapers.optim.constraints.combined import Product
from mlpapers.optim.linear import LOSSES, LinearFiniteSum, Loss, welsch
from mlpapers.optim.minimize import minimize_fw_zo
from mlpapers.optim.result import FWResult

__all__ = ["RobustClassifierFW", "RobustRegressorFW", "SparseLogisticRegressionFW"]

Array = NDArray[np.float64]

# Queries of "auto", in units of all central differences.
_PASSES = 20
_SOLVERS = ("auto", "dvr", "fd", "fzfw", "fcgs", "acc_szofw", "acc_szofw_star", "jaguar", "zscg")


class _LinearFW(BaseEstimator):
    """What the estimators share: inputs, the finite sum, the solver."""

    radius: float
    solver: str
    max_queries: Any
    fit_intercept: bool
    random_state: Any
    n_jobs: int | None
    verbose: int
    coef_: Array
    intercept_: Any
    result_: FWResult
    n_features_in_: int
    n_iter_: int

    def _check_parameters(self) -> None:
        check_real("radius", self.radius, low=0.0, closed="neither")
        check_choice("solver", self.solver, _SOLVERS)
        check_bool("fit_intercept", self.fit_intercept)
        check_workers(self.n_jobs, self.verbose)
        if isinstance(self.max_queries, str):
            check_choice("max_queries", self.max_queries, ("auto",))
        else:
            check_int("max_queries", self.max_queries, minimum=1)

    def _solve(self, X: Array, y: Array, weight: Array, loss: Loss) -> tuple[Array, float]:
        """Return coefficients and intercept; rows with weight w count w times."""
        n, d = X.shape
        A = np.hstack([X, np.ones((n, 1))]) if self.fit_intercept else X
        A, y, weight = _distinct(A, y, weight)
        value, slope = loss.value, loss.slope
        assert slope is not None
        packed = _Weighted(y, weight)
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
        return w[:d].copy(), float(w[d]) if self.fit_intercept else 0.0

    def _margins(self, X: Any) -> Array:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
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


class _Weighted:
    """Codes 0..n-1 in place of targets, which look up target and weight."""

    def __init__(self, y: Array, weight: Array) -> None:
        self.y, self.w = y, weight
        self.codes = np.arange(len(y), dtype=np.float64)

    def target(self, code: Array) -> Array:
        return self.y[code.astype(np.int64)]

    def weight(self, code: Array) -> Array:
        return self.w[code.astype(np.int64)]


class _BinaryFW(ClassifierMixin, _LinearFW):
    """A binary classifier with y in {-1, 1} inside."""

    classes_: NDArray[Any]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _loss(self) -> Loss:
        raise NotImplementedError

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array of shape (n, d)
        y : array of shape (n,)
            Two classes.
        sample_weight : array of shape (n,), optional

        Returns
        -------
        self
        """
        self._check_parameters()
        loss = self._loss()
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        weight = np.asarray(
            _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        )
        self.classes_ = np.unique(y)
        if len(self.classes_) > 2:
            raise ValueError(
                f"Only binary classification is supported. The type of the target is multiclass: y has "
                f"{len(self.classes_)} classes"
            )
        if len(self.classes_) < 2:
            raise ValueError(f"y must have two classes; got 1 class, {self.classes_.tolist()}")
        signs = np.where(y == self.classes_[1], 1.0, -1.0)
        coef, intercept = self._solve(X, signs, weight, loss)
        self.coef_, self.intercept_ = coef[None], np.array([intercept])
        return self

    def decision_function(self, X: Any) -> Array:
        """Return the margins <a, x> + intercept.

        Parameters
        ----------
        X : array of shape (m, d)

        Returns
        -------
        margins : ndarray of shape (m,)
        """
        return self._margins(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of each row.

        Parameters
        ----------
        X : array of shape (m, d)

        Returns
        -------
        y : ndarray of shape (m,)
        """
        positive = self._margins(X) > 0.0
        return self.classes_[positive.astype(np.int64)]


class SparseLogisticRegressionFW(_BinaryFW):
    """Logistic regression over an L1 ball of coefficients, without gradients.

    Parameters
    ----------
    radius : float
        Bound on the L1 norm of the coefficients.
    solver : str
        A method of :func:`minimize_fw_zo`.
    max_queries : int or "auto"
        Values of single losses; "auto" is 40 n d.
    fit_intercept : bool
        Whether to fit an intercept, which the ball does not bound.
    random_state : int, Generator, RandomState or None
    n_jobs : int or None
    verbose : int

    Attributes
    ----------
    coef_ : ndarray of shape (1, d)
    intercept_ : ndarray of shape (1,)
    classes_ : ndarray of shape (2,)
    result_ : FWResult
    n_iter_ : int
    n_features_in_ : int

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> X, y = make_classification(200, 10, random_state=0)
    >>> SparseLogisticRegressionFW(radius=5.0, random_state=0).fit(X, y).score(X, y) > 0.9
    True
    """

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

    def _loss(self) -> Loss:
        return LOSSES["logistic"]

    def predict_proba(self, X: Any) -> Array:
        """Return class probabilities.

        Parameters
        ----------
        X : array of shape (m, d)

        Returns
        -------
        probabilities : ndarray of shape (m, 2)
        """
        from scipy.special import expit

        p = expit(self._margins(X))
        return np.stack([1.0 - p, p], axis=1)


def _robust_loss(loss: str, sigma: float) -> Loss:
    check_choice("loss", loss, ("welsch", "huber", "squared"))
    sigma = check_real("sigma", sigma, low=0.0, closed="neither")
    return welsch(sigma) if loss == "welsch" else LOSSES[loss]


class RobustClassifierFW(_BinaryFW):
    r"""Binary classification with the correntropy loss over an L1 ball, without gradients.

    .. math:: f_i(x) = \tfrac{\sigma^2}{2} \bigl(1 - e^{-(y_i - \langle a_i, x \rangle)^2 / \sigma^2}\bigr),
              \quad y_i \in \{-1, 1\}

    Parameters
    ----------
    radius : float
        Bound on the L1 norm of the coefficients.
    loss : {"welsch", "huber", "squared"}
    sigma : float
        Width of the correntropy loss.
    solver : str
        A method of :func:`minimize_fw_zo`.
    max_queries : int or "auto"
        Values of single losses; "auto" is 40 n d.
    fit_intercept : bool
        Whether to fit an intercept, which the ball does not bound.
    random_state : int, Generator, RandomState or None
    n_jobs : int or None
    verbose : int

    Attributes
    ----------
    coef_ : ndarray of shape (1, d)
    intercept_ : ndarray of shape (1,)
    classes_ : ndarray of shape (2,)
    result_ : FWResult
    n_iter_ : int
    n_features_in_ : int
    """

    def __init__(
        self,
        radius: float = 1.0,
        loss: str = "welsch",
        sigma: float = 1.0,
        solver: str = "auto",
        max_queries: Any = "auto",
        fit_intercept: bool = True,
        *,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.radius = radius
        self.loss = loss
        self.sigma = sigma
        self.solver = solver
        self.max_queries = max_queries
        self.fit_intercept = fit_intercept
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _loss(self) -> Loss:
        return _robust_loss(self.loss, self.sigma)


class RobustRegressorFW(RegressorMixin, _LinearFW):
    r"""Linear regression with the correntropy loss over an L1 ball, without gradients.

    .. math:: f_i(x) = \tfrac{\sigma^2}{2} \bigl(1 - e^{-(y_i - \langle a_i, x \rangle)^2 / \sigma^2}\bigr)

    Parameters
    ----------
    radius : float
        Bound on the L1 norm of the coefficients.
    loss : {"welsch", "huber", "squared"}
    sigma : float
        Width of the correntropy loss, in units of y.
    solver : str
        A method of :func:`minimize_fw_zo`.
    max_queries : int or "auto"
        Values of single losses; "auto" is 40 n d.
    fit_intercept : bool
        Whether to fit an intercept, which the ball does not bound.
    random_state : int, Generator, RandomState or None
    n_jobs : int or None
    verbose : int

    Attributes
    ----------
    coef_ : ndarray of shape (d,)
    intercept_ : float
    result_ : FWResult
    n_iter_ : int
    n_features_in_ : int
    """

    def __init__(
        self,
        radius: float = 1.0,
        loss: str = "welsch",
        sigma: float = 1.0,
        solver: str = "auto",
        max_queries: Any = "auto",
        fit_intercept: bool = True,
        *,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.radius = radius
        self.loss = loss
        self.sigma = sigma
        self.solver = solver
        self.max_queries = max_queries
        self.fit_intercept = fit_intercept
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # The ball and the width are in absolute units: the checks' targets are far outside both.
        tags.regressor_tags.poor_score = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array of shape (n, d)
        y : array of shape (n,)
        sample_weight : array of shape (n,), optional

        Returns
        -------
        self
        """
        self._check_parameters()
        loss = _robust_loss(self.loss, self.sigma)
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        weight = np.asarray(
            _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        )
        self.coef_, self.intercept_ = self._solve(X, np.asarray(y, dtype=np.float64), weight, loss)
        return self

    def predict(self, X: Any) -> Array:
        """Return the prediction of each row.

        Parameters
        ----------
        X : array of shape (m, d)

        Returns
        -------
        y : ndarray of shape (m,)
        """
        return self._margins(X)
