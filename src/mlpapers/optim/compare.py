"""Comparing solvers at equal queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.parallel import parallel_map
from mlpapers.core.result import Result
from mlpapers.core.validation import check_int
from mlpapers.optim.constraints._base import ConstraintSet
from mlpapers.optim.minimize import minimize_fw_zo

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SolverComparison", "compare_solvers"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SolverComparison(Result):
    """One run per method and random state.

    Attributes
    ----------
    method : tuple of str
        Names, one per run.
    random_state : ndarray of shape (runs,) of int
    fun : ndarray of shape (runs,)
        f at the end.
    n_queries, n_lmo, n_iter : ndarray of shape (runs,) of int
    seconds : ndarray of shape (runs,)
    """

    method: tuple[str, ...]
    random_state: NDArray[np.int64]
    fun: NDArray[np.float64]
    n_queries: NDArray[np.int64]
    n_lmo: NDArray[np.int64]
    n_iter: NDArray[np.int64]
    seconds: NDArray[np.float64]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per run.

        Returns
        -------
        pandas.DataFrame
        """
        return pd.DataFrame(
            {
                "method": list(self.method),
                "random_state": self.random_state,
                "fun": self.fun,
                "n_queries": self.n_queries,
                "n_lmo": self.n_lmo,
                "n_iter": self.n_iter,
                "seconds": self.seconds,
            }
        )

    def medians(self) -> pd.DataFrame:
        """Return the medians over random states, one row per method, best f first.

        Returns
        -------
        pandas.DataFrame
        """
        frame = self.to_frame().drop(columns="random_state")
        return frame.groupby("method").median().sort_values("fun")

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a profile: the share of runs of each method within tau of the best f for its random state.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.step``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        frame = self.to_frame()
        excess = frame["fun"] - frame.groupby("random_state")["fun"].transform("min")
        for name in dict.fromkeys(self.method):
            own = np.sort(excess[frame["method"] == name].to_numpy())
            share = np.arange(1, len(own) + 1) / len(own)
            ax.step(np.append(0.0, own), np.append(0.0, share), where="post", **{"label": name, **options})
        ax.set(xlabel="f above the best of the same random state", ylabel="share of runs")
        ax.set_xscale("symlog", linthresh=max(float(excess.max()) * 1e-6, 1e-300))
        ax.legend()
        return ax


def compare_solvers(
    fun: Any,
    x0: Any,
    constraint: ConstraintSet,
    methods: Sequence[str] | Mapping[str, Mapping[str, Any]],
    max_queries: int,
    random_states: Sequence[int],
    n_jobs: int | None = None,
) -> SolverComparison:
    """Run several methods from several random states with the same budget.

    Parameters
    ----------
    fun : FiniteSum or callable
    x0 : array of shape (d,) or None
    constraint : ConstraintSet
    methods : sequence of str, or mapping
        Names of methods; or name -> arguments of :func:`minimize_fw_zo`, whose "method" is the name by
        default.
    max_queries : int
        Budget of each run.
    random_states : sequence of int
    n_jobs : int or None
        Runs at the same time; results do not depend on it.

    Returns
    -------
    comparison : SolverComparison

    Raises
    ------
    TypeError, ValueError
        Where there is no method or no random state, or they are no sequences.

    Examples
    --------
    >>> from mlpapers.optim import L1Ball, LinearFiniteSum, compare_solvers, make_sparse_logistic
    >>> A, y, _ = make_sparse_logistic(50, 10, random_state=0)
    >>> loss = LinearFiniteSum(A, y, "logistic")
    >>> comparison = compare_solvers(loss, None, L1Ball(5.0), ["fd", "sfw"], 6000, random_states=[0, 1])
    >>> comparison.to_frame().groupby("method")["fun"].mean().round(2).to_dict()
    {'fd': 0.22, 'sfw': 0.22}
    """
    if not isinstance(methods, Iterable):
        raise TypeError(f"methods must be names of methods, or name -> arguments; got {methods!r}")
    settings: dict[str, dict[str, Any]] = (
        {name: dict(arguments) for name, arguments in methods.items()}
        if isinstance(methods, Mapping)
        else {name: {} for name in ([methods] if isinstance(methods, str) else methods)}
    )
    if not isinstance(random_states, Iterable):
        raise TypeError(f"random_states must be a sequence of integers; got {random_states!r}")
    seeds = [check_int("random_states", seed, minimum=0) for seed in random_states]
    if not settings:
        raise ValueError("methods must not be empty")
    if not seeds:
        raise ValueError("random_states must not be empty")
    tasks = [(name, {"method": name, **kw}, seed) for name, kw in settings.items() for seed in seeds]
    rows = parallel_map(_run_one, tasks, n_jobs=n_jobs, shared=(fun, x0, constraint, max_queries))
    columns = list(zip(*rows))
    return SolverComparison(
        method=tuple(name for name, _, _ in tasks),
        random_state=np.array([seed for _, _, seed in tasks]),
        fun=np.array(columns[0]),
        n_queries=np.array(columns[1]),
        n_lmo=np.array(columns[2]),
        n_iter=np.array(columns[3]),
        seconds=np.array(columns[4]),
    )


def _run_one(
    fun: Any, x0: Any, constraint: ConstraintSet, max_queries: int, task: tuple[str, dict[str, Any], int]
) -> tuple[float, int, int, int, float]:
    _, arguments, seed = task
    result = minimize_fw_zo(fun, x0, constraint, max_queries=max_queries, random_state=seed, **arguments)
    seconds = float(result.wall_time[-1]) if len(result.wall_time) else 0.0
    value = float("nan") if result.fun is None else result.fun
    return value, result.n_queries, result.n_lmo, result.n_iter, seconds
