"""Entries of a matrix and mixtures of its columns, dense or sparse, in compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from numba import njit
from numpy.typing import NDArray

__all__ = ["add_to", "entries_of", "few", "product"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# So many entries of one row, one after another, are worth laying the row out.
_LAID_OUT = 8
# Columns one by one take longer per entry than the whole product.
_WORTH = 4


def entries_of(A: Any, idx: Ints, k: Ints) -> Array:
    """Return A[idx, k] of a C-ordered array or of a CSR array with sorted indices.

    Where `idx` is shorter, each of its rows has the same number of entries, one after another.

    Parameters
    ----------
    A : array or CSR array of shape (n, d)
    idx : ndarray of shape (m,) or shorter
    k : ndarray of shape (m,)

    Returns
    -------
    entries : ndarray of shape (m,)
    """
    if scipy.sparse.issparse(A):
        idx = idx if len(idx) == len(k) else np.repeat(idx, len(k) // len(idx))
        return _sparse_entries(A.indptr, A.indices, A.data, idx, k, A.shape[1])
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


def add_to(out: Array, weight: float, columns: Any, k: int, factor: float) -> None:
    """Add weight * (factor * column k) to `out`.

    Parameters
    ----------
    out : ndarray of shape (n,)
    weight : float
    columns : array of shape (d, n) with a column of A in each row, or CSC array of shape (n, d)
    k : int
    factor : float
    """
    if scipy.sparse.issparse(columns):
        part = slice(columns.indptr[k], columns.indptr[k + 1])
        out[columns.indices[part]] += weight * (factor * columns.data[part])
    else:
        _add_column(out, weight, columns[k], factor)


@njit(cache=True, nogil=True)
def _add_column(out: Array, weight: float, column: Array, factor: float) -> None:
    for i in range(len(out)):
        out[i] += weight * (factor * column[i])


@njit(cache=True, nogil=True)
def _dense_entries(A: Array, idx: Ints, k: Ints) -> Array:
    out = np.empty(len(k))
    each = len(k) // max(len(idx), 1)
    for r in range(len(idx)):
        for j in range(r * each, (r + 1) * each):
            out[j] = A[idx[r], k[j]]
    return out


@njit(cache=True, nogil=True)
def _sparse_entries(indptr: Ints, indices: Ints, data: Array, idx: Ints, k: Ints, width: int) -> Array:
    out = np.zeros(len(idx))
    row = np.zeros(0)
    start = 0
    while start < len(idx):
        i, end = idx[start], start + 1
        while end < len(idx) and idx[end] == i:
            end += 1
        if end - start < _LAID_OUT:
            for j in range(start, end):
                p = _find(indices, indptr[i], indptr[i + 1], k[j])
                if p >= 0:
                    out[j] = data[p]
        else:
            if not len(row):
                row = np.zeros(width)
            for p in range(indptr[i], indptr[i + 1]):
                row[indices[p]] = data[p]
            for j in range(start, end):
                out[j] = row[k[j]]
            for p in range(indptr[i], indptr[i + 1]):
                row[indices[p]] = 0.0
        start = end
    return out


@njit(cache=True, nogil=True)
def _find(indices: Ints, low: int, high: int, k: int) -> int:
    """Return where k stands among sorted indices, or -1."""
    end = high
    while low < high:
        middle = (low + high) // 2
        if indices[middle] < k:
            low = middle + 1
        else:
            high = middle
    return low if low < end and indices[low] == k else -1


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
