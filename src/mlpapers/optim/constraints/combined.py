"""Sets made of others: products, scaled and shifted copies, and hulls of given points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import linprog
from scipy.spatial.distance import pdist

from mlpapers.core.validation import check_int, check_real
from mlpapers.optim.constraints._base import Array, ConstraintSet, as_floats
from mlpapers.optim.constraints._nearest import nearest_in_hull

__all__ = ["Hull", "Product", "Scaled", "Shifted"]


def _check_set(name: str, value: Any) -> ConstraintSet:
    if not isinstance(value, ConstraintSet):
        raise TypeError(f"{name} must be a ConstraintSet; got {type(value).__name__}")
    return value


class Product(ConstraintSet):
    """The product of sets, each on its own block of consecutive coordinates.

    Parameters
    ----------
    sets : sequence of ConstraintSet
    sizes : sequence of int
        Coordinates of each block.
    """

    def __init__(self, sets: Sequence[ConstraintSet], sizes: Sequence[int]) -> None:
        for name, value in (("sets", sets), ("sizes", sizes)):
            if not isinstance(value, Iterable):
                raise TypeError(f"{name} must be a sequence; got {type(value).__name__}")
        self.sets = [_check_set("sets", item) for item in sets]
        self.sizes = [check_int("sizes", size, minimum=1) for size in sizes]
        if not self.sets or len(self.sets) != len(self.sizes):
            raise ValueError(
                f"sizes must have one entry per set; got {len(self.sizes)} for {len(self.sets)} sets"
            )
        for item, size in zip(self.sets, self.sizes):
            item._dimension(size)
        self.dim = sum(self.sizes)
        self.is_polytope = all(item.is_polytope for item in self.sets)

    def _blocks(self, x: Array) -> list[Array]:
        return np.split(x, np.cumsum(self.sizes)[:-1], axis=1)

    def _lmo(self, g: Array) -> Array:
        return np.hstack([item._lmo(block) for item, block in zip(self.sets, self._blocks(g))])

    def _project(self, x: Array) -> Array:
        return np.hstack([item._project(block) for item, block in zip(self.sets, self._blocks(x))])

    def _violation(self, x: Array) -> Array:
        parts = [item._violation(block) for item, block in zip(self.sets, self._blocks(x))]
        return np.max(parts, axis=0)

    def _gauge(self, x: Array) -> Array:
        parts = [item._gauge(block) for item, block in zip(self.sets, self._blocks(x))]
        return np.max(parts, axis=0)

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return math.sqrt(sum(item._diameter(size) ** 2 for item, size in zip(self.sets, self.sizes)))

    def _center(self, d: int) -> Array:  # noqa: ARG002
        return np.concatenate([item._center(size) for item, size in zip(self.sets, self.sizes)])

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return min(item._inradius(size) for item, size in zip(self.sets, self.sizes))


class Scaled(ConstraintSet):
    """{a x : x in C}; lmo(g) = a lmo_C(a g).

    Parameters
    ----------
    base : ConstraintSet
        C.
    scale : float
        a, not 0.
    """

    def __init__(self, base: ConstraintSet, scale: float) -> None:
        self.base = _check_set("base", base)
        self.scale = check_real("scale", scale)
        if self.scale == 0.0:
            raise ValueError("scale must not be 0")
        self.dim, self.shape, self.is_polytope = base.dim, base.shape, base.is_polytope

    def _check_dim(self, d: int) -> None:
        self.base._check_dim(d)

    def _lmo(self, g: Array) -> Array:
        return self.scale * self.base._lmo(self.scale * g)

    def _project(self, x: Array) -> Array:
        return self.scale * self.base._project(x / self.scale)

    def _violation(self, x: Array) -> Array:
        return abs(self.scale) * self.base._violation(x / self.scale)

    def _gauge(self, x: Array) -> Array:
        return self.base._gauge(x / self.scale)

    def _diameter(self, d: int) -> float:
        return abs(self.scale) * self.base._diameter(d)

    def _center(self, d: int) -> Array:
        return self.scale * self.base._center(d)

    def _inradius(self, d: int) -> float:
        return abs(self.scale) * self.base._inradius(d)

    def tangent_basis(self, dim: int | None = None) -> tuple[Array, float]:
        """Return the base's tangent directions, with its radius scaled.

        Parameters
        ----------
        dim : int, optional
            Number of coordinates.

        Returns
        -------
        basis : ndarray
        radius : float
        """
        basis, radius = self.base.tangent_basis(dim)
        return basis, abs(self.scale) * radius


class Shifted(ConstraintSet):
    """{x + c : x in C}; lmo(g) = lmo_C(g) + c.

    Parameters
    ----------
    base : ConstraintSet
        C.
    shift : array of shape (d,)
        c.
    """

    def __init__(self, base: ConstraintSet, shift: Any) -> None:
        self.base = _check_set("base", base)
        self.shift = as_floats("shift", shift).ravel()
        if not self.shift.size or not np.isfinite(self.shift).all():
            raise ValueError("shift must be a finite vector")
        base._dimension(self.shift.size)
        self.dim, self.shape, self.is_polytope = int(self.shift.size), base.shape, base.is_polytope

    def _lmo(self, g: Array) -> Array:
        return self.base._lmo(g) + self.shift

    def _project(self, x: Array) -> Array:
        return self.base._project(x - self.shift) + self.shift

    def _violation(self, x: Array) -> Array:
        return self.base._violation(x - self.shift)

    def _diameter(self, d: int) -> float:
        return self.base._diameter(d)

    def _center(self, d: int) -> Array:
        return self.base._center(d) + self.shift

    def _inradius(self, d: int) -> float:
        return self.base._inradius(d)

    def tangent_basis(self, dim: int | None = None) -> tuple[Array, float]:
        """Return the base's tangent directions and radius.

        Parameters
        ----------
        dim : int, optional
            Number of coordinates.

        Returns
        -------
        basis : ndarray
        radius : float
        """
        return self.base.tangent_basis(dim)


class Hull(ConstraintSet):
    """The convex hull of given points; lmo(g) is the point of least <g, s>, the first in ties.

    Parameters
    ----------
    points : array of shape (m, d)
    """

    is_polytope = True

    def __init__(self, points: Any) -> None:
        self.points = as_floats("points", points)
        if self.points.ndim != 2 or not self.points.size:
            raise ValueError(f"points must have shape (m, d); got {self.points.shape}")
        if not np.isfinite(self.points).all():
            raise ValueError("points must be finite")
        self.dim = int(self.points.shape[1])

    def _lmo(self, g: Array) -> Array:
        return self.points[(g @ self.points.T).argmin(axis=1)]

    def _project(self, x: Array) -> Array:
        return np.stack([nearest_in_hull(self.points, row) for row in x])

    def _violation(self, x: Array) -> Array:
        return np.array([self._distance(row) for row in x])

    def _distance(self, x: Array) -> float:
        """Largest coordinate of x - (nearest mixture), by a linear program over the mixture's weights."""
        m, d = self.points.shape
        cost = np.append(np.zeros(m), 1.0)
        one = np.ones((d, 1))
        above = np.hstack([self.points.T, -one])
        below = np.hstack([-self.points.T, -one])
        answer = linprog(
            cost,
            A_ub=np.vstack([above, below]),
            b_ub=np.concatenate([x, -x]),
            A_eq=np.append(np.ones(m), 0.0)[None],
            b_eq=[1.0],
        )
        return float(max(answer.fun, 0.0))

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return float(pdist(self.points).max()) if len(self.points) > 1 else 0.0

    def _center(self, d: int) -> Array:  # noqa: ARG002
        return self.points.mean(axis=0)

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return 0.0
