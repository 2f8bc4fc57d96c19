"""Nearest points of polytopes without a one-dimensional dual: hulls, doubly stochastic matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim.constraints._base import Array

__all__ = ["nearest_doubly_stochastic", "nearest_in_hull"]

# Newton steps and halvings; both problems end after finitely many, mostly a dozen.
_MAX_NEWTON = 200
_HALVINGS = 40


def nearest_in_hull(points: Array, x: Array) -> Array:
    r"""Return the point of the hull of `points` that is nearest to x, by Wolfe's method [1]_.

    .. math:: \min_w |P^\top w - x|^2, \quad w \ge 0, \ \sum w = 1

    A corral of affinely independent points is kept whose nearest affine mixture has positive weights; the
    point that is farthest below the supporting plane enters, those whose weight would turn negative leave.
    The distance falls with every corral, so that the method ends.

    Parameters
    ----------
    points : ndarray of shape (m, d)
    x : ndarray of shape (d,)

    Returns
    -------
    nearest : ndarray of shape (d,)

    References
    ----------
    .. [1] Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 11, 1976.
    """
    P = points - x
    # Rounding of the products, not of their difference, decides what can be told apart.
    tolerance = 1e-13 * float((P * P).sum(axis=1).max(initial=0.0))
    corral = np.array([int((P * P).sum(axis=1).argmin())])
    w = np.ones(1)
    y = P[corral[0]]
    for _ in range(20 * (len(P) + P.shape[1]) + 100):
        heights = P @ y
        entering = int(heights.argmin())
        if heights[entering] >= float(y @ y) - tolerance or entering in corral:
            break
        corral, w = np.append(corral, entering), np.append(w, 0.0)
        while True:
            affine = _affine_weights(P[corral])
            if (affine > 0.0).all():
                w = affine
                break
            # Walk towards the affine mixture until the first weight is gone.
            falling = affine <= 0.0
            share = float(np.min(w[falling] / np.maximum(w[falling] - affine[falling], 1e-300)))
            w = (1.0 - share) * w + share * affine
            kept = w > 1e-15
            kept[np.flatnonzero(falling)[np.argmin(w[falling])]] = False
            corral, w = corral[kept], w[kept] / w[kept].sum()
        y = w @ P[corral]
    return w @ points[corral]


def _affine_weights(Q: Array) -> Array:
    """Return the weights of sum 1, of any sign, whose mixture of the rows of Q is nearest to 0."""
    if len(Q) == 1:
        return np.ones(1)
    # Q0 + sum v_j (Q_j - Q_0): least squares in the differences, which does not square the condition number.
    v = np.linalg.lstsq((Q[1:] - Q[0]).T, -Q[0], rcond=None)[0]
    return np.concatenate([[1.0 - v.sum()], v])


def nearest_doubly_stochastic(Y: Array) -> Array:
    r"""Return the doubly stochastic matrix nearest to Y, by semismooth Newton steps on the dual.

    .. math:: X = \max(Y + a 1^\top + 1 b^\top, 0), \qquad
              (a, b) \in \arg\min \tfrac{1}{2} |\max(Y + a 1^\top + 1 b^\top, 0)|^2 - 1^\top a - 1^\top b

    Parameters
    ----------
    Y : ndarray of shape (m, m)

    Returns
    -------
    X : ndarray of shape (m, m)
    """
    m = len(Y)
    multipliers = np.concatenate([1.0 / m - Y.mean(axis=1), np.zeros(m)])

    def mixed(z: Array) -> Array:
        return np.maximum(Y + z[:m, None] + z[None, m:], 0.0)

    def value(z: Array) -> float:
        X = mixed(z)
        return 0.5 * float((X * X).sum()) - float(z.sum())

    scale = 1.0 + float(np.abs(Y).max())
    for _ in range(_MAX_NEWTON):
        X = mixed(multipliers)
        slope = np.concatenate([X.sum(axis=1), X.sum(axis=0)]) - 1.0
        if float(np.abs(slope).max()) <= 1e-14 * m * scale:
            break
        active: NDArray[np.float64] = (X > 0.0).astype(np.float64)
        H = np.block([[np.diag(active.sum(axis=1)), active], [active.T, np.diag(active.sum(axis=0))]])
        # a + c, b - c is the same X for every c: the damping chooses among them.
        damping = 1e-10 + min(1e-3, float(np.linalg.norm(slope)))
        step = np.linalg.solve(H + damping * np.eye(2 * m), -slope)
        now, falling, length = value(multipliers), float(slope @ step), 1.0
        for _ in range(_HALVINGS):
            if value(multipliers + length * step) <= now + 1e-4 * length * falling + 1e-15 * abs(now):
                break
            length *= 0.5
        multipliers = multipliers + length * step
    return mixed(multipliers)
