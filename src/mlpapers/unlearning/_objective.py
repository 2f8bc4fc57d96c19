r"""The weighted regularised objective of one problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.unlearning.losses import Loss

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Objective:
    r""":math:`F(\theta) = \sum_i w_i \ell(\theta; z_i) + \frac\alpha2 \|\theta\|^2 + b^\top \theta`.

    Attributes
    ----------
    loss : Loss
    X : ndarray of shape (n, d)
    y : ndarray of shape (n,)
        As the loss expects it.
    w : ndarray of shape (n,)
        Weights >= 0; a row of weight 0 is absent.
    alpha : float
    b : ndarray of shape (p,) or None
        The noise vector of objective perturbation.
    """

    loss: Loss
    X: Array
    y: NDArray[Any]
    w: Array
    alpha: float
    b: Array | None = None

    @property
    def n_parameters(self) -> int:
        """The number p of parameters."""
        return self.X.shape[1] * self.loss.n_outputs

    def value(self, theta: Array, Z: Array) -> float:
        """Return F at `theta`, whose scores are `Z`."""
        total = float(self.w @ self.loss.value(Z, self.y)) + 0.5 * self.alpha * float(theta @ theta)
        return total if self.b is None else total + float(self.b @ theta)

    def gradient(self, theta: Array, Z: Array | None = None) -> Array:
        """Return the gradient (p,), noise vector included."""
        Z = self.loss.scores(self.X, theta) if Z is None else Z
        C = self.loss.slope(Z, self.y)
        C *= self.w.reshape((-1,) + (1,) * (C.ndim - 1))
        total = self.loss.pull(self.X, C) + self.alpha * theta
        return total if self.b is None else total + self.b

    def hessian(self, theta: Array, Z: Array | None = None) -> Array:
        """Return the Hessian (p, p)."""
        Z = self.loss.scores(self.X, theta) if Z is None else Z
        H = self.loss.hessian(self.X, self.y, self.w, Z)
        H.ravel()[:: H.shape[0] + 1] += self.alpha
        return H

    def hessian_product(self, Z: Array, v: Array) -> Array:
        """Return the Hessian times `v` without forming it; `Z` are the scores at the point."""
        S = self.loss.curvature(Z, self.y)
        D = self.loss.scores(self.X, v)
        C = S * D if S.ndim == 1 else np.einsum("iab,ib->ia", S, D)
        C *= self.w.reshape((-1,) + (1,) * (C.ndim - 1))
        return self.loss.pull(self.X, C) + self.alpha * v


def weighted_gram(X: Array, w: Array) -> Array:
    r"""Return :math:`M = \sum_i w_i x_i x_i^\top`, block by block of rows."""
    n, d = X.shape
    step = max(1, 2**19 // max(1, d))
    total = np.zeros((d, d))
    for start in range(0, n, step):
        scaled = X[start : start + step] * np.sqrt(w[start : start + step])[:, None]
        total += scaled.T @ scaled
    return total
