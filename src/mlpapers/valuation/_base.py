"""The attributes and views that every fitted valuer carries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpapers.core.validation import check_matrix
from mlpapers.valuation.result import ValuationResult, values_frame

__all__ = ["ValuerMixin", "row_names"]


class ValuerMixin:
    """Attributes and views common to every fitted valuer.

    Attributes
    ----------
    values_ : ndarray of shape (n,)
        Values in units of the utility.
    stderr_ : ndarray of shape (n,)
        Monte Carlo standard errors; zeros where the values are exact.
    groups_ : ndarray of shape (n,) of int
        Group codes ``0..T-1`` in order of precedence.
    group_values_ : ndarray of shape (T,)
        Sum of the values of each group.
    n_samples_ : int
        Number of training points.
    total_utility_, empty_utility_ : float
        Utility of all training points and of none.
    n_evaluations_ : int
        Number of utility evaluations; 0 for closed forms.
    converged_ : bool
        Whether the procedure reached its own tolerance; True for exact values.
    result_ : ValuationResult
        The same as one frozen object that can be saved.
    """

    values_: NDArray[np.float64]
    stderr_: NDArray[np.float64]
    groups_: NDArray[np.int64]
    group_values_: NDArray[np.float64]
    n_samples_: int
    total_utility_: float
    empty_utility_: float
    n_evaluations_: int
    converged_: bool
    result_: ValuationResult

    # Names of the players, as the next call of `_set_values` finds them.
    _players_named: pd.Index | None = None

    def _set_values(
        self,
        values: NDArray[np.float64],
        *,
        n_samples: int,
        total_utility: float,
        empty_utility: float,
        method: str,
        stderr: NDArray[np.float64] | None = None,
        groups: NDArray[np.int64] | None = None,
        n_evaluations: int = 0,
        converged: bool = True,
        meta: dict[str, Any] | None = None,
    ) -> None:
        """Set every common attribute; `stderr` None means exact, `groups` None means one group."""
        self.values_ = values
        self.stderr_ = np.zeros_like(values) if stderr is None else stderr
        self.groups_ = np.zeros(len(values), dtype=np.int64) if groups is None else groups
        self.group_values_ = np.bincount(self.groups_, weights=values).astype(np.float64, copy=False)
        self.n_samples_ = int(n_samples)
        self.total_utility_ = float(total_utility)
        self.empty_utility_ = float(empty_utility)
        self.n_evaluations_ = int(n_evaluations)
        self.converged_ = bool(converged)
        self.result_ = ValuationResult(
            values=self.values_,
            stderr=self.stderr_,
            groups=self.groups_,
            method=method,
            meta=dict(meta or {}),
            players=self._players_named,
        )

    def _check_points(
        self, name: str, X: Any, *, reset: bool = True, finite: bool | str = True
    ) -> NDArray[np.float64]:
        """Return rows as float64; `reset` notes their columns, else they must be those noted."""
        points = check_matrix(name, X, dtype=np.float64, order="C", estimator=self, ensure_all_finite=finite)
        validate_data(self, X, reset=reset, skip_check_array=True)
        return points

    def ranking(self) -> NDArray[np.int64]:
        """Return the indices of the players, most valuable first; ties by index.

        Returns
        -------
        ndarray of shape (n,) of int
        """
        check_is_fitted(self, "values_")
        return np.argsort(-self.values_, kind="stable").astype(np.int64, copy=False)

    def to_frame(self, confidence: float = 0.95) -> pd.DataFrame:
        """Return one row per player: index (its position), group, value, stderr, ci_low, ci_high.

        Parameters
        ----------
        confidence : float, default=0.95
            Level of the normal Monte Carlo interval; it has width zero where the values are exact.

        Returns
        -------
        pandas.DataFrame of n rows
            Under the index of `X` where that was a DataFrame, or the names of the sources; else 0..n-1.
        """
        check_is_fitted(self, "values_")
        return values_frame(self.values_, self.stderr_, self.groups_, confidence, self._players_named)


def row_names(X: Any) -> pd.Index | None:
    """Return the index of a DataFrame; None for one that only counts the rows, and for anything else."""
    if not isinstance(X, pd.DataFrame):
        return None
    index = X.index
    counts = isinstance(index, pd.RangeIndex) and index.equals(pd.RangeIndex(len(X))) and index.name is None
    return None if counts else index
