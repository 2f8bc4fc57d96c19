r"""Penalties on the average action, and their proximal steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mlpapers.bandits.oracle import Point
from mlpapers.core.validation import check_real

__all__ = ["EstimatedKnapsack", "LinearKnapsack"]

Matrix = NDArray[np.float64]


class LinearKnapsack:
    r"""The penalty :math:`\psi(x) = \rho \sum_j (A_j x - c_j)^+` with known A.

    Parameters
    ----------
    A : array of shape (m, d)
    c : array of shape (m,)
    rho : float > 0
        Larger than the dual prices of the constraints A x <= c, so that the penalty is exact.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.bandits import LinearKnapsack
    >>> psi = LinearKnapsack(A=[[1.0, 1.0]], c=[1.0], rho=10.0)
    >>> psi([0.5, 0.25]), psi([1.0, 0.25])
    (0.0, 2.5)
    >>> x, prices = psi.prox(np.array([0.5, 0.4]), np.array([1.0, 0.0]), eta=0.5)
    >>> x.round(6).tolist(), prices.round(6).tolist()
    ([0.8, 0.2], [0.4])
    """

    def __init__(self, A: ArrayLike, c: ArrayLike, rho: float) -> None:
        self.A = np.array(A, dtype=np.float64)
        self.c = np.array(c, dtype=np.float64)
        if self.A.ndim != 2 or not np.isfinite(self.A).all():
            raise ValueError(f"A must be a finite matrix (m, d); got shape {self.A.shape}")
        if self.c.shape != self.A.shape[:1] or not np.isfinite(self.c).all():
            raise ValueError(f"c must have shape ({len(self.A)},), finite; got {self.c!r}")
        self.rho = check_real("rho", rho, low=0.0, closed="neither")

    def __repr__(self) -> str:
        return f"LinearKnapsack(A={self.A.tolist()}, c={self.c.tolist()}, rho={self.rho:g})"

    def __call__(self, x: ArrayLike) -> float:
        """Return psi(x)."""
        return float(self.rho * np.maximum(self.A @ np.asarray(x, dtype=np.float64) - self.c, 0.0).sum())

    def prox(self, x: Point, g: Point, eta: float) -> tuple[Point, Point]:
        """Return the proximal step from x along g, and the dual prices, shape (m,)."""
        return knapsack_prox(x, g, eta, self.A, self.c, self.rho)


@dataclass(frozen=True)
class EstimatedKnapsack:
    r"""The penalty :math:`\rho \sum_j (\text{consumption}_j(x) - c_j)^+`, learned from ``aux``.

    The consumption is replaced by its linearisation :math:`\hat g + \hat J (z - x)`; c is what is left of
    each resource per period that is left, computed anew at every step.

    Parameters
    ----------
    rho : float > 0
    resolve : bool
        False keeps the capacity per period of the first step.
    """

    rho: float
    resolve: bool = True

    def __post_init__(self) -> None:
        check_real("rho", self.rho, low=0.0, closed="neither")


def knapsack_prox(
    x: Point, g: Point, eta: float, A: Matrix, c: NDArray[np.float64], rho: float
) -> tuple[Point, NDArray[np.float64]]:
    r"""Return :math:`\arg\max_{z \in [0,1]^d} g^\top(z-x) - \|z-x\|^2/(2\eta) - \rho\sum_j (A_j z - c_j)^+`.

    Solved in the dual :math:`\mu \in [0,\rho]^m`, where
    :math:`z(\mu) = \mathrm{clip}(x + \eta(g - A^\top\mu))`, by accelerated projected gradient steps of length
    :math:`1/(\eta\|A\|^2)`, then exactly on the active set.

    Parameters
    ----------
    x, g : ndarray of shape (d,)
        Point and gradient.
    eta : float
        Step length.
    A : ndarray of shape (m, d)
    c : ndarray of shape (m,)
    rho : float

    Returns
    -------
    z : ndarray of shape (d,)
    mu : ndarray of shape (m,)
        Dual prices of the constraints.
    """
    norm = float(np.linalg.norm(A, 2)) if A.size else 0.0
    target = x + eta * g
    if norm == 0.0:
        return target.clip(0.0, 1.0), np.where(-c > 0.0, rho, 0.0)
    mu = _dual_ascent(target, eta, np.ascontiguousarray(A), c, rho, 1.0 / (eta * norm**2))
    mu = _polish(mu, target, eta, A, c, rho)
    return (target - eta * (A.T @ mu)).clip(0.0, 1.0), mu


@njit(cache=True)
def _dual_ascent(target, eta, A, c, rho, step):  # type: ignore[no-untyped-def]
    m, d = A.shape
    mu, ahead, z, new = np.zeros(m), np.zeros(m), np.empty(d), np.empty(m)
    momentum = 1.0
    for _ in range(2000):
        for i in range(d):
            price = 0.0
            for j in range(m):
                price += A[j, i] * ahead[j]
            z[i] = min(1.0, max(0.0, target[i] - eta * price))
        change, uphill = 0.0, 0.0
        for j in range(m):
            slack = -c[j]
            for i in range(d):
                slack += A[j, i] * z[i]
            new[j] = min(rho, max(0.0, ahead[j] + step * slack))
            change = max(change, abs(new[j] - mu[j]))
            uphill += (ahead[j] - new[j]) * (new[j] - mu[j])
        # Momentum that points the wrong way is dropped (O'Donoghue and Candes 2015): linear convergence.
        following = 1.0 if uphill > 0.0 else 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        beta = 0.0 if uphill > 0.0 else (momentum - 1.0) / following
        for j in range(m):
            ahead[j] = new[j] + beta * (new[j] - mu[j])
            mu[j] = new[j]
        momentum = following
        if change < 1e-10:
            break
    return mu


def _polish(
    mu: NDArray[np.float64], target: Point, eta: float, A: Matrix, c: NDArray[np.float64], rho: float
) -> NDArray[np.float64]:
    """Solve the optimality conditions on the active set that `mu` shows; keep the better of the two duals."""
    free = (mu > 1e-9) & (mu < rho - 1e-9)
    if not free.any():
        return mu
    inside = target - eta * (A.T @ mu)
    z = inside.clip(0.0, 1.0)
    moving = (inside > 0.0) & (inside < 1.0)
    held = mu.copy()
    held[free] = 0.0
    base = np.where(moving, target - eta * (A.T @ held), z)
    B = A[np.ix_(free, moving)]
    exact = mu.copy()
    exact[free] = np.linalg.lstsq(eta * (B @ B.T), A[free] @ base - c[free], rcond=None)[0]
    exact = exact.clip(0.0, rho)
    return exact if _dual(exact, target, eta, A, c) <= _dual(mu, target, eta, A, c) else mu


def _dual(mu: NDArray[np.float64], target: Point, eta: float, A: Matrix, c: NDArray[np.float64]) -> float:
    """Return the dual objective, to be minimised, up to a constant and times eta."""
    z = (target - eta * (A.T @ mu)).clip(0.0, 1.0)
    return float(z @ target - 0.5 * z @ z - eta * mu @ (A @ z - c))
