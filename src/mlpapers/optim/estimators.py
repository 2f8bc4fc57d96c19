"""Linear models over an L1 ball, fitted from values of their losses alone."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from mlpapers.core.validation import check_choice, check_real
from mlpapers.optim._linear_model import LinearFW
from mlpapers.optim.linear import LOSSES, Loss, welsch

__all__ = ["RobustClassifierFW", "RobustRegressorFW", "SparseLogisticRegressionFW"]

Array = NDArray[np.float64]

# A correntropy fit to fewer rows than this share is one to no structure of the data.
_FEWEST_NEAR = 0.1


class _BinaryFW(ClassifierMixin, LinearFW):
    """A binary classifier with y in {-1, 1} inside."""

    classes_: NDArray[Any]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array or sparse matrix of shape (n, d)
            Made dense: columns are centred, and every query is a product with a row of them.
        y : array of shape (n,)
            Two classes.
        sample_weight : array of shape (n,), optional

        Returns
        -------
        self
        """
        self._check_parameters()
        loss = self._loss()
        X, y = validate_data(self, X, y, dtype=np.float64, accept_sparse="csr")
        X = _dense(X)
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
        X : array or sparse matrix of shape (m, d)

        Returns
        -------
        margins : ndarray of shape (m,)
        """
        return self._margins(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of each row.

        Parameters
        ----------
        X : array or sparse matrix of shape (m, d)

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

    def _loss(self) -> Loss:
        return LOSSES["logistic"]

    def predict_proba(self, X: Any) -> Array:
        """Return class probabilities.

        Parameters
        ----------
        X : array or sparse matrix of shape (m, d)

        Returns
        -------
        probabilities : ndarray of shape (m, 2)
        """
        from scipy.special import expit

        p = expit(self._margins(X))
        return np.stack([1.0 - p, p], axis=1)


class _RobustFW(LinearFW):
    """A linear model with a robust loss of width sigma."""

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
        super().__init__(
            radius,
            solver,
            max_queries,
            fit_intercept,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.loss = loss
        self.sigma = sigma

    def _loss(self) -> Loss:
        check_choice("loss", self.loss, ("welsch", "huber", "squared"))
        sigma = check_real("sigma", self.sigma, low=0.0, closed="neither")
        return welsch(sigma) if self.loss == "welsch" else LOSSES[self.loss]


class RobustClassifierFW(_BinaryFW, _RobustFW):
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

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.optim import RobustClassifierFW
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> truth = X[:, 0] > 2.0 * X[:, 1]
    >>> y = np.where(np.arange(200) < 20, ~truth, truth)  # a tenth of the labels is wrong
    >>> RobustClassifierFW(radius=4.0, random_state=0).fit(X, y).score(X, truth) > 0.9
    True
    """


class RobustRegressorFW(RegressorMixin, _RobustFW):
    r"""Linear regression with the correntropy loss over an L1 ball, without gradients.

    .. math:: f_i(x) = \tfrac{\sigma^2}{2} \bigl(1 - e^{-(y_i - \langle a_i, x \rangle)^2 / \sigma^2}\bigr)

    Parameters
    ----------
    radius : float
        Bound on the L1 norm of the coefficients.
    loss : {"welsch", "huber", "squared"}
    sigma : float
        Width of the correntropy loss, in units of y: about the spread of the residuals that are no outliers.
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

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.optim import RobustRegressorFW
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> y = X @ [1.0, -2.0, 0.5]
    >>> y[:40] += 50.0  # gross outliers
    >>> RobustRegressorFW(radius=4.0, random_state=0).fit(X, y).coef_.round(1).tolist()
    [1.0, -2.0, 0.5]
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # The ball and the width are in absolute units: the checks' targets are far outside both.
        tags.regressor_tags.poor_score = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array or sparse matrix of shape (n, d)
            Made dense: columns are centred, and every query is a product with a row of them.
        y : array of shape (n,)
        sample_weight : array of shape (n,), optional

        Returns
        -------
        self

        Warns
        -----
        ConvergenceWarning
            Where `sigma` is so small that nearly all rows are outliers.
        """
        self._check_parameters()
        loss = self._loss()
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True, accept_sparse="csr")
        X = _dense(X)
        weight = np.asarray(
            _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        )
        y = np.asarray(y, dtype=np.float64)
        self.coef_, self.intercept_ = self._solve(X, y, weight, loss, shifts_target=True)
        if self.loss == "welsch":
            self._warn_of_plateau(np.abs(y - X @ self.coef_ - self.intercept_), weight)
        return self

    def _warn_of_plateau(self, residuals: Array, weight: Array) -> None:
        """Say so where nearly all rows are outliers: the loss is flat there, and the fit means nothing."""
        near = float(weight[residuals <= 2.0 * self.sigma].sum() / weight.sum())
        if near < _FEWEST_NEAR:
            spread = 1.4826 * float(np.median(residuals[weight > 0.0]))
            warnings.warn(
                f"RobustRegressorFW: {1.0 - near:.0%} of the residuals exceed 2 sigma = {2 * self.sigma:g}, "
                "where the loss is flat, so that the coefficients say little; their robust spread is "
                f"{spread:.3g}: raise sigma (in units of y) to about that, or radius",
                ConvergenceWarning,
                stacklevel=3,
            )

    def predict(self, X: Any) -> Array:
        """Return the prediction of each row.

        Parameters
        ----------
        X : array or sparse matrix of shape (m, d)

        Returns
        -------
        y : ndarray of shape (m,)
        """
        return self._margins(X)


def _dense(X: Any) -> Array:
    return X.toarray() if issparse(X) else X
