"""One-dimensional dual problems behind the projections: each has one multiplier, found on a monotone line."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mlpapers.optim.constraints._base import Array

__all__ = ["bisect_root", "project_box_l1", "project_box_l2", "project_capped_simplex", "project_simplex"]


def project_simplex(x: Array, radius: float) -> Array:
    """Return the projection of each row on {y >= 0, sum y = radius}, by sorting."""
    d = x.shape[1]
    ordered = -np.sort(-x, axis=1)
    excess = (np.cumsum(ordered, axis=1) - radius) / np.arange(1, d + 1)
    count = (ordered > excess).sum(axis=1)
    threshold = excess[np.arange(len(x)), count - 1]
    return np.maximum(x - threshold[:, None], 0.0)


def bisect_root(function: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Return, for each row, a root of a non-increasing function between `low` and `high`."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if np.all((middle <= low) | (middle >= high)):
            break
        above = function(middle) > 0.0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return high


def project_capped_simplex(x: Array, k: float, cap: float = 1.0) -> Array:
    """Return the projection of each row on {0 <= y <= cap, sum y = k}."""
    low, high = x.min(axis=1) - cap, x.max(axis=1)

    def shifted(t: Array) -> Array:
        return np.clip(x - t[:, None], 0.0, cap)

    y = shifted(bisect_root(lambda t: shifted(t).sum(axis=1) - k, low, high))
    # The multiplier is known to the last bit of t only; the free coordinates take up the remainder.
    free = (y > 0.0) & (y < cap)
    gap = (k - y.sum(axis=1)) / np.maximum(free.sum(axis=1), 1)
    return np.clip(y + free * gap[:, None], 0.0, cap)


def project_box_l1(x: Array, lower: Array, upper: Array, radius: float) -> Array:
    """Return the projection of each row on {lower <= y <= upper, |y|_1 <= radius}, lower <= 0 <= upper."""

    def shrunk(t: Array) -> Array:
        return np.clip(np.sign(x) * np.maximum(np.abs(x) - t[:, None], 0.0), lower, upper)

    zero = np.zeros(len(x))
    outside = np.abs(shrunk(zero)).sum(axis=1) > radius
    t = bisect_root(lambda t: np.abs(shrunk(t)).sum(axis=1) - radius, zero, np.abs(x).max(axis=1))
    return shrunk(np.where(outside, t, 0.0))


def project_box_l2(x: Array, lower: Array, upper: Array, radius: float) -> Array:
    """Return the projection of each row on {lower <= y <= upper, |y|_2 <= radius}, lower <= 0 <= upper."""

    def scaled(share: Array) -> Array:
        return np.clip(x * (1.0 - share)[:, None], lower, upper)

    zero = np.zeros(len(x))
    outside = np.linalg.norm(scaled(zero), axis=1) > radius
    share = bisect_root(lambda t: np.linalg.norm(scaled(t), axis=1) - radius, zero, np.ones(len(x)))
    return scaled(np.where(outside, share, 0.0))
