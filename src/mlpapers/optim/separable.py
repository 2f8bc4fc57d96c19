"""Sums of separable functions: quadratics, and what has the same shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._directions import Block, CoordinateBlock
from mlpapers.optim._points import Point
from mlpapers.optim.finite_sum import FiniteSum

if TYPE_CHECKING:
    from mlpapers.optim._lean import LeanSum, ScaledPoint

__all__ = ["QuadraticFiniteSum", "SeparableFiniteSum"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class SeparableFiniteSum(FiniteSum):
    r"""f_i(x) = sum_k H_ik psi(x_k - b_ik); a coordinate query costs O(1).

    Subclasses define :meth:`term` (psi) and :meth:`term_slope`.

    Parameters
    ----------
    H : array of shape (n, d)
    b : array of shape (n, d)
    """

    _follows = True

    def __init__(self, H: Any, b: Any) -> None:
        self.H, self.b = (np.ascontiguousarray(part, dtype=np.float64) for part in (H, b))
        if self.H.ndim != 2 or self.H.shape != self.b.shape:
            raise ValueError(f"H and b must have one shape (n, d); got {self.H.shape} and {self.b.shape}")
        if not (np.isfinite(self.H).all() and np.isfinite(self.b).all()):
            raise ValueError("H and b must be finite")
        self.H_columns, self.b_columns = (np.ascontiguousarray(part.T) for part in (self.H, self.b))
        n, d = self.H.shape
        super().__init__(self._pair_values, n, d, dtype=np.float64, grad=self._gradients)

    def term(self, r: Array) -> Array:
        """Return psi(r)."""
        raise NotImplementedError

    def term_slope(self, r: Array) -> Array:
        """Return psi'(r)."""
        raise NotImplementedError

    def _pair_values(self, X: Array, idx: Ints) -> Array:
        return (self.H[idx] * self.term(X - self.b[idx])).sum(axis=1)

    def _gradients(self, X: Array, idx: Ints) -> Array:
        return self.H[idx] * self.term_slope(X - self.b[idx])

    def _point(self, x: Array, chunk_size: int, n_jobs: int | None = None) -> Point:
        return _SeparablePoint(self, x, chunk_size, n_jobs)

    def _lean(self, point: ScaledPoint) -> LeanSum:
        return _LeanSeparable(self, point)


class QuadraticFiniteSum(SeparableFiniteSum):
    r"""Separable quadratics.

    .. math:: f_i(x) = \tfrac{1}{2} \sum_k H_{ik} (x_k - b_{ik})^2

    Parameters
    ----------
    H : array of shape (n, d)
        Curvatures.
    b : array of shape (n, d)
        Minimisers.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.optim import L2Ball, QuadraticFiniteSum, minimize_fw_zo
    >>> fun = QuadraticFiniteSum(np.ones((4, 2)), [[0.5, 0.0], [0.0, 0.3], [0.5, 0.0], [0.0, 0.3]])
    >>> unit = L2Ball(1.0)
    >>> result = minimize_fw_zo(fun, [0.0, 0.0], unit, method="auto", max_queries=4000, random_state=0)
    >>> result.x.round(4).tolist()
    [0.25, 0.15]
    """

    def term(self, r: Array) -> Array:
        """Return r^2 / 2.

        Parameters
        ----------
        r : ndarray

        Returns
        -------
        value : ndarray
        """
        return 0.5 * r * r

    def term_slope(self, r: Array) -> Array:
        """Return r.

        Parameters
        ----------
        r : ndarray

        Returns
        -------
        slope : ndarray
        """
        return r


class _SeparablePoint(Point):
    """Differences of one term; what the other terms add cancels."""

    fun: SeparableFiniteSum

    def _pairs(self, idx: Ints, block: Block, step: float, base: Array | None) -> Array:
        if not isinstance(block, CoordinateBlock):
            return super()._pairs(idx, block, step, base)
        fun, k = self.fun, block.k
        return self._difference(fun.H[idx, k], self.x[k] - fun.b[idx, k], step, central=base is None)

    def table(self, block: Block, rows: Ints, step: float, base: Array | None) -> Array:
        if not isinstance(block, CoordinateBlock):
            return super().table(block, rows, step, base)
        fun, k = self.fun, block.k
        H, b = fun.H_columns[k], fun.b_columns[k]
        if len(rows) < fun.n_functions:
            H, b = H[:, rows], b[:, rows]
        return self._difference(H, self.x[k][:, None] - b, step, central=base is None)

    def _difference(self, H: Array, r: Array, step: float, *, central: bool) -> Array:
        term = self.fun.term
        return H * (term(r + step) - term(r - step if central else r))


class _LeanSeparable:
    """One term changes in a difference; the point knows its coordinate."""

    def __init__(self, fun: SeparableFiniteSum, point: ScaledPoint) -> None:
        self.fun, self.point = fun, point

    def follow(self, factor: float) -> None:
        """Nothing is held."""

    def differences(self, idx: Ints, k: Ints, mu: float, *, old: bool) -> Array:
        fun = self.fun
        r = self.point.at(k, old=old) - fun.b[idx, k]
        return fun.H[idx, k] * (fun.term(r + mu) - fun.term(r))

    def mean_difference(self, k: int, rows: Ints, mu: float) -> float:
        fun = self.fun
        r = self.point.at(np.array([k]), old=False)[0] - fun.b_columns[k][rows]
        return float(np.mean(fun.H_columns[k][rows] * (fun.term(r + mu) - fun.term(r))))
