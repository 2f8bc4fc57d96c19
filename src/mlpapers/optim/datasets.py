"""Generated problems: sparse logistic regression of LIBSVM shape, and classification with gross outliers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from mlpapers.core.validation import check_int, check_real, check_rng

__all__ = ["make_outlier_classification", "make_sparse_logistic"]

Array = NDArray[np.float64]

# Nonzeros of a row, as one-hot coded categorical sets of the LIBSVM collection have them.
_ONE_HOT = 14


def make_sparse_logistic(
    n: int, d: int, density: float | None = None, k: int | None = None, random_state: Any = None
) -> tuple[scipy.sparse.csr_array, Array, Array]:
    """Make a CSR problem of logistic regression with a sparse truth.

    Each row has one nonzero in each of 14 blocks of columns (or ``density * d`` blocks), and norm 1.

    Parameters
    ----------
    n, d : int
        Rows and columns.
    density : float, optional
        Share of nonzeros; default 14 a row.
    k : int, optional
        Nonzeros of the truth; default max(5, d // 10).
    random_state : int, Generator, RandomState, SeedSequence or None

    Returns
    -------
    A : CSR array of shape (n, d)
    y : ndarray of shape (n,), -1 or 1
    w : ndarray of shape (d,), the truth
    """
    n, d = check_int("n", n, minimum=1), check_int("d", d, minimum=1)
    nonzeros = min(_ONE_HOT, d)
    if density is not None:
        share = check_real("density", density, low=0.0, high=1.0, closed="right")
        nonzeros = max(1, min(d, round(share * d)))
    k = max(5, d // 10) if k is None else check_int("k", k, minimum=1, maximum=d)
    rng = check_rng(random_state)
    ends = np.linspace(0, d, nonzeros + 1).astype(np.int64)
    # Frequencies within a block fall like 1/rank, as those of categories do.
    columns = [
        start + (np.power(stop - start + 1.0, rng.random(n)) - 1.0).astype(np.int64).clip(0, stop - start - 1)
        for start, stop in itertools.pairwise(ends)
    ]
    indices = np.stack(columns, axis=1).ravel()
    values = np.full(n * nonzeros, 1.0 / np.sqrt(nonzeros))
    A = scipy.sparse.csr_array((values, indices, np.arange(0, n * nonzeros + 1, nonzeros)), shape=(n, d))
    w = np.zeros(d)
    chosen = rng.choice(d, size=min(k, d), replace=False)
    w[chosen] = rng.normal(scale=3.0, size=len(chosen))
    probability = 1.0 / (1.0 + np.exp(-4.0 * (A @ w)))
    return A, np.where(rng.random(n) < probability, 1.0, -1.0), w


def make_outlier_classification(
    n: int, d: int, outliers: float = 0.15, k: int | None = None, random_state: Any = None
) -> tuple[Array, Array, Array]:
    """Make y = <a, w> + noise with a share of gross outliers: noise sd 0.05, outliers sd 5.

    Parameters
    ----------
    n, d : int
        Rows and columns; rows are Gaussian with norm 1.
    outliers : float
        Share of rows with an outlier.
    k : int, optional
        Nonzeros of the truth; default max(5, d // 10).
    random_state : int, Generator, RandomState, SeedSequence or None

    Returns
    -------
    A : ndarray of shape (n, d)
    y : ndarray of shape (n,)
    w : ndarray of shape (d,), the truth

    Examples
    --------
    >>> from mlpapers.optim import make_outlier_classification
    >>> A, y, w = make_outlier_classification(1000, 20, outliers=0.15, random_state=0)
    >>> float((abs(y - A @ w) > 0.3).mean().round(2))
    0.15
    """
    n, d = check_int("n", n, minimum=1), check_int("d", d, minimum=1)
    outliers = check_real("outliers", outliers, low=0.0, high=1.0)
    k = max(5, d // 10) if k is None else check_int("k", k, minimum=1, maximum=d)
    rng = check_rng(random_state)
    A = rng.normal(size=(n, d))
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    w = np.zeros(d)
    chosen = rng.choice(d, size=min(k, d), replace=False)
    w[chosen] = rng.normal(scale=3.0, size=len(chosen))
    y = A @ w + 0.05 * rng.normal(size=n)
    gross = rng.random(n) < outliers
    return A, y + np.where(gross, 5.0 * rng.normal(size=n), 0.0), w
