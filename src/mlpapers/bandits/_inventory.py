"""Demand, noise and the sequential loop behind the pricing and inventory environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpapers.bandits._residuals import ResidualNoise

Array = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def cubic(p: Array) -> Array:
    """Mean demand 10 - 2.5 p - 0.15 (p - 2)^3."""
    return 10.0 - 2.5 * p - 0.15 * (p - 2.0) ** 3


def linear(p: Array) -> Array:
    """Mean demand 10 - 2.5 p."""
    return 10.0 - 2.5 * p


def exponential(p: Array) -> Array:
    """Mean demand 13 exp(-p / 2)."""
    return 13.0 * np.exp(-0.5 * p)


DEMANDS: dict[str, Callable[[Array], Array]] = {"cubic": cubic, "linear": linear, "exp": exponential}


@dataclass(frozen=True, eq=False)
class Noise:
    """Demand noise with mean 0 on [low, high]; `distribution` None means uniform."""

    low: float
    high: float
    variance: float
    distribution: Any = None

    def quantile(self, u: Array) -> Array:
        """Return the quantiles at u in [0, 1]."""
        if self.distribution is None:
            return self.low + (self.high - self.low) * np.asarray(u)
        return np.asarray(self.distribution.ppf(u), dtype=np.float64)

    def excess(self, z: Array) -> Array:
        """Return E (beta - z)^+ for every z."""
        z = np.asarray(z, dtype=np.float64)
        if isinstance(self.distribution, ResidualNoise):
            return self.distribution.excess(z)
        inside = z.clip(self.low, self.high)
        below = np.maximum(self.low - z, 0.0)
        if self.distribution is None:
            return below + (self.high - inside) ** 2 / (2.0 * (self.high - self.low))
        # E (beta - z)^+ is the integral of the survival function from z to the end of the support.
        half = 0.5 * (self.high - inside)[..., None]
        tail = (half * _WEIGHTS * self.distribution.sf(inside[..., None] + half * (1.0 + _NODES))).sum(
            axis=-1
        )
        return below + tail

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        """Return n independent draws."""
        if self.distribution is None:
            return self.low + (self.high - self.low) * rng.random(n)
        return np.asarray(self.distribution.rvs(size=n, random_state=rng), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Market:
    """Validated parameters of the environment with what follows from them."""

    dim: int
    low: float
    high: float
    demand: Callable[[Array], Array]
    noise: Noise
    holding_cost: float
    lost_sales_cost: float
    level_max: float
    x_star: Array
    f_star: float
    gamma: tuple[float, float]
    hints: dict[str, float]

    def price(self, x: float) -> float:
        """Return the price of a point of [0, 1]."""
        return self.low + x * (self.high - self.low)

    def fractile(self, p: Array) -> Array:
        """Return the newsvendor fractile (p + b) / (p + b + h)."""
        gain = np.asarray(p) + self.lost_sales_cost
        return gain / (gain + self.holding_cost)

    def best_level(self, p: Array) -> Array:
        """Return the order-up-to level that maximises the expected reward."""
        return self.demand(np.asarray(p, dtype=np.float64)) + self.noise.quantile(self.fractile(p))

    def profit(self, p: Array, level: Array) -> Array:
        """Return the expected reward of a period with `level` on hand."""
        mean = self.demand(np.asarray(p, dtype=np.float64))
        short = self.noise.excess(np.asarray(level) - mean)
        left = level - mean + short
        return p * (mean - short) - self.holding_cost * left - self.lost_sales_cost * short


@njit(cache=True)
def simulate(beta, mean, stock, target, sales, levels):  # type: ignore[no-untyped-def]
    """Fill `sales` and `levels` period by period and return the stock that is left over.

    beta : (n,) demand noise; nothing is ordered while the stock is above the target.
    """
    for i in range(beta.size):
        level = max(stock, target)
        demand = mean + beta[i]
        sold = min(level, demand)
        sales[i] = sold
        levels[i] = level
        stock = level - sold
    return stock
