"""Pivots of a descent along the edges of D, compiled: see :mod:`mlpapers.fairness._edges`.

Throughout, A (m, N) holds the rows, `lam` the multipliers, h = s - lam A the reduced scores, `up` who counts
as h > 0 (the sign of h, and a choice where h = 0). A vertex is where m hyperplanes meet: `basis` says which,

    i >= 0              h_i = 0,
    -1 - k              lam_k = lower_k,
    -1 - m - k          lam_k = upper_k,
    -1 - 2m - k         lam_k = where it started,
    -1 - 3m - j         an equality, never left,

M has their normals (A_i, e_k, ...) as rows, and the columns of `inv`, its inverse, are the edges. `g` is the
gradient of D without the samples of the basis.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["OPTIMAL", "follow_edges"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Flags = NDArray[np.bool_]
OPTIMAL, UNBOUNDED, STOPPED = 0, 1, 2
# Changes along an edge that are rounding, relative to the largest possible.
_FLAT = 1e-10
# Pivots after which the reduced scores are computed afresh.
_REFRESH = 20
_SUMS = {"reassoc", "contract", "arcp", "nsz"}


@njit(cache=True, fastmath=_SUMS)
def _times(lam: Array, A: Array, out: Array) -> None:
    """Write lam A."""
    out[:] = 0.0
    for k in range(len(A)):
        row, factor = A[k], lam[k]
        if factor != 0.0:
            for i in range(len(row)):
                out[i] += factor * row[i]


@njit(cache=True)
def _steepest(g: Array, inv: Array, basis: Index, w: Array, tol: float) -> tuple[int, float, float]:
    """Return the edge of steepest descent, its direction and slope; -1 where D falls along none."""
    m = len(basis)
    best, leave, sign, slope = 0.0, -1, 1.0, 0.0
    for j in range(m):
        value = norm = 0.0
        for k in range(m):
            value += g[k] * inv[k, j]
            norm += inv[k, j] * inv[k, j]
        kind = basis[j]
        # Forwards a sample's h falls below 0; backwards it rises and counts.
        forwards = value if kind >= -m or -3 * m <= kind < -2 * m else 0.0
        backwards = 0.0
        if kind >= 0:
            backwards = w[kind] - value
        elif -3 * m <= kind < -m:
            backwards = -value
        steepest = min(forwards, backwards)
        if steepest < -tol and steepest * steepest > best * norm:
            best, leave, slope = steepest * steepest / norm, j, steepest
            sign = 1.0 if forwards < backwards else -1.0
    return leave, sign, slope


@njit(cache=True)
def _nearest_bound(lam: Array, d: Array, lower: Array, upper: Array, flat: float) -> tuple[int, float]:
    """Return the bound that is met first along d, as a member of the basis, and the step to it."""
    m = len(lam)
    bound, step = 0, np.inf
    for k in range(m):
        if d[k] < -flat and lower[k] > -np.inf:
            to = max(lam[k] - lower[k], 0.0) / -d[k]
            if to < step:
                bound, step = -1 - k, to
        elif d[k] > flat and upper[k] < np.inf:
            to = max(upper[k] - lam[k], 0.0) / d[k]
            if to < step:
                bound, step = -1 - m - k, to
    return bound, step


@njit(cache=True)
def _breakpoints(
    h: Array,
    a: Array,
    up: Flags,
    active: Flags,
    w: Array,
    limit: float,
    flat: float,
    at: Array,
    gain: Array,
    order: Index,
) -> int:
    """Write where samples change sides along an edge and by how much the slope rises; return their number."""
    size = 0
    for i in range(len(h)):
        change = a[i] if up[i] else -a[i]
        if change > flat and not active[i]:
            distance = h[i] if up[i] else -h[i]
            step = max(distance, 0.0) / change
            if step <= limit:
                at[size] = step
                gain[size] = w[i] * change
                order[size] = i
                size += 1
    return size


@njit(cache=True)
def _swap(i: int, j: int, at: Array, gain: Array, order: Index) -> None:
    at[i], at[j] = at[j], at[i]
    gain[i], gain[j] = gain[j], gain[i]
    order[i], order[j] = order[j], order[i]


@njit(cache=True)
def _crossing(at: Array, gain: Array, order: Index, size: int, slope: float) -> int:
    """Return the position of the breakpoint where the slope ceases to be negative, those passed before it.

    -1 if it stays negative. A weighted quickselect; of equal breakpoints the one with the largest gain comes
    first.
    """
    low, high = 0, size
    while low < high:
        _swap((low + high) // 2, high - 1, at, gain, order)
        here, weight = at[high - 1], gain[high - 1]
        before, total = low, 0.0
        for i in range(low, high - 1):
            if at[i] < here or (at[i] == here and gain[i] > weight):
                total += gain[i]
                _swap(i, before, at, gain, order)
                before += 1
        _swap(before, high - 1, at, gain, order)
        if slope + total >= 0.0:
            high = before
        elif slope + total + weight >= 0.0:
            return before
        else:
            slope += total + weight
            low = before + 1
    return high if high < size else -1


@njit(cache=True)
def _replace(inv: Array, leave: int, normal: Array) -> None:
    """Update the inverse for another normal in place of number `leave`."""
    m = len(normal)
    pivot = 0.0
    for k in range(m):
        pivot += normal[k] * inv[k, leave]
    for k in range(m):
        inv[k, leave] /= pivot
    for j in range(m):
        if j != leave:
            alpha = 0.0
            for k in range(m):
                alpha += normal[k] * inv[k, j]
            for k in range(m):
                inv[k, j] -= alpha * inv[k, leave]


@njit(cache=True)
def _add(g: Array, factor: float, A: Array, i: int) -> None:
    for k in range(len(g)):
        g[k] += factor * A[k, i]


@njit(cache=True)
def follow_edges(
    A: Array,
    s: Array,
    w: Array,
    lower: Array,
    upper: Array,
    g: Array,
    lam: Array,
    up: Flags,
    basis: Index,
    inv: Array,
    size: float,
    tol: float,
    max_pivots: int,
) -> tuple[int, int]:
    """Descend from vertex to vertex until D falls along no edge; return the status and the number of pivots.

    g, lam, up, basis and inv are changed. `size` is the largest entry of A; slopes above -tol count as none.
    """
    m, n = A.shape
    active = np.zeros(n, np.bool_)
    h, a, at, gain = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    order = np.empty(n, np.int64)
    d, normal = np.empty(m), np.empty(m)
    for pivots in range(max_pivots):
        if pivots % _REFRESH == 0:
            _times(lam, A, h)
            for i in range(n):
                h[i] = s[i] - h[i]
        leave, sign, slope = _steepest(g, inv, basis, w, tol)
        if leave < 0:
            return OPTIMAL, pivots
        largest = 0.0
        for k in range(m):
            d[k] = sign * inv[k, leave]
            largest = max(largest, abs(d[k]))
        bound, limit = _nearest_bound(lam, d, lower, upper, _FLAT * largest)
        _times(d, A, a)
        count = _breakpoints(h, a, up, active, w, limit, _FLAT * largest * size, at, gain, order)
        passed = _crossing(at, gain, order, count, slope)
        if passed >= 0:
            enter, step = order[passed], at[passed]
        elif limit < np.inf:
            enter, step, passed = bound, limit, count
        else:
            return UNBOUNDED, pivots

        for position in range(passed):
            i = order[position]
            _add(g, w[i] if up[i] else -w[i], A, i)
            up[i] = not up[i]
        left = basis[leave]
        if left >= 0:
            active[left] = False
            up[left] = sign < 0.0
            if up[left]:
                _add(g, -w[left], A, left)
        for i in range(n):
            h[i] -= step * a[i]
        for k in range(m):
            lam[k] += step * d[k]
            normal[k] = A[k, enter] if enter >= 0 else 0.0
        if enter >= 0:
            active[enter] = True
            if up[enter]:
                _add(g, w[enter], A, enter)
        else:
            k = (-1 - enter) % m
            lam[k] = lower[k] if enter >= -m else upper[k]
            normal[k] = 1.0
        _replace(inv, leave, normal)
        basis[leave] = enter
    return STOPPED, max_pivots
