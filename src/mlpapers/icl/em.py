"""Gaussian mixtures that take partial labels, fitted by expectation-maximisation."""

from __future__ import annotations

import warnings
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from mlpapers.core.validation import check_choice, check_int, check_real, check_rng
from mlpapers.icl._gaussians import fit_components, log_densities
from mlpapers.icl._labels import PartialLabels, read_rows
from mlpapers.icl._linear_classifier import supervised_mean
from mlpapers.icl.plugin import _has_no_label

__all__ = ["GMMEMClassifier"]

Array = NDArray[np.float64]

_COVARIANCES = ("spherical-symmetric", "spherical", "diag", "full")
_LOG_2PI = float(np.log(2.0 * np.pi))


class GMMEMClassifier(ClassifierMixin, BaseEstimator):
    r"""Gaussian mixture with one component per class, fitted to labelled and unlabelled rows together.

    "spherical-symmetric" is the binary mixture x = y mu + sigma xi with equal shares:

    .. math:: \bar y_i = y_i \text{ or } \tanh(x_i'\mu / \sigma^2), \qquad \mu = X'\bar y / n, \qquad
              \sigma^2 = (\textstyle\sum |x_i|^2 - n |\mu|^2) / (n d).

    The other forms have a mean, a share and a spherical, diagonal or full covariance per class, for any
    number of classes. The likelihood of what was observed never decreases.

    Parameters
    ----------
    sigma : float, optional
        Known standard deviation of the noise, for "spherical-symmetric"; estimated by default.
    max_iter : int, default=200
    tol : float, default=1e-6
        Stop when the log-likelihood per row rises by no more.
    covariance : {"spherical-symmetric", "spherical", "diag", "full"}, default="spherical-symmetric"
    reg : float, default=1e-6
        Variance of a normal error in every entry of X. It is added to every variance, so that none is zero;
        a row counts with its expected log-density, which is lower by reg tr(Sigma^-1)/2. In the symmetric
        model, the smallest sigma^2.
    random_state : int, RandomState or None
        Of the sign, where no row of the symmetric model has a label.

    Attributes
    ----------
    means_ : ndarray of shape (C, d)
    sigma_ : float
        Of the symmetric model.
    covariances_ : ndarray of shape (C, d, d)
        Of the other models.
    priors_ : ndarray of shape (C,)
    log_likelihood_ : list of float
        After every iteration, the start included.
    n_iter_ : int
    converged_ : bool
    transduction_ : ndarray of shape (n,)
        Labels of all training rows; given ones are kept.
    classes_ : ndarray of shape (C,)
    n_features_in_ : int

    Warns
    -----
    ConvergenceWarning
        Where `max_iter` ends the iteration.

    Examples
    --------
    >>> from mlpapers.icl import make_semisupervised_gmm
    >>> X, y, y_true, mu = make_semisupervised_gmm(400, n_labeled=20, random_state=0)
    >>> model = GMMEMClassifier().fit(X, y)
    >>> bool((model.transduction_ == y_true).mean() > 0.8)
    True
    """

    def __init__(
        self,
        *,
        sigma: float | None = None,
        max_iter: int = 200,
        tol: float = 1e-6,
        covariance: Literal["spherical-symmetric", "spherical", "diag", "full"] = "spherical-symmetric",
        reg: float = 1e-6,
        random_state: Any = None,
    ) -> None:
        self.sigma = sigma
        self.max_iter = max_iter
        self.tol = tol
        self.covariance = covariance
        self.reg = reg
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = self.covariance != "spherical-symmetric"
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the mixture.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Labels; -1, None or NaN where one is missing.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For a parameter out of range, or fewer than two classes among the labelled rows (the symmetric
            model also works without any label).
        """
        symmetric = self._check_parameters()
        if symmetric and _has_no_label(y):
            X = validate_data(self, X, dtype=np.float64, order="C")
            check_consistent_length(X, y)
            labels = PartialLabels(np.array([0, 1]), np.full(len(X), -1))
        else:
            binary = f"{type(self).__name__} with covariance={self.covariance!r}" if symmetric else None
            X, labels = read_rows(self, X, y, binary=binary)
        self.classes_ = labels.classes
        if symmetric:
            self._fit_symmetric(X, labels)
        else:
            components = fit_components(
                X, labels.codes, len(labels.classes), self.covariance, self.reg, self.max_iter, self.tol
            )
            self.means_, self.covariances_, self.priors_ = components.parameters
            self.log_likelihood_, self.converged_ = components.log_likelihood, components.converged
        self.n_iter_ = len(self.log_likelihood_) - 1
        if not self.converged_:
            warnings.warn(
                f"the log-likelihood still rises after max_iter={self.max_iter} iterations",
                ConvergenceWarning,
                stacklevel=2,
            )
        best = self._posterior(X).argmax(axis=1)
        self.transduction_ = self.classes_[np.where(labels.labeled, labels.codes, best)]
        return self

    def predict_proba(self, X: Any) -> Array:
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        probabilities : ndarray of shape (q, C)
        """
        check_is_fitted(self)
        return self._posterior(validate_data(self, X, dtype=np.float64, order="C", reset=False))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of every row.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        y : ndarray of shape (q,)
        """
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def _posterior(self, X: Array) -> Array:
        if hasattr(self, "covariances_") and self.covariance != "spherical-symmetric":
            scores = log_densities(X, self.means_, self.covariances_, self.reg) + np.log(self.priors_)
            return np.asarray(softmax(scores, axis=1))
        positive = expit(2.0 * (X @ self.means_[1]) / self.sigma_**2)
        return np.column_stack([1.0 - positive, positive])

    def _check_parameters(self) -> bool:
        if self.sigma is not None:
            check_real("sigma", self.sigma, low=0.0, closed="neither")
        check_int("max_iter", self.max_iter, minimum=1)
        check_real("tol", self.tol, low=0.0)
        check_choice("covariance", self.covariance, _COVARIANCES)
        check_real("reg", self.reg, low=0.0, closed="neither")
        if not isinstance(self.random_state, int):
            check_rng(self.random_state)
        symmetric = self.covariance == "spherical-symmetric"
        if self.sigma is not None and not symmetric:
            raise ValueError(
                f"sigma belongs to covariance='spherical-symmetric'; got covariance={self.covariance!r}"
            )
        return symmetric

    def _fit_symmetric(self, X: Array, labels: PartialLabels) -> None:
        n, d = X.shape
        labeled = labels.labeled
        s = np.where(labeled, 2.0 * labels.codes - 1.0, 0.0)
        total = float(np.einsum("ij,ij->", X, X))
        mu = supervised_mean(X, s) if labeled.any() else self._eigenvector(X)
        # A mean of few labels is too long: the total variance is the safe start.
        s2 = total / (n * d) if self.sigma is None else float(self.sigma) ** 2
        s2 = max(s2, float(self.reg))
        fixed = X.T @ s
        free = X[~labeled]
        history: list[float] = []
        converged = False
        for _ in range(self.max_iter + 1):
            z = free @ mu / s2
            size = np.abs(z)
            log_cosh = float(size.sum() + np.log1p(np.exp(-2.0 * size)).sum()) - len(z) * np.log(2.0)
            quadratic = (total + n * float(mu @ mu)) / (2.0 * s2)
            history.append(
                log_cosh + float(fixed @ mu) / s2 - quadratic - 0.5 * n * d * (_LOG_2PI + np.log(s2))
            )
            converged = len(history) > 1 and history[-1] - history[-2] <= self.tol * n
            if converged or len(history) > self.max_iter:
                break
            mu = (fixed + free.T @ np.tanh(z)) / n
            s2 = self._variance(total, mu, n, d)
        self.means_ = np.stack([-mu, mu])
        self.sigma_ = float(np.sqrt(s2))
        self.priors_ = np.array([0.5, 0.5])
        self.log_likelihood_, self.converged_ = history, bool(converged)

    def _variance(self, total: float, mu: Array, n: int, d: int) -> float:
        if self.sigma is not None:
            return float(self.sigma) ** 2
        return max(float(self.reg), (total - n * float(mu @ mu)) / (n * d))

    def _eigenvector(self, X: Array) -> Array:
        """Return the top eigenvector at the length that explains its eigenvalue, with a random sign."""
        values, vectors = np.linalg.eigh(X.T @ X / len(X))
        noise = float(values[:-1].mean()) if len(values) > 1 else 0.0
        sign = 1.0 if check_rng(self.random_state).random() < 0.5 else -1.0
        start: Array = sign * np.sqrt(max(values[-1] - noise, 1e-12)) * vectors[:, -1]
        return start
