r"""Convex losses of a linear predictor, their derivatives, and the constants that certificates rest on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax, softmax

from mlpapers.core.validation import check_choice

__all__ = ["LOSS_CONSTANTS", "Constants", "Loss", "make_loss"]

Array = NDArray[np.float64]

# Entries of a scaled block of rows: 4 MiB stays in the cache of most machines, far below any memory cap.
_BLOCK_ENTRIES = 2**19


class Constants(NamedTuple):
    r"""Bounds on the derivatives of a loss :math:`\phi` with respect to its linear predictor.

    Attributes
    ----------
    L1 : float
        :math:`|\phi'| \le L_1`; infinite for the squared loss.
    L2 : float
        :math:`|\phi''| \le L_2`.
    L3 : float
        Lipschitz constant of :math:`\phi''`.
    c : float
        Generalised self-concordance, :math:`|\phi'''| \le c\,\phi''`.
    """

    L1: float
    L2: float
    L3: float
    c: float


_LOGISTIC_L3 = 1.0 / (6.0 * math.sqrt(3.0))
_PSEUDO_HUBER_L3 = 1.5 * 1.25**-2.5


class LossConstants(Mapping[str, Constants]):
    """The constants (L1, L2, L3, c) of each loss by name, read-only.

    Those of "pseudo_huber" and "smooth_hinge" are for scale 1.
    """

    def __init__(self, table: dict[str, Constants]) -> None:
        self._table = dict(table)

    def __getitem__(self, name: str) -> Constants:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return f"LossConstants({self._table!r})"


LOSS_CONSTANTS = LossConstants(
    {
        "log_loss": Constants(1.0, 0.25, _LOGISTIC_L3, 1.0),
        "softmax": Constants(math.sqrt(2.0), 0.5, math.sqrt(2.0 / 27.0), math.sqrt(2.0)),
        "squared": Constants(math.inf, 1.0, 0.0, 0.0),
        "pseudo_huber": Constants(1.0, 1.0, _PSEUDO_HUBER_L3, 1.5),
        "smooth_hinge": Constants(1.0, 0.25, _LOGISTIC_L3, 1.0),
    }
)


class Loss(ABC):
    """A loss of the scores Z = X theta; theta is a flat vector of p parameters.

    Losses of one score have p = d and Z of shape (n,); softmax over K classes has p = K d and Z of shape (n,
    K). Slopes C have the shape of Z. Curvatures S have shape (n,) or (n, K, K).
    """

    name: str
    constants: Constants
    n_outputs: int = 1

    @abstractmethod
    def scores(self, X: Array, theta: Array) -> Array:
        """Return Z of the rows of X (n, d)."""

    @abstractmethod
    def value(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return the loss of each row (n,)."""

    @abstractmethod
    def slope(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return the derivative of each row's loss with respect to its scores."""

    @abstractmethod
    def curvature(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return the second derivative of each row's loss with respect to its scores."""

    @abstractmethod
    def gram(self, X: Array, S: Array) -> Array:
        r"""Return :math:`\sum_i S_i \otimes x_i x_i^\top` of shape (p, p), exactly symmetric."""

    @abstractmethod
    def lift(self, X: Array) -> Array:
        """Return A of shape (p, k n_outputs) with A vec(C) = the gradient of slopes C at these k rows."""

    @abstractmethod
    def scale_rows(self, S: Array, K: Array) -> Array:
        """Return blockdiag(S) K for K whose rows are ordered as the columns of `lift`."""

    @abstractmethod
    def root(self, X: Array, S: Array) -> Array:
        """Return V of shape (p, k n_outputs) with V V^T = gram(X, S)."""

    @abstractmethod
    def largest_curvature(self, S: Array) -> Array:
        """Return the largest eigenvalue of each row's S (n,)."""

    def pull(self, X: Array, C: Array) -> Array:
        """Return the gradient (p,) of rows X (n, d) with slopes C."""
        return (C.T @ X).ravel()

    def energy(self, gram: Array, step: Array) -> float:
        r"""Return :math:`\Delta^\top (I \otimes M) \Delta` for M = `gram` (d, d) and a step (p,)."""
        D = step.reshape(-1, gram.shape[0])
        return float(np.vdot(D @ gram, D))

    def hessian(self, X: Array, y: NDArray[Any], w: Array, Z: Array) -> Array:
        r"""Return :math:`\sum_i w_i \nabla^2 \ell_i` of shape (p, p), block by block of rows."""
        n, d = X.shape
        step = max(1, _BLOCK_ENTRIES // max(1, d * self.n_outputs))
        total = np.zeros((d * self.n_outputs, d * self.n_outputs))
        for start in range(0, n, step):
            block = slice(start, start + step)
            S = self.curvature(Z[block], y[block])
            total += self.gram(X[block], S * w[block].reshape((-1,) + (1,) * (S.ndim - 1)))
        return total


class ScalarLoss(Loss):
    """A loss of one score per row."""

    def scores(self, X: Array, theta: Array) -> Array:
        """Return X theta (n,)."""
        return X @ theta

    def gram(self, X: Array, S: Array) -> Array:
        """Return X^T diag(S) X."""
        # One array on both sides of the product: BLAS then computes half of it and mirrors the rest.
        scaled = X * np.sqrt(S)[:, None]
        return scaled.T @ scaled

    def lift(self, X: Array) -> Array:
        """Return X^T."""
        return X.T

    def scale_rows(self, S: Array, K: Array) -> Array:
        """Return diag(S) K."""
        return S[:, None] * K

    def root(self, X: Array, S: Array) -> Array:
        """Return X^T diag(S)^{1/2}."""
        return (X * np.sqrt(S)[:, None]).T

    def largest_curvature(self, S: Array) -> Array:
        """Return S itself."""
        return S


class LogLoss(ScalarLoss):
    r""":math:`\phi = \log(1 + e^{-m})`, :math:`m = y z`, labels -1 and +1."""

    name = "log_loss"
    constants = LOSS_CONSTANTS["log_loss"]

    def value(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return log(1 + exp(-y z)) without overflow."""
        return np.logaddexp(0.0, -y * Z)

    def slope(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return -y sigmoid(-y z)."""
        return -y * expit(-y * Z)

    def curvature(self, Z: Array, y: NDArray[Any]) -> Array:  # noqa: ARG002 - the same for both labels
        """Return sigmoid(z) sigmoid(-z)."""
        return expit(Z) * expit(-Z)


class SmoothHinge(ScalarLoss):
    r""":math:`\phi = s \log(1 + e^{(1 - m)/s})`, :math:`m = y z`: the hinge at temperature s -> 0."""

    name = "smooth_hinge"

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        s = temperature
        self.constants = Constants(1.0, 0.25 / s, _LOGISTIC_L3 / s**2, 1.0 / s)

    def value(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return s softplus((1 - y z)/s)."""
        return self.temperature * np.logaddexp(0.0, (1.0 - y * Z) / self.temperature)

    def slope(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return -y sigmoid((1 - y z)/s)."""
        return -y * expit((1.0 - y * Z) / self.temperature)

    def curvature(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return sigmoid'((1 - y z)/s)/s."""
        gap = (1.0 - y * Z) / self.temperature
        return expit(gap) * expit(-gap) / self.temperature


class Squared(ScalarLoss):
    r""":math:`\phi = (z - y)^2 / 2`."""

    name = "squared"
    constants = LOSS_CONSTANTS["squared"]

    def value(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return (z - y)^2 / 2."""
        return 0.5 * (Z - y) ** 2

    def slope(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return z - y."""
        return Z - y

    def curvature(self, Z: Array, y: NDArray[Any]) -> Array:  # noqa: ARG002 - constant
        """Return ones."""
        return np.ones_like(Z)


class PseudoHuber(ScalarLoss):
    r""":math:`\phi = h^2 (\sqrt{1 + (r/h)^2} - 1)`, :math:`r = z - y`."""

    name = "pseudo_huber"

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.constants = Constants(scale, 1.0, _PSEUDO_HUBER_L3 / scale, 1.5 / scale)

    def value(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return h^2 (sqrt(1 + (r/h)^2) - 1)."""
        ratio = ((Z - y) / self.scale) ** 2
        # sqrt(1 + u) - 1 = u / (sqrt(1 + u) + 1) keeps its digits for small u.
        return self.scale**2 * ratio / (np.sqrt(1.0 + ratio) + 1.0)

    def slope(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return r / sqrt(1 + (r/h)^2)."""
        r = Z - y
        return r / np.sqrt(1.0 + (r / self.scale) ** 2)

    def curvature(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return (1 + (r/h)^2)^(-3/2)."""
        return (1.0 + ((Z - y) / self.scale) ** 2) ** -1.5


class Softmax(Loss):
    r""":math:`\ell = \log \sum_a e^{z_a} - z_y`, z = T x with T of shape (K, d), labels 0..K-1."""

    name = "softmax"
    constants = LOSS_CONSTANTS["softmax"]

    def __init__(self, n_classes: int) -> None:
        self.n_outputs = n_classes

    def scores(self, X: Array, theta: Array) -> Array:
        """Return X T^T (n, K)."""
        return X @ theta.reshape(self.n_outputs, -1).T

    def value(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return -log softmax(z)_y."""
        return -np.take_along_axis(log_softmax(Z, axis=1), y[:, None], axis=1)[:, 0]

    def slope(self, Z: Array, y: NDArray[Any]) -> Array:
        """Return softmax(z) minus the indicator of y."""
        P = softmax(Z, axis=1)
        P[np.arange(len(y)), y] -= 1.0
        return P

    def curvature(self, Z: Array, y: NDArray[Any]) -> Array:  # noqa: ARG002 - the same for all labels
        """Return diag(P) - P P^T of each row."""
        P = softmax(Z, axis=1)
        S = -P[:, :, None] * P[:, None, :]
        index = np.arange(self.n_outputs)
        S[:, index, index] += P
        return S

    def gram(self, X: Array, S: Array) -> Array:
        """Return the (K d, K d) matrix with blocks X^T diag(S_ab) X."""
        K, d = self.n_outputs, X.shape[1]
        total = np.empty((K, d, K, d))
        for a in range(K):
            for b in range(a + 1):
                block = X.T @ (X * S[:, a, b, None])
                if a == b:
                    block = 0.5 * (block + block.T)
                total[a, :, b, :] = block
                total[b, :, a, :] = block.T
        return total.reshape(K * d, K * d)

    def lift(self, X: Array) -> Array:
        """Return the matrix whose column (i, a) is e_a (x) x_i."""
        k, d = X.shape
        A = np.zeros((self.n_outputs, d, k, self.n_outputs))
        for a in range(self.n_outputs):
            A[a, :, :, a] = X.T
        return A.reshape(self.n_outputs * d, k * self.n_outputs)

    def scale_rows(self, S: Array, K: Array) -> Array:
        """Return blockdiag(S) K."""
        k = S.shape[0]
        return np.einsum("iab,ibj->iaj", S, K.reshape(k, self.n_outputs, -1)).reshape(K.shape)

    def root(self, X: Array, S: Array) -> Array:
        """Return the columns (S_i^{1/2})_r (x) x_i."""
        eigenvalues, vectors = np.linalg.eigh(S)
        roots = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))[:, None, :]
        V = np.einsum("iar,id->adir", roots, X)
        return V.reshape(self.n_outputs * X.shape[1], -1)

    def largest_curvature(self, S: Array) -> Array:
        """Return the largest eigenvalue of each S_i."""
        return np.asarray(np.linalg.eigvalsh(S)[:, -1], dtype=np.float64)


def make_loss(name: str, *, scale: float = 1.0, n_classes: int = 2) -> Loss:
    """Return the loss `name`.

    Parameters
    ----------
    name : {"log_loss", "softmax", "squared", "pseudo_huber", "smooth_hinge"}
    scale : float, default=1.0
        The residual h where "pseudo_huber" turns linear, or the temperature s of "smooth_hinge".
    n_classes : int, default=2
        K of "softmax".

    Returns
    -------
    loss : Loss

    Raises
    ------
    ValueError
        For an unknown name.
    """
    check_choice("loss", name, list(LOSS_CONSTANTS))
    if name == "softmax":
        return Softmax(n_classes)
    if name == "pseudo_huber":
        return PseudoHuber(scale)
    if name == "smooth_hinge":
        return SmoothHinge(scale)
    return LogLoss() if name == "log_loss" else Squared()
