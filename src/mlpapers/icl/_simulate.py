"""Mixture tasks by their sufficient statistics: the cost does not grow with the number of rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["TaskStatistics", "gram_statistics"]

Array = NDArray[np.float64]


class TaskStatistics(NamedTuple):
    """What estimators of the mean use of T tasks.

    Attributes
    ----------
    mu : ndarray of shape (T, d)
        True means, of norm 1.
    mu_s : ndarray of shape (T, d)
        Mean of y x over labelled rows; 0 without any.
    gram : ndarray of shape (T, d, d)
        X'X / n.
    """

    mu: Array
    mu_s: Array
    gram: Array


def gram_statistics(
    n: int, m: int, d: int, sigma: float, n_tasks: int, rng: np.random.Generator
) -> TaskStatistics:
    """Draw (mu, mu_s, X'X/n) of tasks with n rows, m of them labelled, exactly in law.

    Flipping rows by their true labels changes neither mu_s nor X'X and makes all rows N(mu, sigma^2 I). The
    labelled and the unlabelled rows then have independent normal means and a common scatter, which is
    Wishart.
    """
    mu = rng.standard_normal((n_tasks, d))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    gram = np.zeros((n_tasks, d, d))
    mu_s = np.zeros((n_tasks, d))
    freedom = n
    for count, labeled in ((m, True), (n - m, False)):
        if count == 0:
            continue
        mean = mu + sigma / np.sqrt(count) * rng.standard_normal((n_tasks, d))
        gram += count * mean[:, :, None] * mean[:, None, :]
        freedom -= 1
        if labeled:
            mu_s = mean
    root = _wishart_root(freedom, d, n_tasks, rng)
    gram += sigma**2 * root @ root.transpose(0, 2, 1)
    return TaskStatistics(mu, mu_s, gram / n)


def _wishart_root(freedom: int, d: int, n_tasks: int, rng: np.random.Generator) -> Array:
    """Return R (tasks, d, .) with R R' Wishart of the identity: Gaussian rows, or Bartlett's factor."""
    if freedom <= 2 * d:
        return rng.standard_normal((n_tasks, d, freedom))
    root = np.tril(rng.standard_normal((n_tasks, d, d)), -1)
    diagonal = np.arange(d)
    root[:, diagonal, diagonal] = np.sqrt(rng.chisquare(freedom - diagonal, size=(n_tasks, d)))
    return root
