"""Values of points with the uncertainty that the choice of the sample leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["UStatisticResult"]


@dataclass(frozen=True, kw_only=True, eq=False)
class UStatisticResult(Result):
    """Values of points with the uncertainty that the choice of the sample leaves.

    Parameters
    ----------
    values : ndarray of shape (n_new,)
        Estimates, in units of the utility.
    stderr : ndarray of shape (n_new,)
        Square roots of the estimated variance V.
    ci_low, ci_high : ndarray of shape (n_new,)
        Two-sided normal interval of level `confidence`.
    zeta1, zeta_tot : ndarray of shape (n_new,)
        The two parts of V: variance that one sample point decides, and variance of the kernel.
    clipped : ndarray of shape (n_new,) of bool
        Whether the estimate of `zeta1` was negative and set to 0.
    confidence : float
        Level of the interval.
    subset_size : int
        s: the values are those in a market of s + 1 points.
    players : pandas.Index of length n_new, optional
        Names of the points: the index of a DataFrame `X_new`.
    """

    values: NDArray[np.float64]
    stderr: NDArray[np.float64]
    ci_low: NDArray[np.float64]
    ci_high: NDArray[np.float64]
    zeta1: NDArray[np.float64]
    zeta_tot: NDArray[np.float64]
    clipped: NDArray[np.bool_]
    confidence: float
    subset_size: int
    players: pd.Index | None = None

    def __len__(self) -> int:
        return len(self.values)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per point: value, stderr, ci_low, ci_high, zeta1, zeta_tot, clipped."""
        names = ("value", "stderr", "ci_low", "ci_high", "zeta1", "zeta_tot", "clipped")
        columns = (getattr(self, "values" if name == "value" else name) for name in names)
        return pd.DataFrame(dict(zip(names, columns)), index=self.players)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the values with their intervals, lowest first.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.errorbar``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        order = np.argsort(self.values, kind="stable")
        reach = np.stack([self.values - self.ci_low, self.ci_high - self.values])[:, order]
        ax.errorbar(np.arange(len(order)), self.values[order], yerr=reach, **{"fmt": ".", **options})
        ax.axhline(0.0, color="0.6", linewidth=0.8)
        ax.set_xlabel("point, lowest value first")
        ax.set_ylabel(f"value, {self.confidence:.0%} interval")
        return ax
