"""What valuing in rounds returns: values of one round, and of all with the fate of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core.result import Result, transient

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RoundResult", "SequentialResult"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundResult(Result):
    """Values of the sources of one round.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Shapley values in the game of the round; they sum to ``utility_after - utility_before``.
    loo : ndarray of shape (n,)
        Leave-one-out values: utility of all sources less that of all but one.
    single : ndarray of shape (n,)
        What each source adds alone.
    stderr : ndarray of shape (n,)
        Monte Carlo standard errors of `values`; zeros where enumerated.
    utility_before, utility_after : float
        Utility of the model before the round, and after an update with all sources.
    n_evaluations : int
        Models evaluated, the one before the round included: at most 2^n.
    """

    values: NDArray[np.float64]
    loo: NDArray[np.float64]
    single: NDArray[np.float64]
    stderr: NDArray[np.float64]
    utility_before: float
    utility_after: float
    n_evaluations: int

    def to_frame(self) -> pd.DataFrame:
        """Return one row per source: value, stderr, loo, single."""
        columns = {"value": self.values, "stderr": self.stderr, "loo": self.loo, "single": self.single}
        return pd.DataFrame(columns)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the values of the sources as bars.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.bar``.

        Returns
        -------
        matplotlib Axes
        """
        ax = _axes(ax)
        ax.bar(np.arange(len(self.values)), self.values, **{"yerr": self.stderr, **options})
        ax.set_xlabel("source")
        ax.set_ylabel("value")
        return ax


@dataclass(frozen=True, kw_only=True, eq=False)
class SequentialResult(Result):
    """Values of all rounds, and what became of the model.

    Parameters
    ----------
    values : list of ndarray
        Scores of the sources of each round under `rule`.
    contributor_values : dict
        Sum of the scores of each contributor's sources.
    selected : list of ndarray of int
        Sources that updated the model, best first.
    utilities : ndarray of shape (T + 1,)
        Utility of the model before the first and after each round.
    n_evaluations : int
        Models evaluated in all.
    rule : str
    states : list, not saved
        The T + 1 models.
    """

    values: list[NDArray[np.float64]]
    contributor_values: dict[Any, float]
    selected: list[NDArray[np.int64]]
    utilities: NDArray[np.float64]
    n_evaluations: int
    rule: str
    states: list[Any] | None = transient()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per source and round: round, source, value, selected."""
        frames = [
            pd.DataFrame(
                {
                    "round": t,
                    "source": np.arange(len(values)),
                    "value": values,
                    "selected": np.isin(np.arange(len(values)), selected),
                }
            )
            for t, (values, selected) in enumerate(zip(self.values, self.selected))
        ]
        return pd.concat(frames, ignore_index=True)

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the utility of the model over the rounds.

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
        ax = _axes(ax)
        ax.plot(
            np.arange(len(self.utilities)), self.utilities, **{"marker": ".", "label": self.rule, **options}
        )
        ax.set_xlabel("rounds")
        ax.set_ylabel("utility")
        ax.legend()
        return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots()[1]
