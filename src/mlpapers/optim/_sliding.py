"""The quadratic model over a set, minimised with linear minimisation oracles only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpapers.optim.constraints._base import ConstraintSet
from mlpapers.optim.constraints.balls import L1Ball, LInfBall
from mlpapers.optim.constraints.boxes import Box, _CutBox
from mlpapers.optim.constraints.combined import Product
from mlpapers.optim.constraints.simplices import Simplex

__all__ = ["LARGEST_MATRIX", "ProximalStep", "proximal_step", "takes_matrix"]

Array = NDArray[np.float64]

# LMO calls of one step over a set without structure, and turns of Wolfe's algorithm, most of which need none.
_MAX_INNER, _MAX_TURNS = 60, 600
_MAX_SWEEPS = 500
# Above, the eigenvectors of a step's matrix take longer than most objectives.
LARGEST_MATRIX = 256
_SCALAR = np.zeros((0, 0))


class ProximalStep(NamedTuple):
    """Where the model is least.

    Attributes
    ----------
    u : ndarray of shape (d,)
    n_lmo : int
        LMO calls used.
    gap : float
        The Frank-Wolfe gap <v, x - lmo(v)> of the linear model.
    corners : ndarray of shape (k, d)
        Points of C of which u is made, for the next step to begin with.
    """

    u: Array
    n_lmo: int
    gap: float
    corners: Array


def takes_matrix(constraint: ConstraintSet) -> bool:
    """Tell whether the model may have a matrix over this set: its vertices or edges must be coordinates."""
    return isinstance(constraint, L1Ball | Simplex) or _is_box(constraint)


def _is_box(constraint: ConstraintSet) -> bool:
    return isinstance(constraint, LInfBall | Box) and not isinstance(constraint, _CutBox)


def proximal_step(
    constraint: ConstraintSet,
    x: Array,
    v: Array,
    L: float | Array,
    *,
    tolerance: float,
    corners: Array | None = None,
) -> ProximalStep:
    r"""Minimise the quadratic model over the set.

    .. math:: u \approx \arg\min_{u \in C} \langle v, u \rangle + \tfrac{L}{2} |u - x|^2

    with linear minimisations only, until the model's gap is at most `tolerance` times that at x. On a box
    every coordinate is an interval of its own, with its own line search; over the vertices of an L1 ball or a
    simplex there are pairwise steps, whose end a sort finds where the coordinates are many; other sets have
    Wolfe's algorithm, from the `corners` of the last step on. With L = 0 the end is a vertex. Where
    :func:`takes_matrix` says so, L may be a positive definite matrix B, and the last term (u - x)'B(u - x)/2.
    """
    none = np.zeros((0, len(x)))
    s = constraint._lmo(v[None])[0]
    gap = max(float(v @ (x - s)), 0.0)
    if gap == 0.0:
        return ProximalStep(x.copy(), 1, 0.0, none)
    if isinstance(L, float) and L == 0.0:
        return ProximalStep(s, 1, gap, none)
    target = tolerance * gap
    if isinstance(constraint, L1Ball | Simplex):
        if isinstance(L, float) and len(x) > LARGEST_MATRIX:
            # As many pairwise steps as vertices at the worst, 2.6 s at d = 10,000; a sort takes 1 ms.
            return ProximalStep(constraint._project((x - v / L)[None])[0], 1, gap, none)
        B, scalar, most = (_SCALAR, L, 20) if isinstance(L, float) else (L, 0.0, 200)
        most = most * len(x) + 1000 if B.size else most * len(x) + 200
        signed = isinstance(constraint, L1Ball)
        u, used = _pairwise_simplex(x, v, scalar, B, constraint.radius, signed, target, most)
        return ProximalStep(u, used + 1, gap, none)
    if _is_box(constraint):
        if isinstance(L, float):
            return ProximalStep(_blockwise(x, v, L, s), 1, gap, none)
        lower, upper = constraint._lmo(np.ones((1, len(x))))[0], constraint._lmo(-np.ones((1, len(x))))[0]
        u, used = _coordinatewise(x, v, L, lower, upper, target, _MAX_SWEEPS)
        return ProximalStep(u, used + 1, gap, none)
    assert isinstance(L, float)
    if isinstance(constraint, Product):
        # The model separates over blocks: each has its own inner steps.
        ends = np.cumsum(constraint.sizes)[:-1]
        parts = [
            proximal_step(block, x_block, v_block, L, tolerance=tolerance)
            for block, x_block, v_block in zip(constraint.sets, np.split(x, ends), np.split(v, ends))
        ]
        return ProximalStep(
            np.concatenate([part.u for part in parts]), max(part.n_lmo for part in parts), gap, none
        )
    u, used, corners = _nearest(constraint, x, v, L, s, target, none if corners is None else corners)
    return ProximalStep(u, used, gap, corners)


def _blockwise(x: Array, v: Array, L: float, s: Array) -> Array:
    """Return x + gamma_k (s_k - x_k), each gamma_k by exact line search in [0, 1]."""
    along = s - x
    slope, curvature = -(v * along), L * along * along
    share = np.divide(slope, curvature, out=np.zeros_like(x), where=curvature > 0.0)
    return x + np.clip(share, 0.0, 1.0) * along


@njit(cache=True)
def _coordinatewise(
    x: Array, v: Array, B: Array, lower: Array, upper: Array, target: float, most: int
) -> tuple[Array, int]:
    """Line searches along the coordinates in turn, until the gap over the box is at most `target`."""
    d = len(x)
    u, grad = x.copy(), v.copy()
    used = 0
    while used < most:
        used += 1
        gap = 0.0
        for k in range(d):
            gap += grad[k] * (u[k] - (lower[k] if grad[k] > 0.0 else upper[k]))
        if gap <= target:
            break
        for k in range(d):
            by = min(max(u[k] - grad[k] / B[k, k], lower[k]), upper[k]) - u[k]
            u[k] += by
            grad += B[k] * by
    return np.minimum(np.maximum(u, lower), upper), used


@njit(cache=True)
def _pairwise_simplex(
    x: Array, v: Array, L: float, B: Array, r: float, signed: bool, target: float, most: int
) -> tuple[Array, int]:
    """Pairwise steps over the vertices r e_k (and -r e_k where `signed`), held as weights of a simplex.

    An empty B stands for L I.
    """
    d = len(x)
    up, down = np.zeros(d), np.zeros(d)
    for k in range(d):
        if x[k] > 0.0:
            up[k] = x[k]
        elif signed:
            down[k] = -x[k]
    if signed:
        # What the point leaves of the radius stands on both ends of every coordinate alike.
        rest = max(r - np.abs(x).sum(), 0.0) / (2 * d)
        up += rest
        down += rest
    u, grad = x.copy(), v.copy()
    used = 0
    while used < most:
        used += 1
        best, best_sign, least = 0, 1.0, np.inf
        worst, worst_sign, top = 0, 1.0, -np.inf
        dot = 0.0
        for k in range(d):
            g = grad[k]
            dot += g * u[k]
            if g < least:
                best, best_sign, least = k, 1.0, g
            if up[k] > 0.0 and g > top:
                worst, worst_sign, top = k, 1.0, g
            if signed:
                if -g < least:
                    best, best_sign, least = k, -1.0, -g
                if down[k] > 0.0 and -g > top:
                    worst, worst_sign, top = k, -1.0, -g
        if dot - r * least <= target:
            break
        if best == worst and best_sign == worst_sign:
            break
        weight = up[worst] if worst_sign > 0.0 else down[worst]
        if B.size > 0:
            bend = B[best, best] + B[worst, worst] - 2.0 * best_sign * worst_sign * B[best, worst]
        else:
            bend = L * (4.0 if best == worst else 2.0)
        move = min((top - least) / bend, weight)
        if not move > 0.0:
            break
        for k, sign, by in ((worst, worst_sign, -move), (best, best_sign, move)):
            if sign > 0.0:
                up[k] = max(up[k] + by, 0.0)
            else:
                down[k] = max(down[k] + by, 0.0)
            u[k] += sign * by
            if B.size > 0:
                grad += B[k] * (sign * by)
            else:
                grad[k] += L * sign * by
    return u, used


def _nearest(
    constraint: ConstraintSet, x: Array, v: Array, L: float, s: Array, target: float, corners: Array
) -> tuple[Array, int, Array]:
    """Wolfe's algorithm for the point of C nearest to y = x - v/L; return it, LMO calls, and its corners.

    The hull of a few points, x and later corners, has u in its interior. A corner on the near side of u
    enters; u moves towards the nearest point of their affine hull, and what would get a negative weight on
    the way leaves. Unlike steps along edges this ends in finitely many on a polytope, also where x lies
    inside a face. Corners known from before are asked before the oracle.
    """
    hull, weights = x[None], np.ones(1)
    known = np.vstack([corners, s])
    u, used = x, 1
    for _ in range(_MAX_TURNS):
        grad = v + L * (u - x)
        s = known[int((known @ grad).argmin())]
        if float(grad @ (u - s)) <= target and used < _MAX_INNER:
            s = constraint._lmo(grad[None])[0]
            used += 1
            known = np.vstack([known, s])
        if float(grad @ (u - s)) <= target:
            break
        hull, weights = _towards_nearest(np.vstack([hull, s]), np.append(weights, 0.0), x - v / L)
        step = weights @ hull - u
        # Rounding ends what in exact arithmetic goes on: the model must fall.
        if not float(grad @ step) + 0.5 * L * float(step @ step) < 0.0:
            break
        u = u + step
    return u, used, hull[(hull != x).any(axis=1)]


def _towards_nearest(hull: Array, weights: Array, y: Array) -> tuple[Array, Array]:
    """Return the part of the hull, and the weights in it, of the point where Wolfe's inner steps end."""
    while True:
        last = np.linalg.lstsq((hull[1:] - hull[0]).T, y - hull[0], rcond=None)[0]
        aim = np.concatenate([[1.0 - last.sum()], last])
        out = np.flatnonzero(aim <= 0.0)
        if not out.size:
            return hull, aim
        shares = weights[out] / np.maximum(weights[out] - aim[out], np.finfo(float).tiny)
        weights = weights + shares.min() * (aim - weights)
        weights[out[shares.argmin()]] = 0.0
        kept = weights > 0.0
        hull, weights = hull[kept], weights[kept] / weights[kept].sum()
