"""Entries of a matrix and mixtures of its columns, dense or sparse, in compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numba import njit
from numpy.typing import NDArray

__all__ = ["entries_of", "few", "product"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Columns one by one take longer per entry than the whole product.
_WORTH = 4


def entries_of(A: Any, idx: Ints, k: Ints) -> Array:
    """Return A[idx, k] of a C-ordered array or of a CSR array with sorted indices.

    Parameters
    ----------
    A : array or CSR array of shape (n, d)
    idx, k : ndarray of shape (m,)

    Returns
    -------
    entries : ndarray of shape (m,)
    """
    if scipy.sparse.issparse(A):
        return _sparse_entries(A.indptr, A.indices, A.data, idx, k)
    return _dense_entries(A, idx, k)


def few(x: Array) -> Ints | None:
    """Return where x is not 0, or None where that is not far from everywhere."""
    k = np.flatnonzero(x)
    return k if _WORTH * len(k) <= len(x) else None


def product(columns: Any, k: Ints, weights: Array) -> Array:
    """Return the sum of weights_j times column k_j.

    Parameters
    ----------
    columns : array of shape (d, n) with a column of A in each row, or CSC array of shape (n, d)
    k : ndarray of shape (l,)
    weights : ndarray of shape (l,)

    Returns
    -------
    mixture : ndarray of shape (n,)
    """
    if scipy.sparse.issparse(columns):
        out = np.zeros(columns.shape[0])
        _add_sparse(columns.indptr, columns.indices, columns.data, k, weights, out)
    else:
        out = np.zeros(columns.shape[1])
        _add_dense(columns, k, weights, out)
    return out


@njit(cache=True, nogil=True)
def _dense_entries(A: Array, idx: Ints, k: Ints) -> Array:
    out = np.empty(len(idx))
    for j in range(len(idx)):
        out[j] = A[idx[j], k[j]]
    return out


@njit(cache=True, nogil=True)
def _sparse_entries(indptr: Ints, indices: Ints, data: Array, idx: Ints, k: Ints) -> Array:
    out = np.zeros(len(idx))
    for j in range(len(idx)):
        low, high = indptr[idx[j]], indptr[idx[j] + 1]
        end = high
        while low < high:
            middle = (low + high) // 2
            if indices[middle] < k[j]:
                low = middle + 1
            else:
                high = middle
        if low < end and indices[low] == k[j]:
            out[j] = data[low]
    return out


@njit(cache=True, nogil=True)
def _add_dense(columns: Array, k: Ints, weights: Array, out: Array) -> None:
    for j in range(len(k)):
        column, weight = columns[k[j]], weights[j]
        for i in range(len(out)):
            out[i] += weight * column[i]


@njit(cache=True, nogil=True)
def _add_sparse(indptr: Ints, indices: Ints, data: Array, k: Ints, weights: Array, out: Array) -> None:
    for j in range(len(k)):
        for p in range(indptr[k[j]], indptr[k[j] + 1]):
            out[indices[p]] += weights[j] * data[p]
