"""Boxes, and boxes cut by an L2 or L1 ball."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlpapers.optim.constraints._base import Array, ConstraintSet, as_floats, positive
from mlpapers.optim.constraints._duals import bisect_root, project_box_l1, project_box_l2

__all__ = ["Box", "BoxL1", "BoxL2"]


def _bounds(lower: Any, upper: Any) -> tuple[Array, Array]:
    low, high = as_floats("lower", lower), as_floats("upper", upper)
    try:
        low, high = np.broadcast_arrays(np.atleast_1d(low), np.atleast_1d(high))
    except ValueError as error:
        raise ValueError(
            f"lower and upper must be vectors of one length; got {low.shape} and {high.shape}"
        ) from error
    if low.ndim != 1 or not low.size:
        raise ValueError(f"lower and upper must be vectors; got shape {low.shape}")
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("lower and upper must be finite")
    if (low > high).any():
        k = int(np.flatnonzero(low > high)[0])
        raise ValueError(f"lower must not exceed upper; coordinate {k} has [{low[k]}, {high[k]}]")
    return low.copy(), high.copy()


class Box(ConstraintSet):
    """{lower <= x <= upper}; lmo(g) = lower where g > 0, upper elsewhere.

    Parameters
    ----------
    lower, upper : array of shape (d,)
        Numbers stand for vectors of the other's length.
    """

    is_polytope = True

    def __init__(self, lower: Any, upper: Any) -> None:
        self.lower, self.upper = _bounds(lower, upper)
        self.dim = int(self.lower.size)

    def _lmo(self, g: Array) -> Array:
        return np.where(g > 0.0, self.lower, self.upper)

    def _violation(self, x: Array) -> Array:
        return np.maximum(np.maximum(self.lower - x, x - self.upper).max(axis=1), 0.0)

    def _project(self, x: Array) -> Array:
        return np.clip(x, self.lower, self.upper)

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return float(np.linalg.norm(self.upper - self.lower))

    def _center(self, d: int) -> Array:  # noqa: ARG002
        return 0.5 * (self.lower + self.upper)

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return 0.5 * float((self.upper - self.lower).min())


def _far_end(lower: Array, upper: Array) -> Array:
    """Return the end of each coordinate where one without a cost is put: upper, or lower if upper is 0."""
    return np.where(upper > 0.0, upper, lower)


class _CutBox(Box):
    """A box with 0 inside, cut by a ball of `radius` around 0."""

    def __init__(self, lower: Any, upper: Any, radius: float) -> None:
        super().__init__(lower, upper)
        if (self.lower > 0.0).any() or (self.upper < 0.0).any():
            raise ValueError("lower and upper must have 0 between them in every coordinate")
        self.radius = positive("radius", radius)

    def _size(self, x: Array) -> Array:
        raise NotImplementedError

    def _violation(self, x: Array) -> Array:
        return np.maximum(super()._violation(x), self._size(x) - self.radius)

    def _diameter(self, d: int) -> float:
        return min(2.0 * self.radius, super()._diameter(d))

    def _center(self, d: int) -> Array:
        middle = super()._center(d)
        size = float(self._size(middle[None])[0])
        return middle * min(1.0, 0.5 * self.radius / size) if size > 0.0 else middle

    def _inradius(self, d: int) -> float:
        center = self._center(d)
        room = float(min((center - self.lower).min(), (self.upper - center).min()))
        return min(room, self._ball_room(float(self._size(center[None])[0]), d))

    def _ball_room(self, size: float, d: int) -> float:
        raise NotImplementedError


class BoxL2(_CutBox):
    """The set `lower <= x <= upper, |x|_2 <= radius`, 0 in the box.

    lmo(g) = clip(-g / lam, lower, upper) with lam > 0 such that its norm is the radius; the corner of the box
    where that is short enough. :meth:`diameter` is the bound `min(2 r, |upper - lower|)`.

    Parameters
    ----------
    lower, upper : array of shape (d,)
    radius : float
    """

    is_polytope = False

    def _size(self, x: Array) -> Array:
        return np.linalg.norm(x, axis=1)

    def _lmo(self, g: Array) -> Array:
        top = np.abs(g).max(axis=1, keepdims=True)
        g = np.divide(g, top, out=np.zeros_like(g), where=top > 0.0)
        corner = np.where(g > 0.0, self.lower, np.where(g < 0.0, self.upper, 0.0))

        def point(log_step: Array) -> Array:
            return np.clip(-g * np.exp(log_step)[:, None], self.lower, self.upper)

        # Beyond the largest step every coordinate with g of at least 1e-30 stands at its end.
        ends = math.log(max(float(np.abs(corner).max()), self.radius, 1.0)) + 70.0
        low, high = np.full(len(g), -ends), np.full(len(g), ends)
        step = bisect_root(lambda t: self.radius - self._size(point(t)), low, high)
        fits = self._size(corner) <= self.radius
        # Without a cost a coordinate may be anywhere; at an extreme point it is at an end or spends the rest.
        room = np.where(fits, np.maximum(self.radius**2 - np.square(corner).sum(axis=1), 0.0), 0.0)
        length = np.where(g == 0.0, np.abs(_far_end(self.lower, self.upper)), 0.0)
        before = np.cumsum(length**2, axis=1) - length**2
        spent = np.minimum(length, np.sqrt(np.maximum(room[:, None] - before, 0.0)))
        filled = corner + spent * np.sign(_far_end(self.lower, self.upper))
        return np.where(fits[:, None], filled, point(step))

    def _project(self, x: Array) -> Array:
        return project_box_l2(x, self.lower, self.upper, self.radius)

    def _ball_room(self, size: float, d: int) -> float:  # noqa: ARG002
        return self.radius - size


class BoxL1(_CutBox):
    """The set `lower <= x <= upper, |x|_1 <= radius`, 0 in the box.

    lmo(g): in decreasing order of `|g|`, coordinates move to their end (upper if g < 0, lower if g > 0) until
    the radius is spent. :meth:`diameter` is the bound `min(2 r, |upper - lower|)`.

    Parameters
    ----------
    lower, upper : array of shape (d,)
    radius : float
    """

    def _size(self, x: Array) -> Array:
        return np.abs(x).sum(axis=1)

    def _lmo(self, g: Array) -> Array:
        idle = _far_end(self.lower, self.upper)
        target = np.where(g > 0.0, self.lower, np.where(g < 0.0, self.upper, idle))
        order = np.argsort(-np.abs(g), axis=1, kind="stable")
        length = np.take_along_axis(np.abs(target), order, axis=1)
        before = np.cumsum(length, axis=1) - length
        spent = np.clip(self.radius - before, 0.0, length)
        s = np.zeros_like(g)
        np.put_along_axis(s, order, spent * np.sign(np.take_along_axis(target, order, axis=1)), axis=1)
        return s

    def _project(self, x: Array) -> Array:
        return project_box_l1(x, self.lower, self.upper, self.radius)

    def _ball_room(self, size: float, d: int) -> float:
        return (self.radius - size) / math.sqrt(d)
