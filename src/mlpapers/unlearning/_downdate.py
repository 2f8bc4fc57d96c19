"""Compiled rank-k downdate of a Cholesky factor."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True)
def downdate(U: NDArray[np.float64], V: NDArray[np.float64], pivot_limit: float) -> bool:
    r"""Turn U with :math:`H = U^\top U` into the factor of :math:`H - V^\top V`, in place.

    Hyperbolic rotations, one row of V after the other, O(k p^2). Returns False, with U spoilt, where a
    squared pivot falls to `pivot_limit` times the largest or below.

    Parameters
    ----------
    U : ndarray of shape (p, p)
        Upper triangular; the lower triangle is not touched.
    V : ndarray of shape (k, p)
        Overwritten.
    pivot_limit : float
    """
    p = U.shape[0]
    largest = 0.0
    for j in range(p):
        largest = max(largest, U[j, j] * U[j, j])
    for row in range(V.shape[0]):
        x = V[row]
        for j in range(p):
            if x[j] == 0.0:
                continue
            pivot = U[j, j]
            square = (pivot - x[j]) * (pivot + x[j])
            if square <= pivot_limit * largest:
                return False
            r = math.sqrt(square)
            cosine = r / pivot
            sine = x[j] / pivot
            U[j, j] = r
            for i in range(j + 1, p):
                U[j, i] = (U[j, i] - sine * x[i]) / cosine
                x[i] = cosine * x[i] - sine * U[j, i]
    return True
