"""Simplices: the probability simplex and its capped form."""

from __future__ import annotations

import math

import numpy as np

from mlpapers.core.validation import check_int
from mlpapers.optim.constraints._base import Array, ConstraintSet, positive
from mlpapers.optim.constraints._duals import project_capped_simplex, project_simplex

__all__ = ["CappedSimplex", "Simplex", "zero_sum_basis"]


def zero_sum_basis(d: int) -> Array:
    """Return the Helmert basis of the vectors with sum 0: orthonormal columns, shape (d, d - 1)."""
    if d < 2:
        raise ValueError(f"dim must be at least 2 for tangent directions; got {d}")
    k = np.arange(1, d)
    basis = np.triu(np.ones((d, d - 1)))
    basis[k, k - 1] = -k
    return basis / np.sqrt(k * (k + 1.0))


class Simplex(ConstraintSet):
    """{x >= 0, sum x = radius}; lmo(g) = r e_k with k = argmin g, the lowest k in ties.

    Parameters
    ----------
    radius : float
    """

    is_polytope = True

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = positive("radius", radius)

    def _lmo(self, g: Array) -> Array:
        s = np.zeros_like(g)
        s[np.arange(len(g)), g.argmin(axis=1)] = self.radius
        return s

    def _violation(self, x: Array) -> Array:
        return np.maximum(np.abs(x.sum(axis=1) - self.radius), np.maximum(-x.min(axis=1), 0.0))

    def _project(self, x: Array) -> Array:
        return project_simplex(x, self.radius)

    def _diameter(self, d: int) -> float:
        return self.radius * math.sqrt(2.0) if d > 1 else 0.0

    def _center(self, d: int) -> Array:
        return np.full(d, self.radius / d)

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return 0.0

    def tangent_basis(self, dim: int | None = None) -> tuple[Array, float]:
        """Return the zero-sum directions and the radius r / sqrt(d (d - 1)).

        Parameters
        ----------
        dim : int, optional
            Number of coordinates.

        Returns
        -------
        basis : ndarray of shape (d, d - 1)
        radius : float
        """
        d = self._dimension(dim)
        return zero_sum_basis(d), self.radius / math.sqrt(d * (d - 1))


class CappedSimplex(ConstraintSet):
    """{0 <= x <= 1, sum x = k}; lmo(g) = ones on the k smallest g.

    Parameters
    ----------
    k : int
    """

    is_polytope = True

    def __init__(self, k: int) -> None:
        self.k = check_int("k", k, minimum=1)

    def _check_dim(self, d: int) -> None:
        if self.k > d:
            raise ValueError(f"k must be at most the dimension {d}; got {self.k}")

    def _lmo(self, g: Array) -> Array:
        s = np.zeros_like(g)
        np.put_along_axis(s, np.argsort(g, axis=1, kind="stable")[:, : self.k], 1.0, axis=1)
        return s

    def _violation(self, x: Array) -> Array:
        outside = np.maximum(np.maximum(-x.min(axis=1), x.max(axis=1) - 1.0), 0.0)
        return np.maximum(np.abs(x.sum(axis=1) - self.k), outside)

    def _project(self, x: Array) -> Array:
        return project_capped_simplex(x, float(self.k))

    def _diameter(self, d: int) -> float:
        return math.sqrt(2.0 * min(self.k, d - self.k))

    def _center(self, d: int) -> Array:
        return np.full(d, self.k / d)

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return 0.0

    def tangent_basis(self, dim: int | None = None) -> tuple[Array, float]:
        """Return the zero-sum directions and the radius in them.

        Parameters
        ----------
        dim : int, optional
            Number of coordinates.

        Returns
        -------
        basis : ndarray of shape (d, d - 1)
        radius : float
        """
        d = self._dimension(dim)
        share = self.k / d
        return zero_sum_basis(d), min(share, 1.0 - share) / math.sqrt((d - 1) / d)
