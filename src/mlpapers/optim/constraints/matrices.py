"""Sets of matrices, flattened row by row: nuclear-norm ball, spectrahedron, Birkhoff polytope."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import linalg
from scipy.optimize import linear_sum_assignment
from scipy.sparse.linalg import svds

from mlpapers.core.validation import check_int
from mlpapers.optim.constraints._base import Array, ConstraintSet, positive
from mlpapers.optim.constraints._duals import project_simplex
from mlpapers.optim.constraints._nearest import nearest_doubly_stochastic
from mlpapers.optim.constraints.simplices import zero_sum_basis

__all__ = ["Birkhoff", "NuclearNormBall", "Spectrahedron"]

# Up to this many rows and columns a dense decomposition beats an iterative one.
_DENSE = 200


class NuclearNormBall(ConstraintSet):
    """{X : sum of singular values <= radius}; lmo(G) = -r u v' for the top singular pair of G.

    Parameters
    ----------
    shape : (int, int)
    radius : float
    """

    def __init__(self, shape: Any, radius: float = 1.0) -> None:
        if not isinstance(shape, tuple | list) or len(shape) != 2:
            raise ValueError(f"shape must be a pair of integers; got {shape!r}")
        p, q = (check_int("shape", side, minimum=1) for side in shape)
        self.shape = (p, q)
        self.dim = p * q
        self.radius = positive("radius", radius)

    def _matrices(self, x: Array) -> Array:
        return x.reshape(-1, *(self.shape or ()))

    def _lmo(self, g: Array) -> Array:
        corners = [self._corner(G).reshape(1, -1) for G in self._matrices(g)]
        return corners[0] if len(corners) == 1 else np.concatenate(corners)

    def _corner(self, G: Array) -> Array:
        top = float(np.abs(G).max())
        if top == 0.0:
            G, top = np.zeros_like(G), 1.0
            G[0, 0] = 1.0
        if not 1e-100 < top < 1e100:
            G = G / top
        if min(G.shape) > _DENSE:
            # The start vector is fixed, so that the same matrix always gives the same corner.
            start = np.random.default_rng(0).normal(size=min(G.shape))
            u, _, vt = svds(G, k=1, v0=start)
        else:
            u, _, vt = linalg.svd(G, full_matrices=False)
        return np.outer(-self.radius * u[:, 0], vt[0])

    def _singular(self, x: Array) -> Array:
        return np.stack([linalg.svdvals(X) for X in self._matrices(x)])

    def _violation(self, x: Array) -> Array:
        return np.maximum(self._singular(x).sum(axis=1) - self.radius, 0.0)

    def _gauge(self, x: Array) -> Array:
        return self._singular(x).sum(axis=1) / self.radius

    def _project(self, x: Array) -> Array:
        out = []
        for row, X in zip(x, self._matrices(x)):
            u, sigma, vt = linalg.svd(X, full_matrices=False)
            inside = sigma.sum() <= self.radius
            out.append(row if inside else ((u * project_simplex(sigma[None], self.radius)) @ vt).ravel())
        return np.stack(out)

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return 2.0 * self.radius

    def _center(self, d: int) -> Array:
        return np.zeros(d)

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return self.radius / math.sqrt(min(self.shape or (1, 1)))


class Spectrahedron(ConstraintSet):
    """{X positive semidefinite, trace X = radius}; lmo(G) = r u u' for the least eigenvalue of (G + G')/2.

    Parameters
    ----------
    size : int
        Rows of X.
    radius : float
    """

    def __init__(self, size: int, radius: float = 1.0) -> None:
        self.size = check_int("size", size, minimum=1)
        self.shape = (self.size, self.size)
        self.dim = self.size**2
        self.radius = positive("radius", radius)

    def _matrices(self, x: Array) -> Array:
        X = x.reshape(-1, self.size, self.size)
        return 0.5 * (X + X.transpose(0, 2, 1))

    def _lmo(self, g: Array) -> Array:
        corners = []
        for G in self._matrices(g):
            u = linalg.eigh(G, subset_by_index=[0, 0])[1][:, 0]
            corners.append(self.radius * np.outer(u, u).ravel())
        return np.stack(corners)

    def _violation(self, x: Array) -> Array:
        X = x.reshape(-1, self.size, self.size)
        skew = np.abs(X - X.transpose(0, 2, 1)).max(axis=(1, 2))
        least = np.array([linalg.eigvalsh(Y, subset_by_index=[0, 0])[0] for Y in self._matrices(x)])
        trace = np.abs(np.trace(X, axis1=1, axis2=2) - self.radius)
        return np.maximum(np.maximum(skew, trace), np.maximum(-least, 0.0))

    def _project(self, x: Array) -> Array:
        out = []
        for X in self._matrices(x):
            values, vectors = linalg.eigh(X)
            out.append(((vectors * project_simplex(values[None], self.radius)) @ vectors.T).ravel())
        return np.stack(out)

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return self.radius * math.sqrt(2.0) if self.size > 1 else 0.0

    def _center(self, d: int) -> Array:  # noqa: ARG002
        return (np.eye(self.size) * (self.radius / self.size)).ravel()

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return 0.0

    def tangent_basis(self, dim: int | None = None) -> tuple[Array, float]:
        """Return the symmetric directions of trace 0, and the radius r / sqrt(m (m - 1)) for m rows.

        Parameters
        ----------
        dim : int, optional
            Number of coordinates, m^2.

        Returns
        -------
        basis : ndarray of shape (m^2, m (m + 1)/2 - 1)
        radius : float
        """
        self._dimension(dim)
        m = self.size
        columns = [np.diag(column).ravel() for column in zero_sum_basis(m).T]
        for i in range(m):
            for j in range(i):
                pair = np.zeros((m, m))
                pair[i, j] = pair[j, i] = math.sqrt(0.5)
                columns.append(pair.ravel())
        return np.stack(columns, axis=1), self.radius / math.sqrt(m * (m - 1))


class Birkhoff(ConstraintSet):
    """{X >= 0, rows and columns sum to 1}; lmo(G) is the permutation of least cost (Hungarian method).

    Parameters
    ----------
    size : int
        Rows of X.
    """

    is_polytope = True

    def __init__(self, size: int) -> None:
        self.size = check_int("size", size, minimum=1)
        self.shape = (self.size, self.size)
        self.dim = self.size**2

    def _lmo(self, g: Array) -> Array:
        s = np.zeros((len(g), self.size, self.size))
        for number, G in enumerate(g.reshape(s.shape)):
            rows, columns = linear_sum_assignment(G)
            s[number, rows, columns] = 1.0
        return s.reshape(len(g), -1)

    def _violation(self, x: Array) -> Array:
        X = x.reshape(-1, self.size, self.size)
        sums = np.maximum(np.abs(X.sum(axis=1) - 1.0).max(axis=1), np.abs(X.sum(axis=2) - 1.0).max(axis=1))
        return np.maximum(sums, np.maximum(-x.min(axis=1), 0.0))

    def _project(self, x: Array) -> Array:
        X = x.reshape(-1, self.size, self.size)
        return np.stack([nearest_doubly_stochastic(Y).ravel() for Y in X])

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return math.sqrt(2.0 * self.size) if self.size > 1 else 0.0

    def _center(self, d: int) -> Array:
        return np.full(d, 1.0 / self.size)

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return 0.0

    def tangent_basis(self, dim: int | None = None) -> tuple[Array, float]:
        """Return the directions whose rows and columns sum to 0, and the radius 1 / (m - 1) for m rows.

        Parameters
        ----------
        dim : int, optional
            Number of coordinates, m^2.

        Returns
        -------
        basis : ndarray of shape (m^2, (m - 1)^2)
        radius : float
        """
        self._dimension(dim)
        side = zero_sum_basis(self.size)
        basis: Array = np.kron(side, side).astype(np.float64)
        return basis, 1.0 / (self.size - 1)
