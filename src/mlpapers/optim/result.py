"""What a run returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["STATUS", "FWResult"]

STATUS = (
    "tol reached",
    "target_fun reached",
    "max_queries used",
    "max_iter reached",
    "stopped by the callback",
)

_AXES = {"n_queries": "queries", "n_iter": "steps", "time": "seconds"}


@dataclass(frozen=True, kw_only=True, eq=False)
class FWResult(Result):
    """A minimiser over a constraint set, with what it cost and how well it is known.

    Attributes
    ----------
    x : ndarray or tensor of shape (d,)
        Of the kind of x0.
    fun : float or None
        f(x) from all n functions; None with ``certificate="none"``.
    gap : float or None
        Frank-Wolfe gap at x from full differences, with ``certificate="full"``.
    gap_estimate, gap_estimate_std : float
        The gap of the last gradient estimate, and the standard deviation of its error (NaN where the method
        keeps no ledger).
    error_variance : float
        Estimate of E|v - grad f|^2 at the end; NaN where the method keeps no ledger.
    n_queries : int
        Values of single f_i asked for by the method.
    n_queries_final : int
        Values for `fun` and `gap` at the end, and the one by which a resumed run knows its objective.
    n_lmo, n_iter, n_full_gradients : int
        Calls of the oracle for linear minimisation, steps, and passes over all functions and directions.
    max_queries_per_iter : int
        The dearest step after the first estimate.
    n_bad : int
        Values dropped because they were not finite.
    success : bool
        Whether `tol` or `target_fun` was reached, or everything allowed was used without either being set.
        Never where no difference of the objective was finite, or no f_i is at x. Without `tol` and
        `target_fun` it says that the run went as asked, not how near the minimum x is: look at `gap`
        (``certificate="full"``) or `gap_estimate` for that.
    status : int
        0 tol, or an exact estimate along which no direction descends (also without tol); 1 target_fun,
        2 max_queries, 3 max_iter, 4 callback.
    message, method : str
    history : structured ndarray
        iter, n_queries, fun (NaN where not asked), gap_estimate, V, rho, batch, step, stage.
    wall_time : ndarray
        Seconds since the start, one per row of `history`.
    active_set : tuple of ndarrays or None
        Vertices (k, d) and weights (k,) with x = weights @ vertices, for polytopes while k is small.
    random_state : int or None
        As given, where it was an int.
    """

    x: Any
    fun: float | None
    gap: float | None
    gap_estimate: float
    gap_estimate_std: float
    error_variance: float
    n_queries: int
    n_queries_final: int
    n_lmo: int
    n_iter: int
    n_full_gradients: int
    max_queries_per_iter: int
    n_bad: int
    success: bool
    status: int
    message: str
    method: str
    history: NDArray[Any]
    wall_time: NDArray[np.float64]
    active_set: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    random_state: int | None

    def to_frame(self) -> pd.DataFrame:
        """Return the history, one row per recorded step.

        Returns
        -------
        pandas.DataFrame
        """
        columns = {name: self.history[name] for name in self.history.dtype.names or ()}
        return pd.DataFrame({**columns, "seconds": self.wall_time})

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the estimated gap, and f where it is known.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            ``x``: "n_queries" (default), "n_iter" or "time"; the others go to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes
        """
        axis = check_choice("x", options.pop("x", "n_queries"), tuple(_AXES))
        ax = new_axes(ax)
        history = self.history
        where = self.wall_time if axis == "time" else history["iter" if axis == "n_iter" else axis]
        ax.plot(where, history["gap_estimate"], **{"label": f"{self.method}: estimated gap", **options})
        known = np.isfinite(history["fun"])
        if known.any():
            ax.plot(where[known], history["fun"][known], "k.", label="f")
        if (history["gap_estimate"] > 0.0).all() and len(history):
            ax.set_yscale("log")
        ax.set(xlabel=_AXES[axis], ylabel="estimated gap")
        ax.legend()
        return ax
