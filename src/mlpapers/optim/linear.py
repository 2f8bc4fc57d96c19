"""LinearFiniteSum: losses of linear models, whose coordinate differences cost O(1) per query."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from mlpapers.core.validation import check_choice
from mlpapers.optim._linear_points import LeanLinear, LinearPoint
from mlpapers.optim._logistic import logistic
from mlpapers.optim.finite_sum import FiniteSum

if TYPE_CHECKING:
    from mlpapers.optim._lean import LeanSum, ScaledPoint
    from mlpapers.optim._points import Point

__all__ = ["LOSSES", "LinearFiniteSum", "Loss"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


class Loss:
    """A loss of (margin, y) with its derivative in the margin, and a bound on its second derivative.

    `compiled` tells that it is the logistic loss, for whose differences there are compiled loops.
    """

    def __init__(
        self,
        value: Callable[[Array, Array], Array],
        slope: Callable[[Array, Array], Array] | None = None,
        curvature: float | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        self.value, self.slope, self.curvature = value, slope, curvature
        self.compiled = compiled


def _logistic_slope(m: Array, y: Array) -> Array:
    from scipy.special import expit

    return -y * expit(-m * y)


def _smooth_hinge(m: Array, y: Array) -> Array:
    t = m * y
    return np.where(t >= 1.0, 0.0, np.where(t <= 0.0, 0.5 - t, 0.5 * np.square(1.0 - t)))


def _huber(m: Array, y: Array) -> Array:
    r = np.abs(m - y)
    return np.where(r <= 1.0, 0.5 * r * r, r - 0.5)


def welsch(sigma: float) -> Loss:
    """Return the correntropy loss s^2/2 (1 - exp(-(m - y)^2 / s^2))."""
    s2 = sigma * sigma
    return Loss(
        lambda m, y: -0.5 * s2 * np.expm1(-np.square(m - y) / s2),
        lambda m, y: (m - y) * np.exp(-np.square(m - y) / s2),
        1.0,
    )


LOSSES = {
    "logistic": Loss(logistic, _logistic_slope, 0.25, compiled=True),
    "squared": Loss(lambda m, y: 0.5 * np.square(m - y), lambda m, y: m - y, 1.0),
    "welsch": welsch(1.0),
    "huber": Loss(_huber, lambda m, y: np.clip(m - y, -1.0, 1.0), 1.0),
    "smooth_hinge": Loss(_smooth_hinge, lambda m, y: -y * np.clip(1.0 - m * y, 0.0, 1.0), 1.0),
}


# Losses whose targets are signs.
_SIGNS = ("logistic", "smooth_hinge")


class LinearFiniteSum(FiniteSum):
    r"""Losses of a linear model.

    .. math:: f_i(x) = \phi(\langle a_i, x \rangle, y_i), \qquad
              f_i(x + \mu e_k) = \phi(\langle a_i, x \rangle + \mu a_{ik}, y_i)

    Around a point, margins are held, so that a coordinate query costs O(1); each still counts as one query.

    Parameters
    ----------
    A : array or CSR matrix of shape (n, d)
    y : array of shape (n,)
    loss : {"logistic", "squared", "welsch", "huber", "smooth_hinge"} or callable or Loss
        The logistic and smooth hinge losses take y in {-1, 1}; "welsch" has width 1. A callable
        ``loss(margin, y)`` is applied to arrays and has no gradient.

    Raises
    ------
    ValueError
        For wrong shapes, entries that are not finite, an unknown loss, or other `y` than -1 and 1 where the
        loss is "logistic" or "smooth_hinge".
    """

    _follows = True

    def __init__(self, A: Any, y: Any, loss: Any) -> None:
        if isinstance(loss, Loss):
            self.loss = loss
        elif callable(loss):
            self.loss = Loss(loss)
        else:
            self.loss = LOSSES[check_choice("loss", loss, tuple(LOSSES))]
        self.is_sparse = scipy.sparse.issparse(A)
        if self.is_sparse:
            self.A: Any = scipy.sparse.csr_array(A, dtype=np.float64)
            self.A.sum_duplicates()
            self.columns: Any = scipy.sparse.csc_array(self.A)
            finite = np.isfinite(self.A.data).all()
        else:
            self.A = np.ascontiguousarray(A, dtype=np.float64)
            if self.A.ndim != 2:
                raise ValueError(f"A must have shape (n, d); got {self.A.shape}")
            self.columns = np.ascontiguousarray(self.A.T)
            finite = np.isfinite(self.A).all()
        self.y = np.ascontiguousarray(y, dtype=np.float64)
        n, d = self.A.shape
        if self.y.shape != (n,):
            raise ValueError(f"y must have shape ({n},), one entry per row of A; got {self.y.shape}")
        if not (finite and np.isfinite(self.y).all()):
            raise ValueError("A and y must be finite")
        if isinstance(loss, str) and loss in _SIGNS and not (np.abs(self.y) == 1.0).all():
            strange = self.y[np.abs(self.y) != 1.0][0]
            hint = "; y in {0, 1} becomes 2 * y - 1" if np.isin(self.y, (0.0, 1.0)).all() else ""
            raise ValueError(f"y must be -1 or 1 for loss={loss!r}; got {strange:g}{hint}")
        gradient = self._gradients if self.loss.slope is not None else None
        super().__init__(self._pair_values, n, d, dtype=np.float64, grad=gradient)

    def _pair_values(self, X: Array, idx: Ints) -> Array:
        return self.loss.value(self._margins(X, idx), self.y[idx])

    def _margins(self, X: Array, idx: Ints) -> Array:
        if self.is_sparse:
            rows = self.A[idx]
            owner = np.repeat(np.arange(len(idx)), np.diff(rows.indptr))
            products = rows.data * X[owner, rows.indices]
            return np.bincount(owner, products, minlength=len(idx)).astype(np.float64, copy=False)
        return np.einsum("md,md->m", self.A[idx], X)

    def _gradients(self, X: Array, idx: Ints) -> Array:
        assert self.loss.slope is not None
        slope = self.loss.slope(self._margins(X, idx), self.y[idx])
        rows = self.A[idx].toarray() if self.is_sparse else self.A[idx]
        return slope[:, None] * rows

    def gradient(self, x: Array, chunk_size: int = 65536) -> Array:  # noqa: ARG002
        """Return the gradient of f at x.

        Parameters
        ----------
        x : ndarray of shape (d,)
        chunk_size : int
            Not used: the margins of all rows are one product.

        Returns
        -------
        g : ndarray of shape (d,)
        """
        if self.loss.slope is None:
            raise ValueError("loss must be one of the named ones for gradients; a callable has values only")
        x = np.asarray(x, dtype=np.float64)
        return self.A.T @ self.loss.slope(self.A @ x, self.y) / self.n_functions

    def _point(self, x: Array, chunk_size: int, n_jobs: int | None = None) -> Point:
        return LinearPoint(self, x, chunk_size, n_jobs)

    def _lean(self, point: ScaledPoint) -> LeanSum:
        return LeanLinear(self, point)
