r"""Exact multipliers from those of a neighbouring problem: descent of the dual along its edges.

The dual :math:`D(\lambda) = \lambda \cdot b + \sum_i w_i (s_i - (\lambda A)_i)_+` is convex and piecewise
linear. From any vertex it falls along one of m edges, or is least there. Along an edge every sample whose
reduced score changes sign raises the slope; the search passes them all, up to the one where the slope ceases
to be negative. So a pivot costs a few passes over the samples, however many change sides, and a start near
the optimum is a few pivots away from it: what quantile regression does [1], in the m dimensions of the
multipliers instead of those of a model.

References
----------
[1] Barrodale and Roberts, "An improved algorithm for discrete l1 linear approximation", SIAM Journal on
Numerical Analysis 10 (1973).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlpapers.fairness._edge_kernels import OPTIMAL, follow_edges

__all__ = ["MAX_EDGES", "Corner", "descend"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
# With more rows, pivots are many, and each updates a matrix of so many rows and columns.
MAX_EDGES = 64
# Far more pivots than are needed, unless they go in circles among ties.
_PIVOTS, _PIVOTS_PER_ROW = 50, 5
# Rounding of sums over the samples, relative to the sum of sizes.
_ROUNDING = 1e-13
_WHOLE = 1e-9


class Corner(NamedTuple):
    """An optimal vertex of the dual, and the primal solution that belongs to it."""

    x: Array  # (N,)
    multipliers: Array  # (m,)
    free: Array  # u (p,)
    excess: Array  # e (m,)
    n_pivots: int


def descend(
    A: Array,
    s: Array,
    w: Array,
    b: Array,
    C: Array,
    start: Array,
    *,
    n_equalities: int = 0,
    ceiling: float = np.inf,
) -> Corner | None:
    """Maximise sum w s x - ceiling * e.1 subject to A (w x) + C u - e <= b, 0 <= x <= 1, e >= 0.

    Parameters
    ----------
    A : ndarray of shape (m, N)
    s, w : ndarray of shape (N,)
        w positive.
    b : ndarray of shape (m,)
    C : ndarray of shape (m, p)
    start : ndarray of shape (m,)
        Multipliers near the optimal ones.
    n_equalities : int
        The last rows that hold as equalities, without e.
    ceiling : float
        Price of a unit of e, the greatest multiplier; infinite where there is no e.

    Returns
    -------
    corner : Corner or None
        None where the descent ended elsewhere; the caller checks what rounding made of the rows.
    """
    m = len(b)
    signed = np.arange(m) >= m - n_equalities
    lower, upper = np.where(signed, -np.inf, 0.0), np.where(signed, np.inf, ceiling)
    lam = _balanced(np.clip(start, lower, upper), C)
    at_lower, at_upper = lam <= lower, lam >= upper
    rows = np.arange(m)
    basis = np.where(at_lower, -1 - rows, np.where(at_upper, -1 - m - rows, -1 - 2 * m - rows))
    inverse = np.eye(m)
    for j in range(C.shape[1]):
        alpha = C[:, j] @ inverse
        leave = int(np.argmax(np.where(basis >= -3 * m, np.abs(alpha), -1.0)))
        if abs(alpha[leave]) <= _ROUNDING:
            return None
        inverse[:, leave] /= alpha[leave]
        others = rows != leave
        inverse[:, others] -= np.outer(inverse[:, leave], alpha[others])
        basis[leave] = -1 - 3 * m - j
    up = s > lam @ A
    size = max(float(A.max(initial=0.0)), -float(A.min(initial=0.0)))
    status, n_pivots = follow_edges(
        A,
        s,
        w,
        lower,
        upper,
        b - A @ (w * up),
        lam,
        up,
        basis,
        inverse,
        size,
        _ROUNDING * (1.0 + float(np.abs(b).max(initial=0.0)) + size * float(w.sum())),
        _PIVOTS + _PIVOTS_PER_ROW * m,
    )
    return _corner(A, s, w, b, C, lam, up, basis, lower, upper, n_pivots) if status == OPTIMAL else None


def _balanced(lam: Array, C: Array) -> Array:
    """Return multipliers with C^T lam = 0: of those that add to it and those that take, the greater shrunk.

    Where that is not enough, 0.
    """
    lam = lam.copy()
    for column in C.T:
        more, less = column * lam > 0, column * lam < 0
        added, taken = float(column[more] @ lam[more]), -float(column[less] @ lam[less])
        if added > taken:
            lam[more] *= taken / added
        elif taken > added:
            lam[less] *= added / taken
    residual, scale = np.abs(C.T @ lam), np.abs(C).T @ np.abs(lam)
    return lam if (residual <= _ROUNDING * scale).all() else np.zeros_like(lam)


def _corner(
    A: Array,
    s: Array,
    w: Array,
    b: Array,
    C: Array,
    lam: Array,
    up: NDArray[np.bool_],
    basis: Index,
    lower: Array,
    upper: Array,
    n_pivots: int,
) -> Corner | None:
    """Read the solution off the basis, with sums and systems computed afresh."""
    m = len(b)
    samples, equalities = basis >= 0, basis < -3 * m
    normals, right = np.eye(m)[(-1 - basis) % m], lam[(-1 - basis) % m]
    normals[samples], right[samples] = A[:, basis[samples]].T, s[basis[samples]]
    normals[equalities], right[equalities] = C[:, -1 - 3 * m - basis[equalities]].T, 0.0
    x = up.astype(np.float64)
    x[basis[samples]] = 0.0
    try:
        multipliers = np.linalg.solve(normals, right)
        values = np.linalg.solve(normals.T, b - A @ (w * x))
    except np.linalg.LinAlgError:
        return None
    at_bound = ~(samples | equalities)
    # Exactly, where the system says it but for its last digits.
    multipliers[(-1 - basis[at_bound]) % m] = right[at_bound]
    multipliers = np.clip(multipliers, lower, upper)
    share = values[samples] / w[basis[samples]]
    x[basis[samples]] = np.where(share < _WHOLE, 0.0, np.where(share > 1.0 - _WHOLE, 1.0, share))
    free = np.zeros(C.shape[1])
    free[-1 - 3 * m - basis[equalities]] = values[equalities]
    excess = np.zeros(m)
    exceeded = at_bound & (basis < -m) & (basis >= -2 * m)
    excess[(-1 - basis[exceeded]) % m] = np.maximum(-values[exceeded], 0.0)
    return Corner(x, multipliers, free, excess, n_pivots)
