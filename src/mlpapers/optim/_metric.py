"""The matrix of the quadratic model, learned from how the gradient changed along the moves."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._state import Stateful

__all__ = ["Metric"]

Array = NDArray[np.float64]

_FORGET = 0.95
# How far the gradient's change may be from linear, as a share of itself.
_BEND = 0.1
# Eigenvalues below this share of L are noise.
_FLOOR = 1e-3
# Between these bounds squares of L can be formed.
_SMALLEST, _LARGEST = 1e-100, 1e100


class Metric(Stateful):
    r"""A symmetric B with B s = y for the moves s and changes y of the gradient, as far as noise allows.

    Directions in which nothing has moved keep the scalar L. With weights w that are inverse error variances,
    and older moves forgotten by degrees,

    .. math:: B = \arg\min_{B = B^T} \sum_j w_j |B s_j - y_j|^2 + L^{-2} |B - L I|_F^2,

    which solves :math:`B (P + L^{-2} I) + (P + L^{-2} I) B = Q + Q^T + 2 L^{-1} I`, where
    :math:`P = \sum w s s^T` and :math:`Q = \sum w y s^T`. The eigenvectors of P give B, whose
    eigenvalues are then raised to a thousandth of L. For f that is not convex they lose their signs first:
    where f bends down, a step may be as long as where it bends up as much.

    Parameters
    ----------
    d : int

    Attributes
    ----------
    B : ndarray of shape (d, d) or None
        None until a move was seen.
    kappa : float
        By how much the last steps found more curvature than B had, at least 1; contained in `B`.
    """

    kept = ("P", "Q", "B", "kappa")

    def __init__(self, d: int) -> None:
        self.d = d
        self.P, self.Q = np.zeros((d, d)), np.zeros((d, d))
        self.B: Array | None = None
        self.kappa = 1.0

    def learn(self, s: Array, y: Array, error: float, L: float, *, bent: bool = False) -> None:
        """Take in that the gradient changed by y along s, with mean squared error `error`.

        L is the largest recent curvature along the moves; `bent` says that f is known not to be convex.
        """
        size = float(s @ s)
        if not (size > 0.0 and _SMALLEST < L < _LARGEST):
            return
        if self.B is not None:
            seen = float(s @ y) / float(s @ self.B @ s)
            self.kappa = min(max(1.0, 0.9 * self.kappa, seen * self.kappa), 10.0)
        s, y = s / math.sqrt(size), y / math.sqrt(size)
        w = self.d / (error / size + _BEND**2 * (float(y @ y) + (_FLOOR * L) ** 2))
        self.P = _FORGET * self.P + w * np.outer(s, s)
        self.Q = _FORGET * self.Q + w * np.outer(y, s)
        self.B = self.kappa * self._solve(L, bent)

    def _solve(self, L: float, bent: bool = False) -> Array:
        p, U = np.linalg.eigh(self.P)
        p = np.maximum(p, 0.0) + 1.0 / L**2
        R = U.T @ (self.Q + self.Q.T + 2.0 / L * np.eye(self.d)) @ U
        values, V = np.linalg.eigh(U @ (R / (p[:, None] + p[None, :])) @ U.T)
        return (V * np.maximum(np.abs(values) if bent else values, _FLOOR * L)) @ V.T
