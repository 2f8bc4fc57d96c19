"""Passes over the samples that a step of the interior point needs, in blocks that stay in the cache.

Throughout, Z (q, n) holds the directions of the rows, `lam` one signed multiplier per direction, f and
g = 1 - f (kept apart for its digits near 1) the primal values, up and lo the multipliers of their bounds, and

    d = 1 / (up / g + lo / f)

the diagonal that Newton's equations are divided by. Blocks are slices, whose indices start at 0: only then do
the loops over them vectorise.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["accumulate", "correct", "move", "predict", "predicted_slackness", "step_of"]

Array = NDArray[np.float64]
_BLOCK = 2048
# Sums may be reordered (so that they vectorise); infinities and NaN keep their meaning.
_SUMS = {"reassoc", "contract", "arcp", "nsz"}


@njit(cache=True, fastmath=_SUMS)
def _reduce(c: Array, Z: Array, lam: Array, start: int, stop: int, out: Array) -> None:
    """Write the reduced scores c - lam Z of a block."""
    out[: stop - start] = c[start:stop]
    for k in range(len(Z)):
        row, weight = Z[k, start:stop], lam[k]
        for i in range(len(row)):
            out[i] -= row[i] * weight


@njit(cache=True, fastmath=_SUMS)
def _dot(a: Array, row: Array) -> float:
    total = 0.0
    for i in range(len(row)):
        total += a[i] * row[i]
    return total


@njit(cache=True, fastmath=_SUMS)
def _weigh(f: Array, g: Array, up: Array, lo: Array, reduced: Array, inv_d: Array) -> tuple[float, float]:
    """Write 1 / d and divide the reduced scores by d; return slackness and dual infeasibility."""
    slackness = infeasible = 0.0
    for i in range(len(f)):
        inv_d[i] = f[i] * g[i] / (up[i] * f[i] + lo[i] * g[i])
        slackness += up[i] * g[i] + lo[i] * f[i]
        infeasible += abs(reduced[i] - up[i] + lo[i])
        reduced[i] *= inv_d[i]
    return slackness, infeasible


@njit(cache=True, fastmath=_SUMS)
def accumulate(
    c: Array, Z: Array, lam: Array, f: Array, g: Array, up: Array, lo: Array
) -> tuple[Array, Array, Array, float, float]:
    """Return sum d z z^T (q, q), sum d (c - lam z) z (q,), sum f z (q,), slackness and dual infeasibility."""
    q, n = Z.shape
    schur, right, selected = np.zeros((q, q)), np.zeros(q), np.zeros(q)
    slackness = infeasible = 0.0
    reduced, inv_d, scaled = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        _reduce(c, Z, lam, start, stop, reduced)
        parts = _weigh(f[start:stop], g[start:stop], up[start:stop], lo[start:stop], reduced, inv_d)
        slackness += parts[0]
        infeasible += parts[1]
        for k in range(q):
            row = Z[k, start:stop]
            right[k] += _dot(reduced, row)
            selected[k] += _dot(f[start:stop], row)
            for i in range(len(row)):
                scaled[i] = inv_d[i] * row[i]
            for j in range(k + 1):
                schur[k, j] += _dot(scaled, Z[j, start:stop])
    for k in range(q):
        for j in range(k):
            schur[j, k] = schur[k, j]
    return schur, right, selected, slackness, infeasible


@njit(cache=True, fastmath=True)
def _predict_block(
    f: Array, g: Array, up: Array, lo: Array, reduced: Array, d_f: Array
) -> tuple[float, float]:
    lowest = highest = 0.0
    primal = 0.0
    for i in range(len(f)):
        step = reduced[i] * f[i] * g[i] / (up[i] * f[i] + lo[i] * g[i])
        d_f[i] = step
        down, rise = step / f[i], step / g[i]
        primal = max(primal, rise, -down)
        # d_up / up = step / g - 1, d_lo / lo = -(step / f + 1)
        lowest = min(lowest, rise)
        highest = max(highest, down)
    return primal, 1.0 + max(highest, -lowest)


@njit(cache=True)
def predict(
    c: Array, Z: Array, lam: Array, f: Array, g: Array, up: Array, lo: Array, d_f: Array
) -> tuple[float, float]:
    """Write the predictor's step of f, and return the steepest relative decrease of primal and dual values.

    `lam` are the multipliers after the step.
    """
    n = Z.shape[1]
    primal = dual = 0.0
    reduced = np.empty(_BLOCK)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        _reduce(c, Z, lam, start, stop, reduced)
        part = _predict_block(
            f[start:stop], g[start:stop], up[start:stop], lo[start:stop], reduced, d_f[start:stop]
        )
        primal, dual = max(primal, part[0]), max(dual, part[1])
    return primal, dual


@njit(cache=True, fastmath=_SUMS)
def predicted_slackness(
    f: Array, g: Array, up: Array, lo: Array, d_f: Array, primal: float, dual: float
) -> float:
    """Return the slackness after the predictor's step."""
    total = 0.0
    for i in range(len(f)):
        d_up = up[i] * (d_f[i] / g[i] - 1.0)
        d_lo = -lo[i] * (d_f[i] / f[i] + 1.0)
        total += (up[i] + dual * d_up) * (g[i] - primal * d_f[i])
        total += (lo[i] + dual * d_lo) * (f[i] + primal * d_f[i])
    return total


@njit(cache=True, fastmath=_SUMS)
def _correct_block(
    f: Array,
    g: Array,
    up: Array,
    lo: Array,
    d_f: Array,
    target: float,
    t_up: Array,
    t_lo: Array,
    rho: Array,
) -> None:
    for i in range(len(f)):
        d_up = up[i] * (d_f[i] / g[i] - 1.0)
        d_lo = -lo[i] * (d_f[i] / f[i] + 1.0)
        t_up[i] = target - up[i] * g[i] + d_up * d_f[i]
        t_lo[i] = target - lo[i] * f[i] - d_lo * d_f[i]
        rho[i] += lo[i] - up[i] - t_up[i] / g[i] + t_lo[i] / f[i]
        rho[i] *= f[i] * g[i] / (up[i] * f[i] + lo[i] * g[i])


@njit(cache=True)
def correct(
    c: Array,
    Z: Array,
    lam: Array,
    f: Array,
    g: Array,
    up: Array,
    lo: Array,
    d_f: Array,
    target: float,
    t_up: Array,
    t_lo: Array,
) -> Array:
    """Write the corrector's complementarity targets and return sum d rho z (q,) for them."""
    q, n = Z.shape
    right = np.zeros(q)
    rho = np.empty(_BLOCK)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        _reduce(c, Z, lam, start, stop, rho)
        _correct_block(
            f[start:stop],
            g[start:stop],
            up[start:stop],
            lo[start:stop],
            d_f[start:stop],
            target,
            t_up[start:stop],
            t_lo[start:stop],
            rho,
        )
        for k in range(q):
            right[k] += _dot(rho, Z[k, start:stop])
    return right


@njit(cache=True, fastmath=True)
def _step_block(
    f: Array, g: Array, up: Array, lo: Array, t_up: Array, t_lo: Array, rho: Array, d_f: Array
) -> tuple[float, float]:
    primal = dual = 0.0
    for i in range(len(f)):
        r = rho[i] + lo[i] - up[i] - t_up[i] / g[i] + t_lo[i] / f[i]
        step = r * f[i] * g[i] / (up[i] * f[i] + lo[i] * g[i])
        d_f[i] = step
        primal = max(primal, -step / f[i], step / g[i])
        # d_up / up and d_lo / lo
        dual = max(dual, -(t_up[i] / up[i] + step) / g[i], -(t_lo[i] / lo[i] - step) / f[i])
    return primal, dual


@njit(cache=True)
def step_of(
    c: Array,
    Z: Array,
    lam: Array,
    f: Array,
    g: Array,
    up: Array,
    lo: Array,
    t_up: Array,
    t_lo: Array,
    d_f: Array,
) -> tuple[float, float]:
    """Write the corrector's step of f, return the steepest relative decreases; `lam` is after the step."""
    n = Z.shape[1]
    primal = dual = 0.0
    rho = np.empty(_BLOCK)
    for start in range(0, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        _reduce(c, Z, lam, start, stop, rho)
        part = _step_block(
            f[start:stop],
            g[start:stop],
            up[start:stop],
            lo[start:stop],
            t_up[start:stop],
            t_lo[start:stop],
            rho,
            d_f[start:stop],
        )
        primal, dual = max(primal, part[0]), max(dual, part[1])
    return primal, dual


@njit(cache=True, fastmath=_SUMS)
def move(
    f: Array,
    g: Array,
    up: Array,
    lo: Array,
    t_up: Array,
    t_lo: Array,
    d_f: Array,
    primal: float,
    dual: float,
) -> None:
    """Take the step, in place."""
    for i in range(len(f)):
        d_up = (t_up[i] + up[i] * d_f[i]) / g[i]
        d_lo = (t_lo[i] - lo[i] * d_f[i]) / f[i]
        f[i] += primal * d_f[i]
        g[i] -= primal * d_f[i]
        up[i] += dual * d_up
        lo[i] += dual * d_lo
