"""What a valuation returns: values, their Monte Carlo error, and the order they were computed under."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ValuationResult", "values_frame"]


def values_frame(
    values: NDArray[np.float64],
    stderr: NDArray[np.float64],
    groups: NDArray[np.int64],
    confidence: float = 0.95,
    players: pd.Index | None = None,
) -> pd.DataFrame:
    r"""Tabulate the players with the normal interval :math:`\phi_i \pm z_{(1+c)/2}\, \mathrm{se}_i`.

    Parameters
    ----------
    values, stderr : ndarray of shape (n,)
        Values and their standard errors, in units of the utility.
    groups : ndarray of shape (n,)
        Group codes ``0..T-1``, in order of precedence.
    confidence : float, default=0.95
        Level of the interval, in (0, 1).
    players : pandas.Index of length n, optional
        Names of the players, the index of the table; 0..n-1 by default.

    Returns
    -------
    pandas.DataFrame with the columns index, group, value, stderr, ci_low, ci_high

    Raises
    ------
    ValueError
        If `confidence` is not in (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence!r}")
    half_width = float(ndtri(0.5 * (1.0 + confidence))) * stderr
    return pd.DataFrame(
        {
            "index": np.arange(len(values)),
            "group": groups,
            "value": values,
            "stderr": stderr,
            "ci_low": values - half_width,
            "ci_high": values + half_width,
        },
        index=players,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ValuationResult(Result):
    r"""Values of training points or sources.

    Parameters
    ----------
    values : ndarray of shape (n,)
        One value per player, in units of the utility (accuracy, negative squared error, ...).
    stderr : ndarray of shape (n,)
        Monte Carlo standard error of each value; zeros where the values are exact. It says how far the
        computation is from its own limit, not how much the values would change with other data.
    groups : ndarray of shape (n,) of int
        Group code ``0..T-1`` of each player, smaller = earlier; zeros for a symmetric valuation.
    method : str
        The procedure that computed the values, e.g. ``"knn"``, ``"exact"`` or ``"mc"``.
    meta : dict
        Everything else worth keeping. Monte Carlo results carry ``"n_permutations"``, the number of
        independent draws averaged (an antithetic pair is one draw), which `+` needs, and for `+` to check
        ``"seeds"``, those of the draws (parent, first, one past the last), and ``"game"``, a hash of the data
        and the settings of the utility; None where that is any function.
    players : pandas.Index of length n, optional
        Names of the players: the index of a DataFrame `X`, or the sources. To save a result they must be
        strings, numbers, times, periods, intervals, or tuples of them.

    Notes
    -----
    ``a + b`` pools two *independent* Monte Carlo results of the same game, of :math:`R_a` and :math:`R_b`
    draws, into what one run of :math:`R = R_a + R_b` draws would have returned [1]_:

    .. math::
        \phi = \frac{R_a \phi_a + R_b \phi_b}{R}, \qquad
        M_2 = M_{2,a} + M_{2,b} + \frac{R_a R_b}{R} (\phi_a - \phi_b)^2, \qquad
        \mathrm{se}^2 = \frac{M_2}{R (R-1)}.

    Runs of the same seed share draws, whatever their number, and are not independent. `+` raises a ValueError
    where two results, or those they were pooled from, have a draw in common, and where players, groups,
    method, data or the settings of the utility differ. What a result does not say is not checked: the game
    behind ``fit_game`` of a function, and the seeds of results that an earlier version saved.

    References
    ----------
    .. [1] Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American Statistician
       37 (1983), eq. 2.1.
    """

    values: NDArray[np.float64]
    stderr: NDArray[np.float64]
    groups: NDArray[np.int64]
    method: str
    meta: dict[str, Any] = field(default_factory=dict)
    players: pd.Index | None = None

    def __post_init__(self) -> None:
        if self.players is not None and len(self.players) != len(self.values):
            raise ValueError(f"players must name the {len(self.values)} values; got {len(self.players)}")
        if not len(self.values) == len(self.stderr) == len(self.groups):
            raise ValueError(
                "values, stderr and groups must have the same length, got "
                f"{len(self.values)}, {len(self.stderr)} and {len(self.groups)}"
            )

    def __len__(self) -> int:
        return len(self.values)

    def __add__(self, other: ValuationResult) -> ValuationResult:
        if not isinstance(other, ValuationResult):
            return NotImplemented
        draws = []
        for result in (self, other):
            if "n_permutations" not in result.meta:
                raise ValueError(
                    f"only Monte Carlo results can be pooled: a result of method {result.method!r} "
                    "has no 'n_permutations' in meta"
                )
            draws.append(int(result.meta["n_permutations"]))
        if self.method != other.method:
            raise ValueError(f"results of methods {self.method!r} and {other.method!r} cannot be pooled")
        if not np.array_equal(self.groups, other.groups):
            raise ValueError("results of different groups cannot be pooled: they value different games")
        if self.players is not None and other.players is not None and not self.players.equals(other.players):
            raise ValueError("results of different players cannot be pooled: they value different games")
        if np.any(self.stderr) and np.array_equal(self.values, other.values):
            raise ValueError(
                "the two results are the same run; pooling needs independent runs (other random_state)"
            )
        games = {result.meta.get("game") for result in (self, other)} - {None}
        if len(games) > 1:
            raise ValueError(
                "results of different data or utilities cannot be pooled: they value different games"
            )
        seeds = [*self.meta.get("seeds", ()), *other.meta.get("seeds", ())]
        if any(a[0] == b[0] and b[1] < a[2] for a, b in pairwise(sorted(seeds))):
            raise ValueError(
                "the two results share draws, those of the same seed; pooling needs independent runs "
                "(other random_state)"
            )
        meta = {**other.meta, **self.meta, "n_permutations": sum(draws)}
        if seeds:
            meta |= {"seeds": seeds, "game": next(iter(games), None)}

        n_a, n_b = draws
        n_draws = n_a + n_b
        second_moment = (self.values - other.values) ** 2 * (n_a * n_b / n_draws)
        for result, n in zip((self, other), draws):
            if n > 1:  # a single draw has no standard error to read its sum of squares from
                second_moment = second_moment + result.stderr**2 * (n * (n - 1))
        return ValuationResult(
            values=(n_a * self.values + n_b * other.values) / n_draws,
            stderr=np.sqrt(second_moment / (n_draws * (n_draws - 1.0))),
            groups=self.groups.copy(),
            method=self.method,
            meta=meta,
            players=other.players if self.players is None else self.players,
        )

    def to_frame(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return one row per player: index (its position), group, value, stderr, ci_low, ci_high.

        Parameters
        ----------
        confidence : float, default=0.95
            Level of the normal Monte Carlo interval.

        Returns
        -------
        pandas.DataFrame of n rows, under the names of the players where there are any
        """
        return values_frame(self.values, self.stderr, self.groups, confidence, self.players)

    def summary(self) -> str:
        """Return a short table: per group its size, its total, and its lowest and highest value.

        Returns
        -------
        str
        """
        head = f"{type(self).__name__}: {len(self)} values, method {self.method}"
        head += f", sum {math.fsum(self.values):.6g}, largest stderr {self.stderr.max(initial=0.0):.3g}"
        lines = [head, f"{'group':>6} {'size':>8} {'total':>12} {'lowest':>12} {'highest':>12}"]
        for group in np.unique(self.groups):
            members = self.values[self.groups == group]
            row = f"{group:>6} {len(members):>8} {math.fsum(members):>12.5g}"
            lines.append(row + f" {members.min():>12.5g} {members.max():>12.5g}")
        return "\n".join(lines)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the values in descending order, one curve per group, with 95 % Monte Carlo bands.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        frame = values_frame(self.values, self.stderr, self.groups)
        frame = frame.sort_values("value", ascending=False, kind="stable")
        for group, members in frame.groupby("group"):
            rank = np.arange(1, len(members) + 1)
            (line,) = ax.plot(rank, members["value"], **{"label": f"group {group}", **options})
            if members["stderr"].any():
                ax.fill_between(
                    rank,
                    members["ci_low"],
                    members["ci_high"],
                    color=line.get_color(),
                    alpha=0.2,
                    linewidth=0,
                )
        ax.axhline(0.0, color="0.6", linewidth=0.8)
        ax.set_xlabel("rank within the group")
        ax.set_ylabel("value")
        if frame["group"].nunique() > 1:
            ax.legend()
        return ax
