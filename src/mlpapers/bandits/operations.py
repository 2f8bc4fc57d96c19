"""Earlier methods for the two operations problems: learn the demand first, then commit to a plan."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from mlpapers.bandits.oracle import Point
from mlpapers.bandits.policy import BanditPolicy, PolicyMismatchError, Session
from mlpapers.core.validation import check_int, check_real

__all__ = ["BlindNRM", "ExploreThenCommit"]

Array = NDArray[np.float64]

_N_PRICES = 501
_PIECE = 2**20


class ExploreThenCommit(BanditPolicy):
    r"""Pricing and inventory: explore without censoring, fit a demand curve, commit to its optimum.

    explore_scale * sqrt(T) periods over equally spaced prices at the level that is never sold out; a
    polynomial is fitted to the mean demand, the pooled residuals are the noise, and the best price of 501
    with its best level is played to the end.

    Parameters
    ----------
    degree : int >= 0
        Of the polynomial; below `n_prices`.
    n_prices : int >= 1
    explore_scale : float > 0
    """

    def __init__(self, degree: int = 3, n_prices: int = 6, explore_scale: float = 4.0) -> None:
        self.degree = degree
        self.n_prices = n_prices
        self.explore_scale = explore_scale

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        from mlpapers.bandits.inventory import PricingInventoryEnv

        return {
            "method": "run",
            "arguments": {"env": PricingInventoryEnv(), "horizon": 500, "n_replications": 2},
        }

    def _validate(self) -> None:
        n_prices = check_int("n_prices", self.n_prices, minimum=1)
        check_int("degree", self.degree, minimum=0, maximum=n_prices - 1)
        check_real("explore_scale", self.explore_scale, low=0.0, closed="neither")

    def _search(self, session: Session) -> Point:
        oracle: Any = session.oracle
        if getattr(oracle, "play_level", None) is None:
            raise PolicyMismatchError(
                "env must have play_level (a pricing and inventory problem) for ExploreThenCommit"
            )
        hints = oracle.hints
        periods = max(1, math.ceil(self.explore_scale * math.sqrt(session.horizon) / self.n_prices))
        x = np.linspace(0.0, 1.0, self.n_prices)
        samples = []
        for point in x:
            if session.remaining == 0:
                break
            n = min(periods, session.remaining)
            samples.append(oracle.play_level(np.array([point]), hints["level_max"], n)[1])
        means = np.array([sales.mean() for sales in samples])
        curve = np.polynomial.Polynomial.fit(
            x[: means.size], means, min(self.degree, means.size - 1), domain=[0, 1]
        )
        noise = np.sort(np.concatenate([sales - curve(point) for point, sales in zip(x, samples)]))
        best, level = self._plan(hints, curve, noise - noise.mean())
        # What the commitment shows is not needed: pieces keep the memory small.
        while session.remaining:
            oracle.play_level(np.array([best]), level, min(session.remaining, _PIECE))
        return np.array([best])

    @staticmethod
    def _plan(hints: dict[str, float], curve: Any, noise: Array) -> tuple[float, float]:
        """Return the best point and level for the fitted demand and the sorted noise."""
        x = np.linspace(0.0, 1.0, _N_PRICES)
        p = hints["price_low"] + x * (hints["price_high"] - hints["price_low"])
        b, h = hints["lost_sales_cost"], hints["holding_cost"]
        tau = (p + b) / (p + b + h)
        rank = np.minimum((tau * noise.size).astype(int), noise.size - 1)
        safety = noise[rank]
        # E (beta - z)^+ over the sorted residuals, from sums of their upper tails.
        tails = np.append(np.cumsum(noise[::-1])[::-1], 0.0)
        first = np.searchsorted(noise, safety, side="right")
        short = (tails[first] - (noise.size - first) * safety) / noise.size
        mean = curve(x)
        profit = p * mean - (p + b + h) * short - h * safety
        best = int(np.argmax(profit))
        return float(x[best]), float(np.clip(mean[best] + safety[best], 0.0, hints["level_max"]))


class BlindNRM(BanditPolicy):
    r"""Network revenue management: try a grid of prices, then mix them by a linear program.

    exploration * T^((N+2)/(N+3)) periods are spread evenly over the grid; the program shares the time that is
    left among the prices so that the observed consumption fits what is left of the resources. Shares are
    played in decreasing order; time without a share is spent at the price that consumes least.

    Parameters
    ----------
    grid : int, optional
        Prices per product, by default 2 max(1, round(T^(1/(2(N+3))))).
    exploration : float > 0

    References
    ----------
    [1] Besbes and Zeevi, "Blind network revenue management", Operations Research 60(6), 2012; this is our own
    reading of it, not the published code.

    Examples
    --------
    >>> from mlpapers.bandits import NetworkRevenueEnv
    >>> env = NetworkRevenueEnv.example(n_products=2)
    >>> result = BlindNRM(grid=4).run(env, horizon=20_000, n_replications=4, random_state=0)
    >>> bool(result.final_regret.mean() < 0.3 * 20_000 * env.f_star)
    True
    """

    def __init__(self, grid: int | None = None, exploration: float = 0.5) -> None:
        self.grid = grid
        self.exploration = exploration

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        from mlpapers.bandits.network import NetworkRevenueEnv

        return {
            "method": "run",
            "arguments": {"env": NetworkRevenueEnv.example(2), "horizon": 500, "n_replications": 2},
        }

    def _validate(self) -> None:
        if self.grid is not None:
            check_int("grid", self.grid, minimum=1)
        check_real("exploration", self.exploration, low=0.0, closed="neither")

    def _search(self, session: Session) -> Point:
        oracle: Any = session.oracle
        if getattr(oracle, "capacity_left", None) is None:
            raise PolicyMismatchError("env must have capacity_left (network revenue management) for BlindNRM")
        N, T = session.dim, session.horizon
        size = self.grid or 2 * max(1, round(T ** (1.0 / (2 * (N + 3)))))
        points = np.array(list(itertools.product(np.linspace(0.0, 1.0, size), repeat=N)))
        periods = max(1, math.floor(self.exploration * T ** ((N + 2) / (N + 3)) / len(points)))
        seen, revenues, uses = [], [], []
        for x in points:
            n = min(periods, session.remaining)
            before = oracle.capacity_left
            revenue = session.play(x, n) if n else None
            if revenue is None:
                break
            seen.append(x)
            revenues.append(revenue)
            uses.append((before - oracle.capacity_left) / n)
        shares = self._shares(
            np.array(revenues), np.array(uses), oracle.capacity_left / max(session.remaining, 1)
        )
        left = session.remaining
        for k in np.argsort(-shares, kind="stable"):
            n = min(round(shares[k] * left), session.remaining)
            if n:
                session.play(seen[k], n)
        if session.remaining:
            session.play(seen[int(np.argmin(np.sum(uses, axis=1)))], session.remaining)
        return np.array(seen[int(np.argmax(shares))])

    @staticmethod
    def _shares(revenue: Array, use: Array, capacity: Array) -> Array:
        """Return the shares of time that maximise revenue within the capacity, shape (K,)."""
        limits, bounds = np.vstack([use.T, np.ones(revenue.size)]), np.append(capacity, 1.0)
        solution = linprog(-revenue, A_ub=limits, b_ub=bounds, bounds=(0.0, 1.0), method="highs")
        return np.zeros(revenue.size) if solution.x is None else np.asarray(solution.x)
