r"""Compiled loops over the logistic loss: margins and slopes go in, differences and their moments come out.

.. math:: \phi(t) = \log(1 + e^{-t}) = \log(1 + e^{-|t|}) - \min(t, 0), \qquad t = m y

Exponential and logarithm are polynomials, which the compiler evaluates for several numbers at once. With
:math:`-|t| = k \log 2 + r` and :math:`|r| \le \log(2)/2`,

.. math:: e^{-|t|} = 2^k (1 + r + r^2 P(r)), \qquad
          \log(1 + e) = 2 s (1 + s^2 Q(s^2)), \quad s = \frac{e}{2 + e} \in (0, 1/3].

P and Q interpolate in Chebyshev nodes; either replaces its series up to 2e-17 of the result.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "column_moments",
    "logistic",
    "midway",
    "pair_changes",
    "pair_differences",
    "replace_margins",
    "sparse_moments",
]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_P0, _P1, _P2, _P3, _P4 = (
    0.5000000000000001,
    0.16666666666666669,
    0.04166666666662413,
    0.008333333333330062,
    0.0013888888917213717,
)
_P5, _P6, _P7, _P8, _P9 = (
    0.00019841269863053618,
    2.4801521295954376e-05,
    2.7557268459997064e-06,
    2.7620088445409746e-07,
    2.510038549551032e-08,
)
_Q0, _Q1, _Q2, _Q3, _Q4 = (
    0.3333333333333333,
    0.20000000000007292,
    0.1428571428355438,
    0.11111111358713932,
    0.09090894718066429,
)
_Q5, _Q6, _Q7, _Q8, _Q9 = (
    0.07692785032479312,
    0.06657072104827468,
    0.06000536404795356,
    0.04400369243072337,
    0.08082022805971766,
)
_LOG2_E = 1.4426950408889634
# log(2) in two parts: the first has so few bits that its multiples by k are exact.
_LOG2_HIGH, _LOG2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# 3 * 2^51: a number added to it is rounded to an integer, which then stands in its last bits.
_ROUND = 6755399441055744.0
# Beyond it e^-t would be a subnormal number.
_FARTHEST = 708.0
# Numbers handled together: their buffers stay in the first level of the cache.
_BLOCK = 512
# A product may be fused with a sum, but nothing be reordered: the rounding above depends on the order.
_FUSED = {"contract"}


@njit(inline="always", fastmath=_FUSED)
def _phi(t: float) -> float:
    far = -min(abs(t), _FARTHEST)
    z = far * _LOG2_E + _ROUND
    k = z - _ROUND
    r = (far - k * _LOG2_HIGH) - k * _LOG2_LOW
    p = _P8 + r * _P9
    p = _P7 + r * p
    p = _P6 + r * p
    p = _P5 + r * p
    p = _P4 + r * p
    p = _P3 + r * p
    p = _P2 + r * p
    p = _P1 + r * p
    p = _P0 + r * p
    p = 1.0 + (r + r * r * p)
    # The bits of 2^k: k + 1023 in the place of the exponent.
    e = p * np.int64((np.float64(z).view(np.int64) + 1023) << 52).view(np.float64)
    s = e / (2.0 + e)
    w = s * s
    q = _Q8 + w * _Q9
    q = _Q7 + w * q
    q = _Q6 + w * q
    q = _Q5 + w * q
    q = _Q4 + w * q
    q = _Q3 + w * q
    q = _Q2 + w * q
    q = _Q1 + w * q
    q = _Q0 + w * q
    return 2.0 * (s + s * w * q) - min(t, 0.0)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def _replace(t: Array) -> None:
    """Put phi(t) in the place of t."""
    for i in range(len(t)):
        t[i] = _phi(t[i])


def logistic(m: Array, y: Array) -> Array:
    """Return log(1 + exp(-m y)), elementwise.

    Parameters
    ----------
    m, y : ndarrays of shapes that broadcast

    Returns
    -------
    values : ndarray
    """
    t = np.asarray(np.multiply(m, y, order="C"), dtype=np.float64)
    _replace(t.reshape(-1))
    return t


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def replace_margins(m: Array, y: Array, out: Array) -> None:
    """Put phi(m y) in `out`.

    Parameters
    ----------
    m, y, out : ndarray of shape (n,)
    """
    for i in range(len(out)):
        out[i] = m[i] * y[i]
    _replace(out)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def pair_differences(margins: Array, y: Array, idx: Ints, a: Array, step: float, base: Array) -> Array:
    """Return phi((m_i + step a_j) y_i) - base_j for the pairs j of a function i = idx_j and a slope a_j.

    Parameters
    ----------
    margins, y : ndarray of shape (n,)
    idx : ndarray of shape (m,)
    a : ndarray of shape (m,)
    step : float
    base : ndarray of shape (m,)

    Returns
    -------
    differences : ndarray of shape (m,)
    """
    out = np.empty(len(idx))
    for j in range(len(idx)):
        i = idx[j]
        out[j] = (margins[i] + step * a[j]) * y[i]
    _replace(out)
    for j in range(len(idx)):
        out[j] -= base[j]
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def pair_changes(
    margins: Array,
    margins_old: Array,
    y: Array,
    idx: Ints,
    a: Array,
    step: float,
    values: Array,
    known: Bools,
    values_old: Array,
    known_old: Bools,
) -> tuple[Array, Array, int, int]:
    """Return (phi((m_i + step a_j) y_i) - phi(m_i y_i)) / step, and how much it exceeds that at old margins.

    Parameters
    ----------
    margins, margins_old, y : ndarray of shape (n,)
    idx : ndarray of shape (r,)
        Functions; each has len(a) / r slopes, one after another.
    a : ndarray of shape (m,)
    step : float
    values, values_old : ndarray of shape (n,)
        phi(m_i y_i) where known; those that are needed are filled in.
    known, known_old : ndarray of bool of shape (n,)

    Returns
    -------
    differences, changes : ndarray of shape (m,)
    asked, asked_old : int
        Values filled in.
    """
    new, change = np.empty(len(a)), np.empty(len(a))
    each = len(a) // max(len(idx), 1)
    asked = _fill(margins, y, idx, values, known)
    asked_old = _fill(margins_old, y, idx, values_old, known_old)
    for r in range(len(idx)):
        i = idx[r]
        for j in range(r * each, (r + 1) * each):
            new[j] = (margins[i] + step * a[j]) * y[i]
            change[j] = (margins_old[i] + step * a[j]) * y[i]
    _replace(new)
    _replace(change)
    for r in range(len(idx)):
        for j in range(r * each, (r + 1) * each):
            here = (new[j] - values[idx[r]]) / step
            change[j] = here - (change[j] - values_old[idx[r]]) / step
            new[j] = here
    return new, change, asked, asked_old


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def _fill(m: Array, y: Array, idx: Ints, values: Array, known: Bools) -> int:
    wanted, out = np.empty(len(idx), np.int64), np.empty(len(idx))
    count = 0
    for i in idx:
        if not known[i]:
            known[i] = True
            wanted[count], out[count] = i, m[i] * y[i]
            count += 1
    _replace(out[:count])
    for j in range(count):
        values[wanted[j]] = out[j]
    return count


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def midway(m: Array, m_old: Array, y: Array, idx: Ints) -> Array:
    """Return phi((m_i + m_old_i) y_i / 2).

    Parameters
    ----------
    m, m_old, y : ndarray of shape (n,)
    idx : ndarray of shape (r,)

    Returns
    -------
    values : ndarray of shape (r,)
    """
    out = np.empty(len(idx))
    for j in range(len(idx)):
        i = idx[j]
        out[j] = (0.5 * m[i] + 0.5 * m_old[i]) * y[i]
    _replace(out)
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def _shift(t: Array, m: Array, a: Array, y: Array, step: float) -> None:
    for i in range(len(t)):
        t[i] = (m[i] + step * a[i]) * y[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _sums(values: Array, base: Array, times: Array) -> tuple[float, float]:
    total, square = 0.0, 0.0
    for i in range(len(values)):
        change = values[i] - base[i]
        total += times[i] * change
        square += times[i] * (change * change)
    return total, square


@njit(cache=True, nogil=True, error_model="numpy")
def column_moments(
    entries: Array, row: int, column: int, k: Ints, rows: Ints, m: Array, y: Array, base: Array, step: float
) -> tuple[Array, Array]:
    """Return mean and mean square of the differences along each coordinate, for a dense A.

    Parameters
    ----------
    entries : ndarray
        A, flat: entry (i, k) is number ``i * row + k * column``.
    row, column : int
    k : ndarray of shape (l,)
    rows : ndarray of shape (m,) or (0,)
        Functions; none stands for all in order, for which `row` must be 1.
    m, y, base : ndarray of shape (m,)
        Margins, targets and values of the functions.
    step : float

    Returns
    -------
    means, squares : ndarray of shape (l,)
    """
    n = len(m)
    means, squares = np.empty(len(k)), np.empty(len(k))
    buffer, drawn, once = np.empty(_BLOCK), np.empty(_BLOCK), np.ones(_BLOCK)
    for j in range(len(k)):
        begin = k[j] * column
        total, square = 0.0, 0.0
        for start in range(0, n, _BLOCK):
            end = min(start + _BLOCK, n)
            part = buffer[: end - start]
            if len(rows):
                a = drawn[: end - start]
                for i in range(end - start):
                    a[i] = entries[rows[start + i] * row + begin]
            else:
                a = entries[begin + start : begin + end]
            _shift(part, m[start:end], a, y[start:end], step)
            _replace(part)
            more, squared = _sums(part, base[start:end], once)
            total += more
            square += squared
        means[j], squares[j] = total / n, square / n
    return means, squares


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FUSED)
def sparse_moments(
    indptr: Ints,
    indices: Ints,
    entries: Array,
    k: Ints,
    times: Array,
    margins: Array,
    y: Array,
    base: Array,
    step: float,
) -> tuple[Array, Array]:
    """Return mean and mean square of the differences along each coordinate, for A held by columns.

    Parameters
    ----------
    indptr, indices, entries : ndarray
        A in CSC.
    k : ndarray of shape (l,)
    times : ndarray of shape (n,)
        How often each function was drawn.
    margins, y, base : ndarray of shape (n,)
        Of `base` only those of drawn functions are read.
    step : float

    Returns
    -------
    means, squares : ndarray of shape (l,)
    """
    size = times.sum()
    means, squares = np.empty(len(k)), np.empty(len(k))
    buffer, known, often = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for j in range(len(k)):
        total, square, filled = 0.0, 0.0, 0
        end = indptr[k[j] + 1]
        for p in range(indptr[k[j]], end):
            i = indices[p]
            if times[i] > 0.0:
                buffer[filled] = (margins[i] + step * entries[p]) * y[i]
                known[filled], often[filled] = base[i], times[i]
                filled += 1
            if filled == _BLOCK or p == end - 1:
                part = buffer[:filled]
                _replace(part)
                more, squared = _sums(part, known[:filled], often[:filled])
                total += more
                square += squared
                filled = 0
        means[j], squares[j] = total / size, square / size
    return means, squares
