"""What running a policy returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mlpapers.bandits.oracle import check_periods
from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RegretResult"]

Array = NDArray[np.float64]

_KINDS = ("regret", "average", "path", "cells")


@dataclass(frozen=True, kw_only=True, eq=False)
class RegretResult(Result):
    """The regret of a policy over R replications.

    Attributes
    ----------
    policy, env : str
    horizon : int
    times : ndarray of shape (G,) of int
        Checkpoints, evenly spread on the logarithmic axis, the last one the horizon.
    regret : ndarray of shape (R, G)
        Cumulative regret at the checkpoints.
    final_regret : ndarray of shape (R,)
    n_queries : ndarray of shape (R,) of int
        Comparisons made.
    x_final : ndarray of shape (R, d)
        Recommended points.
    trace_ : DataFrame
        Every comparison of the first replication: period at its end, phase, x, x', n, diff, width, cells.
    details : tuple of dict of ndarrays
        What the policy reports of each replication, e.g. ``cells_path`` (phase, period, n, cells) and
        ``surviving_cells``.
    wall_time : float
        Seconds.
    """

    policy: str
    env: str
    horizon: int
    times: NDArray[np.int64]
    regret: Array
    final_regret: Array
    n_queries: NDArray[np.int64]
    x_final: Array
    trace_: pd.DataFrame
    details: tuple[dict[str, Array], ...]
    wall_time: float

    @property
    def mean(self) -> Array:
        """Mean regret at the checkpoints, shape (G,)."""
        return self.regret.mean(axis=0)

    @property
    def average(self) -> Array:
        """Regret per period, R(t)/t, shape (R, G)."""
        return self.regret / self.times

    def confidence_interval(self, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return (low, high) of the mean regret by Student's t, each of shape (G,); NaN for R = 1."""
        confidence = check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
        R = len(self.regret)
        if R < 2:
            unknown = np.full(self.times.size, np.nan)
            return unknown, unknown.copy()
        half = stats.t.ppf(0.5 + 0.5 * confidence, R - 1) * self.regret.std(axis=0, ddof=1) / np.sqrt(R)
        return self.mean - half, self.mean + half

    def slope(self, t_min: int | None = None) -> float:
        """Return the least-squares slope of ln mean regret on ln t, from `t_min` on (default horizon/100).

        A run with a fixed horizon is tuned to it: the exponent of the regret is that of
        :func:`regret_exponent`, over separate runs.
        """
        start = max(1, self.horizon // 100) if t_min is None else check_periods(t_min, minimum=1)
        used = (self.times >= start) & (self.mean > 0.0)
        if np.count_nonzero(used) < 2:
            raise ValueError(f"t_min must leave two checkpoints with positive regret; got {t_min!r}")
        return float(np.polyfit(np.log(self.times[used]), np.log(self.mean[used]), 1)[0])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per replication and checkpoint: replication, t, regret, average.

        Returns
        -------
        pandas.DataFrame
        """
        R, G = self.regret.shape
        return pd.DataFrame(
            {
                "replication": np.repeat(np.arange(R), G),
                "t": np.tile(self.times, R),
                "regret": self.regret.ravel(),
                "average": self.average.ravel(),
            }
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the regret.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            ``kind``: "regret" (default, mean and 95 % band), "average" (regret per period), "path" (first
            coordinate of the compared points), "cells" (cells that survive); the others go to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        ValueError
            For an unknown kind, or "cells" where the policy has none.
        """
        kind = check_choice("kind", options.pop("kind", "regret"), _KINDS)
        paths = [detail["cells_path"] for detail in self.details if "cells_path" in detail]
        if kind == "cells" and not paths:
            raise ValueError(f"kind='cells' needs a policy with cells; {self.policy} has none")
        ax = new_axes(ax)
        if kind == "cells":
            for path in paths:
                ax.step(path[:, 1], path[:, 3], where="post", **options)
            ax.set(xscale="log", yscale="log", ylabel="cells that survive")
        elif kind == "path":
            for name in ("x", "x_prime"):
                ax.plot(self.trace_["t"], [x[0] for x in self.trace_[name]], ".", label=name, **options)
            ax.set(ylabel="first coordinate")
            ax.legend()
        else:
            scale = self.times if kind == "average" else 1.0
            low, high = self.confidence_interval()
            (line,) = ax.plot(self.times, self.mean / scale, **{"label": self.policy, **options})
            ax.fill_between(self.times, low / scale, high / scale, color=line.get_color(), alpha=0.2)
            ax.set(xscale="log", ylabel="regret per period" if kind == "average" else "cumulative regret")
            if (self.mean > 0.0).all():
                ax.set_yscale("log")
        ax.set(xlabel="period", title=f"{self.policy} on {self.env}")
        return ax
