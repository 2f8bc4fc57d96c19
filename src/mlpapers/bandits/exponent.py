"""The exponent of the regret, measured over separate runs per horizon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlpapers.bandits.env import BanditEnv
from mlpapers.bandits.pairwise import PairwiseComparisonBandit
from mlpapers.bandits.policy import BanditPolicy
from mlpapers.bandits.proximal import InexactProximalGradient
from mlpapers.bandits.theory import theory_exponent
from mlpapers.bandits.tournament import TournamentLinUCB
from mlpapers.core._axes import new_axes
from mlpapers.core.parallel import spawn_seeds
from mlpapers.core.result import Result
from mlpapers.core.validation import check_int, check_real, check_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ExponentResult", "regret_exponent", "regret_slope"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExponentResult(Result):
    """The slope of ln regret on ln T.

    Attributes
    ----------
    policy, env : str
    horizons : ndarray of shape (H,) of int
    regret : ndarray of shape (H, R)
        Final regret of separate runs.
    slope, low, high : float
        Least squares on the means, with a percentile bootstrap interval over replications.
    confidence : float
        Of the interval.
    theory : float
        Exponent of the proven rate; NaN for policies without one.
    """

    policy: str
    env: str
    horizons: NDArray[np.int64]
    regret: Array
    slope: float
    low: float
    high: float
    confidence: float
    theory: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row per horizon: horizon, mean regret, its standard error, regret per period.

        Returns
        -------
        pandas.DataFrame
        """
        R = self.regret.shape[1]
        error = self.regret.std(axis=1, ddof=1) / np.sqrt(R) if R > 1 else np.full(len(self.horizons), np.nan)
        mean = self.regret.mean(axis=1)
        return pd.DataFrame(
            {"horizon": self.horizons, "regret": mean, "error": error, "average": mean / self.horizons}
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw mean regret against horizon with the fitted line.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.plot`` for the points.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        mean = self.regret.mean(axis=1)
        ax.plot(self.horizons, mean, **{"marker": "o", "linestyle": "none", "label": self.policy, **options})
        log_T = np.log(self.horizons)
        fitted = np.exp(np.log(mean).mean() + self.slope * (log_T - log_T.mean()))
        ax.plot(self.horizons, fitted, label=f"slope {self.slope:.3f} [{self.low:.3f}, {self.high:.3f}]")
        ax.set(xscale="log", yscale="log", xlabel="horizon", ylabel="regret")
        ax.legend()
        return ax


def regret_slope(
    horizons: ArrayLike,
    regret: ArrayLike,
    *,
    n_boot: int = 500,
    confidence: float = 0.95,
    random_state: Any = None,
) -> tuple[float, float, float]:
    """Return the least-squares slope of ln mean regret on ln horizon and its bootstrap interval.

    Parameters
    ----------
    horizons : array of shape (H,)
        At least two different ones.
    regret : array of shape (H, R)
        Replications of separate runs; the means must be positive.
    n_boot : int
        Resamples of the replications, independently per horizon.
    confidence : float
    random_state : int, Generator, RandomState or None

    Returns
    -------
    slope, low, high : float

    Examples
    --------
    >>> [round(number, 3) for number in regret_slope([100, 10000], [[10.0, 10.0], [100.0, 100.0]])]
    [0.5, 0.5, 0.5]
    """
    T, values = np.asarray(horizons, dtype=np.float64), np.asarray(regret, dtype=np.float64)
    if T.ndim != 1 or np.unique(T).size < 2 or not (T > 0.0).all():
        raise ValueError(f"horizons must be at least two different positive numbers; got {horizons!r}")
    if values.ndim != 2 or len(values) != T.size or values.shape[1] < 1 or not np.isfinite(values).all():
        raise ValueError(f"regret must be finite, of shape ({T.size}, R); got shape {values.shape}")
    if not (values.mean(axis=1) > 0.0).all():
        raise ValueError("regret must have positive means: a slope of logarithms is asked for")
    n_boot = check_int("n_boot", n_boot, minimum=1)
    confidence = check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
    rng = check_rng(random_state)
    log_T = np.log(T) - np.log(T).mean()
    weights = log_T / (log_T @ log_T)
    slope = float(weights @ np.log(values.mean(axis=1)))
    picks = rng.integers(0, values.shape[1], size=(n_boot, *values.shape))
    means = np.take_along_axis(values[None], picks, axis=2).mean(axis=2)
    # A resample of realised regrets may have a negative mean; it says nothing about an exponent.
    means = means[(means > 0.0).all(axis=1)]
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.log(means) @ weights, [tail, 100.0 - tail])
    return slope, float(low), float(high)


def regret_exponent(
    policy: BanditPolicy,
    env: BanditEnv,
    horizons: Sequence[int],
    *,
    n_replications: int = 20,
    n_boot: int = 500,
    confidence: float = 0.95,
    random_state: Any = None,
    n_jobs: int | None = None,
) -> ExponentResult:
    """Run a policy anew for every horizon and fit the exponent of its regret.

    One long run read at several t would not do: the policy depends on its horizon.

    Parameters
    ----------
    policy : BanditPolicy
    env : BanditEnv
    horizons : sequence of int
        At least two different ones.
    n_replications, n_boot : int
    confidence : float
    random_state : int, Generator, RandomState or None
    n_jobs : int or None

    Returns
    -------
    ExponentResult
    """
    if not isinstance(policy, BanditPolicy):
        raise TypeError(f"policy must be a BanditPolicy; got {type(policy).__name__}")
    if np.ndim(horizons) != 1:
        raise TypeError(f"horizons must be a sequence of integers; got {horizons!r}")
    lengths = [check_int("horizons", horizon, minimum=2) for horizon in horizons]
    if len(set(lengths)) < 2:
        raise ValueError(f"horizons must hold at least two different ones; got {lengths}")
    *seeds, boot = spawn_seeds(random_state, len(lengths) + 1)
    regret = np.stack(
        [
            policy.run(env, T, n_replications=n_replications, random_state=seed, n_jobs=n_jobs).final_regret
            for T, seed in zip(lengths, seeds)
        ]
    )
    slope, low, high = regret_slope(lengths, regret, n_boot=n_boot, confidence=confidence, random_state=boot)
    return ExponentResult(
        policy=type(policy).__name__,
        env=type(env).__name__,
        horizons=np.array(lengths, dtype=np.int64),
        regret=regret,
        slope=slope,
        low=low,
        high=high,
        confidence=confidence,
        theory=_theory(policy, env),
    )


def _theory(policy: BanditPolicy, env: BanditEnv) -> float:
    d = int(env.model.dim)
    if isinstance(policy, InexactProximalGradient):
        return theory_exponent(None, d)
    if isinstance(policy, TournamentLinUCB):
        return theory_exponent(policy.smoothness_order, d)
    if isinstance(policy, PairwiseComparisonBandit):
        return theory_exponent(None if policy.is_strongly_concave(env.hints) else policy.smoothness_order, d)
    return float("nan")
