"""Interior point for linear programs with few rows and box variables: O(iterations * n * rows^2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgetrf, dgetrs

from mlpapers.fairness._interior_kernels import (
    accumulate,
    correct,
    move,
    predict,
    predicted_slackness,
    step_of,
)

__all__ = ["Directions", "InteriorPoint", "interior_point", "signed_directions"]

Array = NDArray[np.float64]
# Steps end this far before the boundary.
_STEP = 0.9995
_REGULARISATION = 1e-13
_MAX_STALLED = 5


class Directions(NamedTuple):
    """The columns of A up to sign and repetition: A^T = S^T Z, with one +1 or -1 in each column of S."""

    Z: Array  # (q, n)
    S: Array  # (q, Kc)


class InteriorPoint(NamedTuple):
    """Where the method stopped."""

    f: Array
    multipliers: Array
    free: Array
    n_iter: int
    error: float  # gap or infeasibility per sample, the larger
    converged: bool


def signed_directions(A: Array) -> Directions:
    """Find columns of A that repeat another one or are its negative.

    Two-sided constraints come as such pairs: half the directions means a quarter of the work.
    """
    n_rows = A.shape[1]
    signs = np.zeros((n_rows, n_rows))
    kept: list[int] = []
    # Sums over a few fixed weights tell most columns apart before they are compared in full.
    probe = np.cos(np.arange(len(A)))
    marks = np.abs(A.T @ probe)
    for k in range(n_rows):
        for position, other in enumerate(kept):
            if abs(marks[k] - marks[other]) <= 1e-9 * (1.0 + marks[other]):
                if np.array_equal(A[:, k], A[:, other]):
                    signs[position, k] = 1.0
                    break
                if np.array_equal(A[:, k], -A[:, other]):
                    signs[position, k] = -1.0
                    break
        else:
            signs[len(kept), k] = 1.0
            kept.append(k)
    return Directions(np.ascontiguousarray(A[:, kept].T), signs[: len(kept)])


def interior_point(
    c: Array, directions: Directions, b: Array, C: Array, *, tol: float, max_iter: int
) -> InteriorPoint:
    """Maximise c.f subject to B^T f + C u <= b and 0 <= f <= 1, with B given by `directions`.

    Mehrotra's predictor-corrector with slack sig, multipliers lam of the rows and (up, lo) of the box; the
    Newton system is reduced to the rows. Data are scaled so that a sample contributes O(1): duality gap and
    infeasibility are measured per sample.

    Parameters
    ----------
    c : ndarray of shape (n,)
    directions : Directions of B (n, Kc)
    b : ndarray of shape (Kc,)
    C : ndarray of shape (Kc, p)
    tol : float
        Stop when gap and infeasibility per sample are below.
    max_iter : int
    """
    Z, S = directions
    n, n_rows, n_free = len(c), len(b), C.shape[1]

    f, g = np.full(n, 0.5), np.full(n, 0.5)
    d_f, t_up, t_lo = np.empty(n), np.empty(n), np.empty(n)
    lam = np.full(n_rows, 0.1)
    slack = b - (Z @ f) @ S
    # Free scalars in the middle of what they separate: a row that starts at its bound stops all steps.
    free: Array = np.linalg.lstsq(C, slack)[0].astype(np.float64) if n_free else np.zeros(0)
    sig = np.maximum(np.abs(slack - C @ free), 0.01 * n)
    reduced = c - (S @ lam) @ Z
    up = np.maximum(reduced, 0.0) + 0.1
    lo = up - reduced

    # S^T M S without the products: each row has one direction and a sign.
    direction = np.abs(S).argmax(axis=0)
    sign = S[direction, np.arange(n_rows)]
    pairs, signs = np.ix_(direction, direction), np.outer(sign, sign)

    best, error, stalled, n_iter, converged = np.inf, np.inf, 0, 0, False
    while n_iter < max_iter:
        n_iter += 1
        state = (f, g, up, lo)
        at = S @ lam
        schur, right, selected, slackness, rd = accumulate(c, Z, at, *state)
        rp = b - selected @ S - C @ free - sig
        rz = -C.T @ lam
        slackness += float(lam @ sig)
        error = max(slackness, float(np.abs(rp).max(initial=0.0)), rd) / n
        if error < tol:
            converged = True
            break
        stalled = stalled + 1 if error > 0.9 * best else 0
        best = min(best, error)
        if stalled >= _MAX_STALLED:
            break
        system = _Factorised(_newton_system(schur[pairs] * signs, sig / lam, C))

        # Predictor: complementarity targets 0.
        d_lam, _ = system.solve(right @ S - sig - rp, rz)
        d_sig = -sig * (1.0 + d_lam / lam)
        steepest = predict(c, Z, S @ (lam + d_lam), *state, d_f)
        primal = _length(steepest[0], sig, d_sig)
        dual = _length(steepest[1], lam, d_lam)
        after = predicted_slackness(*state, d_f, primal, dual)
        after += float((lam + dual * d_lam) @ (sig + primal * d_sig))
        target = slackness / (2 * n + n_rows) * (after / slackness) ** 3

        # Corrector: the second-order terms of the predictor, with dg = -df.
        t_s = target - lam * sig - d_lam * d_sig
        right = correct(c, Z, at, *state, d_f, target, t_up, t_lo)
        d_lam, d_free = system.solve(right @ S + t_s / lam - rp, rz)
        d_sig = (t_s - sig * d_lam) / lam
        steepest = step_of(c, Z, S @ (lam + d_lam), *state, t_up, t_lo, d_f)
        primal = min(1.0, _STEP * _length(steepest[0], sig, d_sig))
        dual = min(1.0, _STEP * _length(steepest[1], lam, d_lam))
        if not np.isfinite(primal + dual) or max(primal, dual) < 1e-12:
            break
        move(*state, t_up, t_lo, d_f, primal, dual)
        sig = sig + primal * d_sig
        free = free + primal * d_free
        lam = lam + dual * d_lam
    return InteriorPoint(f, lam, free, n_iter, error, converged)


def _newton_system(schur: Array, diagonal: Array, C: Array) -> Array:
    n_rows, n_free = C.shape
    system = np.zeros((n_rows + n_free, n_rows + n_free))
    system[:n_rows, :n_rows] = schur
    system[:n_rows, n_rows:] = -C
    system[n_rows:, :n_rows] = C.T
    across = np.arange(n_rows)
    system[across, across] += diagonal
    system[across, across] += _REGULARISATION * np.abs(system[across, across]).max(initial=1.0)
    return system


class _Factorised:
    """A Newton system, factorised once for the predictor and the corrector."""

    def __init__(self, system: Array) -> None:
        self._system = system
        self._lu, self._pivots, info = dgetrf(system)
        self._singular = info > 0

    def solve(self, right: Array, rz: Array) -> tuple[Array, Array]:
        """Return the steps of the rows' multipliers and of the free scalars."""
        both = np.concatenate([right, rz])
        if self._singular:
            step = np.linalg.lstsq(self._system, both)[0]
        else:
            step = dgetrs(self._lu, self._pivots, both)[0]
        return step[: len(right)], step[len(right) :]


def _length(steepest: float, value: Array, change: Array) -> float:
    """Return the largest step in (0, 1/_STEP] that keeps all values non-negative."""
    steepest = max(steepest, float(np.max(-change / value, initial=0.0)))
    return 1.0 / max(steepest, _STEP)
