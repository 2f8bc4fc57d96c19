"""Demand of a business as its records show it: a falling curve through the sales, and what is left over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class ResidualNoise:
    """Noise whose distribution function rises linearly between sorted residuals; its mean is 0.

    Parameters
    ----------
    residuals : array of shape (m,)
        At least two different ones; they are shifted to mean 0.
    """

    def __init__(self, residuals: Array) -> None:
        r = np.sort(np.asarray(residuals, dtype=np.float64))
        r = r - 0.5 * (r[1:] + r[:-1]).mean()
        self._r = r
        self._u = np.linspace(0.0, 1.0, r.size)
        # Integral of the survival function from each residual to the largest one.
        pieces = 0.5 * ((1.0 - self._u[1:]) + (1.0 - self._u[:-1])) * np.diff(r)
        self._tail = np.append(pieces[::-1].cumsum()[::-1], 0.0)

    def support(self) -> tuple[float, float]:
        """Return the smallest and the largest value."""
        return float(self._r[0]), float(self._r[-1])

    def mean(self) -> float:
        """Return the mean."""
        return float((0.5 * (self._r[1:] + self._r[:-1])).mean())

    def var(self) -> float:
        """Return the variance of the mixture of uniform pieces."""
        a, b = self._r[:-1], self._r[1:]
        return float(((a * a + a * b + b * b) / 3.0).mean())

    def ppf(self, u: Any) -> Array:
        """Return the quantiles at u."""
        return np.interp(np.asarray(u, dtype=np.float64), self._u, self._r)

    def sf(self, z: Any) -> Array:
        """Return the probability of more than z."""
        return 1.0 - np.interp(np.asarray(z, dtype=np.float64), self._r, self._u)

    def rvs(self, size: int, random_state: np.random.Generator) -> Array:
        """Return draws."""
        return self.ppf(random_state.random(size))

    def excess(self, z: Array) -> Array:
        """Return E (beta - z)^+, exactly."""
        low, high = self.support()
        inside = z.clip(low, high)
        after = np.minimum(np.searchsorted(self._r, inside, side="right"), self._r.size - 1)
        piece = 0.5 * (self.sf(inside) + 1.0 - self._u[after]) * (self._r[after] - inside)
        return np.asarray(np.maximum(low - z, 0.0) + piece + self._tail[after])


@dataclass(frozen=True, eq=False)
class DemandCurve:
    """Mean demand between observed prices, by linear interpolation."""

    prices: Array
    means: Array

    def __call__(self, p: Any) -> Array:
        """Return the mean demand at prices p."""
        return np.interp(np.asarray(p, dtype=np.float64), self.prices, self.means)


def calibrate(df: Any, price: str, sales: str, stock: str) -> tuple[DemandCurve, ResidualNoise]:
    """Fit mean demand and noise to records; see ``PricingInventoryEnv.from_frame``."""
    from sklearn.isotonic import IsotonicRegression

    columns = {"price": price, "sales": sales, "stock": stock}
    p, sold, stocked = (_column(df, argument, name) for argument, name in columns.items())
    if not ((p >= 0.0) & (stocked >= 0.0)).all():
        raise ValueError(f"df must have non-negative {price!r} and {stock!r}")
    if (sold > stocked).any():
        raise ValueError(
            f"df must not have more {sales!r} than {stock!r}; row {np.argmax(sold > stocked)} has"
        )
    seen = sold < stocked
    prices = np.unique(p)
    hidden = np.setdiff1d(prices, p[seen])
    if prices.size < 2 or hidden.size:
        raise ValueError(
            f"df must have rows with less {sales!r} than {stock!r} at every {price!r}, and at least two "
            f"different ones; got prices {prices.tolist()}, of which {hidden.tolist()} always sold out"
        )
    regression = IsotonicRegression(increasing=False).fit(p[seen], sold[seen])
    curve = DemandCurve(prices, np.asarray(regression.predict(prices), dtype=np.float64))
    residuals = sold[seen] - curve(p[seen])
    if np.unique(residuals).size < 2:
        raise ValueError(f"df must have demand that varies around its mean; all of {sales!r} is on the curve")
    return curve, ResidualNoise(residuals)


def _column(df: Any, argument: str, name: str) -> Array:
    if not isinstance(df, Mapping) and not hasattr(df, "columns"):
        raise TypeError(f"df must be a DataFrame; got {type(df).__name__}")
    try:
        values = np.asarray(df[name], dtype=np.float64)
    except KeyError as error:
        raise ValueError(f"{argument} must be a column of df; got {name!r}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name!r} of df must hold numbers") from error
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"column {name!r} of df must hold finite numbers, at least one")
    return values
