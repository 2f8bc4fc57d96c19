"""Pricing and inventory together: lost sales, censored demand, and an oracle made of sales alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.bandits._inventory import DEMANDS, Market, Noise, simulate
from mlpapers.bandits._residuals import calibrate
from mlpapers.bandits._sales import BinnedSample, SalesRecord, Sample
from mlpapers.bandits.env import BanditEnv
from mlpapers.bandits.oracle import ComparisonResult, Point, check_gamma, check_periods, check_point
from mlpapers.core.validation import check_choice, check_int, check_real

__all__ = ["PricingInventoryEnv"]

_NOISES = ("uniform", "truncnorm")
# Levels that are remembered: more prices than any policy of few queries visits.
_MAX_REMEMBERED = 512


class PricingInventoryEnv(BanditEnv):
    r"""Set a price and an order-up-to level every period; see only sales.

    On hand is :math:`s_t = \max(\text{target}, I_t)`; demand :math:`D_t = \lambda(p) + \beta_t`; sales
    :math:`\min(D_t, s_t)`; what is left over is carried to the next period; unmet demand is lost unseen. The
    reward is :math:`p \min(D,s) - h (s-D)^+ - b (D-s)^+`, and :math:`f(x) = G(p) = \max_s E\,\text{reward}`
    with :math:`p = p_{lo} + x (p_{hi} - p_{lo})`. With :math:`\tau(p) = (p+b)/(p+b+h)` and the quantile
    function :math:`Q_p` of demand,

    .. math:: G(p) = (p+b+h) \int_0^{\tau(p)} Q_p(v)\,dv - b \lambda(p),

    and since the noise is additive, differences of :math:`\lambda` are differences of partial means of
    :math:`Q_p` too: the oracle needs no demand above the best level, which lost sales hide. Where
    :math:`\lambda(p) + \beta < 0`, goods are returned: negative sales.

    Parameters
    ----------
    price_range : (float, float)
    demand : {"cubic", "linear", "exp"} or callable
        Mean demand of prices, vectorised; "cubic" is 10 - 2.5 p - 0.15 (p - 2)^3.
    noise : {"uniform", "truncnorm"} or frozen scipy distribution
        Of mean 0 and bounded support.
    noise_scale : float > 0
        The named noises live on [-noise_scale, noise_scale].
    holding_cost, lost_sales_cost : float >= 0
        h and b, per unit.
    level_max : float, optional
        Level that is never censored, max lambda + the largest noise by default.
    level_margin : float >= 0
        How far the first target of a query lies above the level of the nearest price, per unit of price.
    m0 : int >= 1
        Periods before the target is first adjusted.
    slack : float >= 0
        Standard errors by which the target lies above the empirical quantile.
    gamma : (float, float), optional
        Constants of the oracle.

    Notes
    -----
    Time is linear in the number of periods, memory constant: a query of more than 2^22 periods at a price
    keeps the sales of its long epochs in histograms of 2^16 bins.
    """

    _shared = frozenset({"play_level"})
    dim = 1

    def __init__(
        self,
        *,
        price_range: tuple[float, float] = (1.0, 3.0),
        demand: str | Callable[[NDArray[np.float64]], NDArray[np.float64]] = "cubic",
        noise: Any = "uniform",
        noise_scale: float = 3.0,
        holding_cost: float = 0.5,
        lost_sales_cost: float = 1.0,
        level_max: float | None = None,
        level_margin: float = 4.0,
        m0: int = 32,
        slack: float = 1.0,
        gamma: tuple[float, float] | None = None,
    ) -> None:
        self.price_range = price_range
        self.demand = demand
        self.noise = noise
        self.noise_scale = noise_scale
        self.holding_cost = holding_cost
        self.lost_sales_cost = lost_sales_cost
        self.level_max = level_max
        self.level_margin = level_margin
        self.m0 = m0
        self.slack = slack
        self.gamma = gamma

    @classmethod
    def from_frame(
        cls, df: Any, price: str = "price", sales: str = "sales", stock: str = "stock", **params: Any
    ) -> Self:
        """Return an environment that behaves like the business behind a table of records.

        Mean demand is the falling step function that fits the sales of rows that did not sell out,
        interpolated between the observed prices; the noise has the distribution of what is left over. Rows
        that sold out tell only that demand was larger, and are left out: where they are many, mean demand is
        underestimated.

        Parameters
        ----------
        df : DataFrame
            One row per period.
        price, sales, stock : str
            Columns: the price, units sold, units on hand at the beginning.
        **params
            Parameters of the environment, e.g. ``holding_cost``; not `price_range`, `demand`, `noise`.

        Returns
        -------
        PricingInventoryEnv

        Raises
        ------
        ValueError
            Where a column is missing or not numeric, more was sold than there was, fewer than two prices
            were tried, or every row of some price sold out.
        """
        curve, noise = calibrate(df, price, sales, stock)
        ends = (float(curve.prices[0]), float(curve.prices[-1]))
        return cls(**{"price_range": ends, "demand": curve, "noise": noise, **params})

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        return {"method": "reset", "arguments": {"horizon": 100}}

    @property
    def x_star(self) -> Point:
        """The best point, shape (1,); for evaluation only."""
        return self.maximiser

    @property
    def optimal_price(self) -> float:
        """The price that maximises G."""
        return float(self.model.price(self.model.x_star[0]))

    def optimal_level(self, p: ArrayLike) -> Any:
        """Return the level that maximises the expected reward at price p."""
        return _plain(self.model.best_level(np.asarray(p, dtype=np.float64)))

    def profit(self, p: ArrayLike, level: ArrayLike) -> Any:
        """Return the expected reward of a period at price p with `level` on hand, vectorised."""
        return _plain(self.model.profit(np.asarray(p, dtype=np.float64), np.asarray(level, dtype=np.float64)))

    def G(self, p: ArrayLike) -> Any:
        """Return the largest expected reward at price p, vectorised."""
        prices = np.asarray(p, dtype=np.float64)
        return _plain(self.model.profit(prices, self.model.best_level(prices)))

    def value(self, x: ArrayLike) -> Any:
        """Return f at x: a float for shape (1,), an array (m,) for (m, 1); for evaluation only."""
        points = np.asarray(x, dtype=np.float64)
        if points.ndim == 2:
            return np.array([self.value(row) for row in points])
        return float(self.G(self.model.price(check_point("x", x, 1)[0])))

    def play_level(self, x: ArrayLike, level: float, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Play min(n, remaining) periods at x with a fixed order-up-to level.

        Parameters
        ----------
        x : array of shape (1,)
        level : float in [0, level_max]
        n : int >= 1

        Returns
        -------
        levels, sales : ndarrays of shape (n,)
            Stock on hand and units sold in every period; unmet demand is not seen.
        """
        self._require_reset()
        point, n = check_point("x", x, 1), check_periods(n, minimum=1)
        level = check_real("level", level, low=0.0, high=self._state.level_max)
        n = min(n, self._horizon - self.t_)
        sales, levels = np.empty(n), np.empty(n)
        self._sell(self._state.price(point[0]), level, sales, levels)
        return levels, sales

    def _build(self) -> Market:
        low, high = self._prices()
        demand = (
            DEMANDS[check_choice("demand", self.demand, tuple(DEMANDS))]
            if not callable(self.demand)
            else self.demand
        )
        noise = self._noise()
        holding = check_real("holding_cost", self.holding_cost, low=0.0)
        lost = check_real("lost_sales_cost", self.lost_sales_cost, low=0.0)
        check_real("level_margin", self.level_margin, low=0.0)
        check_real("slack", self.slack, low=0.0)
        check_int("m0", self.m0, minimum=1)
        if low + holding + lost == 0.0:
            raise ValueError(
                "price_range must begin above 0 where holding_cost and lost_sales_cost are 0: at no price "
                "and no cost every level is as good"
            )
        grid = np.linspace(low, high, 2001)
        means = np.asarray(demand(grid), dtype=np.float64)
        if means.shape != grid.shape or not (means > 0.0).all():
            raise ValueError("demand must map prices to positive means of the same shape on price_range")
        level_max = float(means.max()) + noise.high
        draft = Market(
            1, low, high, demand, noise, holding, lost, level_max, np.zeros(1), 0.0, (0.0, 0.0), {}
        )
        if self.level_max is not None:
            needed = float(draft.best_level(grid).max())
            level_max = check_real("level_max", self.level_max, low=needed)
        price, best = _maximise(lambda p: draft.profit(p, draft.best_level(p)), grid)
        if self.gamma is None:
            scale = 0.5 * (low + high) + lost + holding
            gamma = (2.0 * lost**2, 16.0 * scale**2 * noise.variance)
        else:
            gamma = check_gamma(self.gamma)
        x_star = np.array([(price - low) / (high - low)])
        # What a seller knows of the own business: prices and the costs, not how customers respond.
        hints = {
            "price_low": low,
            "price_high": high,
            "holding_cost": holding,
            "lost_sales_cost": lost,
            "level_max": level_max,
        }
        return Market(1, low, high, demand, noise, holding, lost, level_max, x_star, best, gamma, hints)

    def _prices(self) -> tuple[float, float]:
        given: Any = self.price_range
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ValueError(f"price_range must be a pair (low, high); got {given!r}")
        low = check_real("price_range", given[0], low=0.0)
        high = check_real("price_range", given[1], low=low, closed="neither")
        return low, high

    def _noise(self) -> Noise:
        if isinstance(self.noise, str) and self.noise == "multiplicative":
            raise ValueError(
                "noise must be additive; got 'multiplicative', with which sales do not tell the lost ones"
            )
        scale = check_real("noise_scale", self.noise_scale, low=0.0, closed="neither")
        if not hasattr(self.noise, "ppf"):
            check_choice("noise", self.noise, _NOISES)
        if isinstance(self.noise, str) and self.noise == "uniform":
            return Noise(-scale, scale, scale**2 / 3.0)
        from scipy import stats

        named = isinstance(self.noise, str)
        chosen = stats.truncnorm(-2.0, 2.0, scale=0.5 * scale) if named else self.noise
        low, high = (float(end) for end in chosen.support())
        mean = float(chosen.mean())
        if not (math.isfinite(low) and math.isfinite(high) and abs(mean) <= 1e-9 * (high - low)):
            raise ValueError(
                f"noise must have mean 0 and bounded support; got mean {mean:g}, support [{low:g}, {high:g}]"
            )
        return Noise(low, high, float(chosen.var()), chosen)

    def _start(self) -> None:
        self._stock = 0.0
        self._targets: dict[float, float] = {}

    def _query(self, x: Point, x_prime: Point, n: int) -> ComparisonResult:
        market: Market = self._state
        n_x, n_xp = n - n // 2, n // 2
        prices = market.price(x[0]), market.price(x_prime[0])
        first = self._learn_level(prices[0], n_x).typical()
        second = self._learn_level(prices[1], n_xp).typical()
        return ComparisonResult(_difference(market, prices, (first, second)), n, n_x, n_xp, *market.gamma)

    def _play(self, x: Point, n: int) -> float:
        market: Market = self._state
        price = market.price(x[0])
        record = self._learn_level(price, n)
        return (price * record.sold - market.holding_cost * (record.stocked - record.sold)) / n

    def _learn_level(self, price: float, n: int) -> SalesRecord:
        """Play n periods at a price in epochs that double, moving the target to the best level's estimate."""
        market: Market = self._state
        tau = float(market.fractile(np.asarray(price)))
        spread = market.noise.high - market.noise.low
        record = SalesRecord(n, market.level_max)
        cap, size = self._first_target(price), int(self.m0)
        while record.n < n:
            left = n - record.n
            # A remainder shorter than half of the next epoch is not worth an epoch of its own.
            for sales, levels in record.fill(cap, left if left - size < size else size):
                self._sell(price, cap, sales, levels)
            size *= 2
            sample = record.sample(cap)
            u = min(1.0, tau + self.slack * math.sqrt(tau * (1.0 - tau) / sample.size) + 1.0 / sample.size)
            if sample.full > 1.0 - u:
                target = cap + 0.25 * spread / math.sqrt(max(sample.size / 8.0, 1.0))
            else:
                target = sample.quantile(u)
            cap = min(max(target, 0.0), market.level_max)
        if len(self._targets) >= _MAX_REMEMBERED:
            self._targets.pop(next(iter(self._targets)))
        self._targets[price] = cap
        return record

    def _first_target(self, price: float) -> float:
        if not self._targets:
            return float(self._state.level_max)
        nearest = min(self._targets, key=lambda known: abs(known - price))
        target = self._targets[nearest] + self.level_margin * abs(nearest - price)
        return float(min(target, self._state.level_max))

    def _sell(self, price: float, target: float, sales: NDArray[Any], levels: NDArray[Any]) -> None:
        """Play the periods that the arrays have room for; the demand is drawn, sold from, and forgotten."""
        market: Market = self._state
        beta = market.noise.draw(sales.size, self._rng)
        mean = float(market.demand(np.asarray(price)))
        self._stock = simulate(beta, mean, self._stock, target, sales, levels)
        above = levels[levels != target]
        earned = market.profit(np.asarray(price), above).sum() if above.size else 0.0
        earned += (levels.size - above.size) * float(market.profit(np.asarray(price), np.asarray(target)))
        self._advance(sales.size, sales.size * market.f_star - float(earned))


def _difference(
    market: Market, prices: tuple[float, float], samples: tuple[Sample | BinnedSample, Sample | BinnedSample]
) -> float:
    """Estimate G(p) - G(p') from the sales at both prices."""
    b, h = market.lost_sales_cost, market.holding_cost
    taus = [float(market.fractile(np.asarray(price))) for price in prices]
    t0 = min(*taus, *(1.0 - sample.full for sample in samples))
    # Blocks that are censored throughout tell no quantile; the smallest sale is then the least wrong.
    t0 = max(t0, 1.0 / max(sample.size for sample in samples))
    sold = [(price + b + h) * sample.partial_mean(tau) for price, sample, tau in zip(prices, samples, taus)]
    shift = (samples[0].partial_mean(t0) - samples[1].partial_mean(t0)) / t0
    return sold[0] - sold[1] - b * shift


def _maximise(
    G: Callable[[NDArray[np.float64]], NDArray[np.float64]], grid: NDArray[np.float64]
) -> tuple[float, float]:
    """Return (argmax, max) of G: the best grid point, refined three times between its neighbours."""
    for _ in range(4):
        values = G(grid)
        best = int(np.argmax(values))
        p, top = float(grid[best]), float(values[best])
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)], 201)
    return p, top


def _plain(values: Any) -> Any:
    return float(values) if np.ndim(values) == 0 else values
