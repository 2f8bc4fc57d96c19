"""Norm balls: L1, L2, L-infinity, Lp, k-sparse, and group-L1."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from mlpapers.core.validation import check_int, check_real
from mlpapers.optim.constraints._base import Array, ConstraintSet, positive
from mlpapers.optim.constraints._duals import bisect_root, project_box_l1, project_simplex

__all__ = ["GroupL1Ball", "KSparsePolytope", "L1Ball", "L2Ball", "LInfBall", "LpBall"]


class _Ball(ConstraintSet):
    """A ball around 0 of the norm that :meth:`_norm` measures."""

    radius: float

    def _norm(self, x: Array) -> Array:
        raise NotImplementedError

    def _violation(self, x: Array) -> Array:
        return np.maximum(self._norm(x) - self.radius, 0.0)

    def _gauge(self, x: Array) -> Array:
        return self._norm(x) / self.radius

    def _center(self, d: int) -> Array:
        return np.zeros(d)


class L1Ball(_Ball):
    """The ball `|x|_1 <= radius`; `lmo(g) = -r sign(g_k) e_k` with `k = argmax |g|`, the lowest in ties.

    Parameters
    ----------
    radius : float

    Examples
    --------
    >>> import numpy as np
    >>> L1Ball(2.0).lmo(np.array([1.0, -3.0, 3.0])).tolist()
    [0.0, 2.0, 0.0]
    """

    is_polytope = True

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = positive("radius", radius)

    def _norm(self, x: Array) -> Array:
        return np.abs(x).sum(axis=1)

    def _lmo(self, g: Array) -> Array:
        # The largest |g| is the largest or the smallest g: no array of absolute values is made.
        rows, top, low = np.arange(len(g)), g.argmax(axis=1), g.argmin(axis=1)
        above, below = g[rows, top], -g[rows, low]
        k = np.where(above == below, np.minimum(top, low), np.where(above > below, top, low))
        s = np.zeros(g.shape)
        s[rows, k] = np.where(g[rows, k] < 0.0, self.radius, -self.radius)
        return s

    def _vertex(self, g: Array) -> Array:
        top, low = int(g.argmax()), int(g.argmin())
        above, below = g[top], -g[low]
        k = min(top, low) if above == below else top if above > below else low
        s = np.zeros(len(g))
        s[k] = self.radius if g[k] < 0.0 else -self.radius
        return s

    def vertices_of(self, g: Array, k: int) -> Array:
        """Return the `k` best vertices for the costs `g`, best first.

        Parameters
        ----------
        g : ndarray of shape (d,)
        k : int

        Returns
        -------
        vertices : ndarray of shape (k, d)
        """
        k = check_int("k", k, minimum=1, maximum=2 * len(g))
        values = np.concatenate([-np.abs(g), np.abs(g)])
        best = np.argsort(values, kind="stable")[:k]
        vertices = np.zeros((k, len(g)))
        sign = np.where(g < 0.0, 1.0, -1.0)
        column = best % len(g)
        vertices[np.arange(k), column] = self.radius * sign[column] * np.where(best < len(g), 1.0, -1.0)
        return vertices

    def _project(self, x: Array) -> Array:
        inside = self._norm(x) <= self.radius
        shrunk = np.sign(x) * project_simplex(np.abs(x), self.radius)
        return np.where(inside[:, None], x, shrunk)

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return 2.0 * self.radius

    def _inradius(self, d: int) -> float:
        return self.radius / math.sqrt(d)


class L2Ball(_Ball):
    """The ball `|x|_2 <= radius`; `lmo(g) = -r g / |g|`, and `-r e_0` for g = 0.

    Parameters
    ----------
    radius : float
    """

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = positive("radius", radius)

    def _norm(self, x: Array) -> Array:
        return np.linalg.norm(x, axis=1)

    def _lmo(self, g: Array) -> Array:
        # Scaled by its largest entry first: the squares of a tiny g would underflow.
        top = np.abs(g).max(axis=1, keepdims=True)
        unit = np.divide(g, top, out=np.zeros_like(g), where=top > 0.0)
        unit[top[:, 0] == 0.0, 0] = 1.0
        return -self.radius * unit / np.linalg.norm(unit, axis=1, keepdims=True)

    def _project(self, x: Array) -> Array:
        norm = self._norm(x)[:, None]
        return np.where(norm > self.radius, x * (self.radius / np.maximum(norm, self.radius)), x)

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return 2.0 * self.radius

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return self.radius


class LInfBall(_Ball):
    """The ball `|x|_inf <= radius`; lmo(g) = -r where g > 0, and r elsewhere (g = 0 included).

    Parameters
    ----------
    radius : float
    """

    is_polytope = True

    def __init__(self, radius: float = 1.0) -> None:
        self.radius = positive("radius", radius)

    def _norm(self, x: Array) -> Array:
        return np.abs(x).max(axis=1)

    def _lmo(self, g: Array) -> Array:
        return np.where(g > 0.0, -self.radius, self.radius)

    def _project(self, x: Array) -> Array:
        return np.clip(x, -self.radius, self.radius)

    def _diameter(self, d: int) -> float:
        return 2.0 * self.radius * math.sqrt(d)

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return self.radius


class LpBall(_Ball):
    r"""The ball `|x|_p <= radius`, p >= 1.

    With q = p/(p-1),

    .. math:: \mathrm{lmo}(g) = -r \, \mathrm{sign}(g) |g|^{q-1} / \|g\|_q^{q-1}.

    p = 1, 2 and infinity are the sets of those names.

    Parameters
    ----------
    p : float
        At least 1; ``numpy.inf`` is allowed.
    radius : float
    """

    def __init__(self, p: float, radius: float = 1.0) -> None:
        if p != math.inf:
            p = check_real("p", p, low=1.0)
        self.p = p
        self.radius = positive("radius", radius)
        special: dict[float, type[Any]] = {1.0: L1Ball, 2.0: L2Ball, math.inf: LInfBall}
        self._same: _Ball | None = special[p](self.radius) if p in special else None
        self.is_polytope = p in (1.0, math.inf)

    def _norm(self, x: Array) -> Array:
        return np.linalg.norm(x, ord=self.p, axis=1)

    def _lmo(self, g: Array) -> Array:
        if self._same is not None:
            return self._same._lmo(g)
        q = self.p / (self.p - 1.0)
        top = np.abs(g).max(axis=1, keepdims=True)
        unit = np.divide(g, top, out=np.zeros_like(g), where=top > 0.0)
        unit[top[:, 0] == 0.0, 0] = 1.0
        norm = np.linalg.norm(unit, ord=q, axis=1, keepdims=True)
        return -self.radius * np.sign(unit) * (np.abs(unit) / norm) ** (q - 1.0)

    def _project(self, x: Array) -> Array:
        if self._same is not None:
            return self._same._project(x)
        size, p, r = np.abs(x), self.p, self.radius
        norm = self._norm(x)

        def shrunk(multiplier: Array) -> Array:
            """Roots of y + multiplier p y^(p-1) = size, which lie in [0, size]."""
            weight = multiplier[:, None] * p * np.ones_like(size)
            root = bisect_root(
                lambda y: size.ravel() - y - weight.ravel() * y ** (p - 1.0),
                np.zeros(size.size),
                size.ravel(),
            )
            return root.reshape(size.shape)

        # At this multiplier even the largest coordinate is down to its share of the radius.
        small = r * float(size.shape[1]) ** (-1.0 / p)
        ceiling = size.max(axis=1) / (p * small ** (p - 1.0))
        multiplier = bisect_root(lambda m: self._norm(shrunk(m)) - r, np.zeros(len(x)), ceiling)
        outside = np.sign(x) * shrunk(multiplier)
        return np.where((norm > r)[:, None], outside, x)

    def _diameter(self, d: int) -> float:
        return 2.0 * self.radius * d ** max(0.0, 0.5 - 1.0 / self.p)

    def _inradius(self, d: int) -> float:
        return self.radius * d ** min(0.0, 0.5 - 1.0 / self.p)


class KSparsePolytope(_Ball):
    """The set `|x|_1 <= k r, |x|_inf <= r`; `lmo(g) = -r sign(g)` on the k largest `|g|`.

    Parameters
    ----------
    k : int
    radius : float
        r.
    """

    is_polytope = True

    def __init__(self, k: int, radius: float = 1.0) -> None:
        self.k = check_int("k", k, minimum=1)
        self.radius = positive("radius", radius)

    def _check_dim(self, d: int) -> None:
        if self.k > d:
            raise ValueError(f"k must be at most the dimension {d}; got {self.k}")

    def _norm(self, x: Array) -> Array:
        size = np.abs(x)
        return np.maximum(size.sum(axis=1) / self.k, size.max(axis=1))

    def _lmo(self, g: Array) -> Array:
        chosen = np.argsort(-np.abs(g), axis=1, kind="stable")[:, : self.k]
        s = np.zeros_like(g)
        values = np.take_along_axis(g, chosen, axis=1)
        np.put_along_axis(s, chosen, np.where(values < 0.0, self.radius, -self.radius), axis=1)
        return s

    def _project(self, x: Array) -> Array:
        r = np.full(x.shape[1], self.radius)
        return project_box_l1(x, -r, r, self.k * self.radius)

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return 2.0 * self.radius * math.sqrt(self.k)

    def _inradius(self, d: int) -> float:
        return self.radius * min(1.0, self.k / math.sqrt(d))


class GroupL1Ball(_Ball):
    """The ball `sum of |x_G|_2 <= radius` over groups; `lmo(g) = -r g_G / |g_G|` for the largest `|g_G|`.

    Parameters
    ----------
    groups : sequence of sequences of int
        A partition of the coordinates 0..d-1.
    radius : float
    """

    def __init__(self, groups: Any, radius: float = 1.0) -> None:
        self.radius = positive("radius", radius)
        if not isinstance(groups, Iterable):
            raise TypeError(f"groups must be lists of coordinates, a partition of 0..d-1; got {groups!r}")
        members = [np.asarray(group) for group in groups]
        if not members or any(m.ndim != 1 or not m.size or m.dtype.kind not in "iu" for m in members):
            raise ValueError("groups must be non-empty lists of coordinates")
        joined = np.concatenate(members)
        if np.unique(joined).size != joined.size:
            raise ValueError("groups must not overlap: a coordinate stands in two of them")
        if joined.min() != 0 or joined.max() != joined.size - 1:
            raise ValueError(f"groups must cover the coordinates 0..{joined.size - 1}; they leave a hole")
        self.groups = [m.astype(np.int64) for m in members]
        self.dim = int(joined.size)
        self._label = np.empty(self.dim, dtype=np.int64)
        for number, group in enumerate(self.groups):
            self._label[group] = number

    def _norms(self, x: Array) -> Array:
        return np.stack([np.linalg.norm(x[:, group], axis=1) for group in self.groups], axis=1)

    def _norm(self, x: Array) -> Array:
        return self._norms(x).sum(axis=1)

    def _lmo(self, g: Array) -> Array:
        top = np.abs(g).max(axis=1, keepdims=True)
        unit = np.divide(g, top, out=np.zeros_like(g), where=top > 0.0)
        unit[top[:, 0] == 0.0, 0] = 1.0
        norms = self._norms(unit)
        best = norms.argmax(axis=1)
        chosen = self._label == best[:, None]
        return np.where(chosen, -self.radius * unit / norms.max(axis=1, keepdims=True), 0.0)

    def _project(self, x: Array) -> Array:
        norms = self._norms(x)
        shrunk = np.where(
            (norms.sum(axis=1) <= self.radius)[:, None], norms, project_simplex(norms, self.radius)
        )
        ratio = np.divide(shrunk, norms, out=np.zeros_like(norms), where=norms > 0.0)
        return x * ratio[:, self._label]

    def _diameter(self, d: int) -> float:  # noqa: ARG002
        return 2.0 * self.radius

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        return self.radius / math.sqrt(len(self.groups))
