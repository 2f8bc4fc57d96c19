"""Expectation-maximisation for Gaussian components of which some rows know theirs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.special import logsumexp

__all__ = ["Components", "fit_components", "log_densities"]

Array = NDArray[np.float64]


class Components(NamedTuple):
    """A fitted mixture: (means, covariances, priors), the log-likelihoods, and whether they settled."""

    parameters: tuple[Array, Array, Array]
    log_likelihood: list[float]
    converged: bool


def fit_components(
    X: Array, codes: NDArray[np.int64], C: int, form: str, reg: float, max_iter: int, tol: float
) -> Components:
    """Maximise the likelihood of labelled (code >= 0) and unlabelled rows under :func:`log_densities`.

    Their M step is Sigma_c = scatter_c / n_c + reg I, so that the likelihood rises with every iteration, also
    for singular scatter, and a constant column has the variance reg in every class, large or small.
    """
    n = len(X)
    labeled = codes >= 0
    fixed = np.zeros((n, C))
    fixed[labeled, codes[labeled]] = 1.0
    parameters = _start(X, fixed, form, reg)
    history: list[float] = []
    converged = False
    while True:
        means, covariances, priors = parameters
        joint = log_densities(X, means, covariances, reg) + np.log(priors)
        evidence = logsumexp(joint, axis=1)
        observed = np.where(labeled, (joint * fixed).sum(axis=1), evidence).sum()
        history.append(float(observed))
        converged = len(history) > 1 and history[-1] - history[-2] <= tol * n
        if converged or len(history) > max_iter:
            return Components(parameters, history, bool(converged))
        weights = np.where(labeled[:, None], fixed, np.exp(joint - evidence[:, None]))
        parameters = _maximise(X, weights, form, reg)


def log_densities(X: Array, means: Array, covariances: Array, reg: float) -> Array:
    """Return E log N(x_i + e; means_c, covariances_c) over errors e ~ N(0, reg I), shape (n, C).

    That is log N(x_i; means_c, covariances_c) - reg/2 tr(covariances_c^-1).
    """
    columns = []
    identity = np.eye(X.shape[1])
    for mean, S in zip(means, covariances):
        L = linalg.cholesky(S, lower=True)
        z = linalg.solve_triangular(L, (X - mean).T, lower=True)
        inverse = linalg.solve_triangular(L, identity, lower=True)
        distances = (z * z).sum(axis=0) + reg * (inverse * inverse).sum()
        columns.append(-0.5 * distances - np.log(np.diag(L)).sum())
    densities: Array = np.column_stack(columns) - 0.5 * X.shape[1] * np.log(2.0 * np.pi)
    return densities


def _start(X: Array, fixed: Array, form: str, reg: float) -> tuple[Array, Array, Array]:
    """Return class means of labelled rows, and for every class the covariance of all rows around them."""
    counts = fixed.sum(axis=0)
    means = fixed.T @ X / counts[:, None]
    nearest = np.linalg.norm(X[:, None, :] - means[None], axis=2).argmin(axis=1)
    residual = X - means[np.where(fixed.any(axis=1), fixed.argmax(axis=1), nearest)]
    # An even share of every column's variance keeps the start regular with few rows.
    spread = np.diag(X.var(axis=0)) * 0.1
    scatter = _shape(residual.T @ residual / len(X) + spread, form) + reg * np.eye(X.shape[1])
    covariances = np.repeat(scatter[None], len(means), axis=0)
    return means, covariances, counts / counts.sum()


def _maximise(X: Array, weights: Array, form: str, reg: float) -> tuple[Array, Array, Array]:
    counts = weights.sum(axis=0)
    means = weights.T @ X / counts[:, None]
    covariances = []
    for count, mean, weight in zip(counts, means, weights.T):
        residual = X - mean
        scatter = (residual * weight[:, None]).T @ residual
        covariances.append(_shape(scatter / count, form) + reg * np.eye(X.shape[1]))
    return means, np.array(covariances), counts / counts.sum()


def _shape(S: Array, form: str) -> Array:
    """Return the covariance of the form that is closest in likelihood: its diagonal, or the mean of it."""
    if form == "full":
        return S
    diagonal = np.diag(S)
    return np.diag(np.full_like(diagonal, diagonal.mean()) if form == "spherical" else diagonal)
