"""What a looped fit saw, loop by loop."""

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

__all__ = ["LoopResult"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class LoopResult(Result):
    """Risks and pseudo-labels along the loops of a :class:`LoopedClassifier`.

    Attributes
    ----------
    risks : ndarray of shape (loops + 1,)
        Mean 2 (1 - max_c P_ic) over unlabelled rows; a measure of doubt, not of error.
    entropy : ndarray of shape (loops + 1,)
        Mean entropy of the pseudo-labels, in nats.
    label_changes : ndarray of shape (loops + 1,), int
        Unlabelled rows whose most probable class differs from the loop before; 0 for loop 0.
    best_loop : int
        The loop whose model was kept.
    selection : str
    labeled_errors : ndarray of shape (2,)
        Error rates on held-out labelled rows of loop 0 and of the loops, where the guard looked; else NaN.
    """

    risks: Array
    entropy: Array
    label_changes: NDArray[np.int64]
    best_loop: int
    selection: str
    labeled_errors: Array

    def to_frame(self) -> pd.DataFrame:
        """Return one row per loop: loop, risk, entropy, label_changes, kept.

        Returns
        -------
        pandas.DataFrame
        """
        loops = np.arange(len(self.risks))
        return pd.DataFrame(
            {
                "loop": loops,
                "risk": self.risks,
                "entropy": self.entropy,
                "label_changes": self.label_changes,
                "kept": loops == self.best_loop,
            }
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the risk of every loop and mark the one that was kept.

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
        (line,) = ax.plot(np.arange(len(self.risks)), self.risks, **{"marker": ".", **options})
        if len(self.risks):
            ax.plot(self.best_loop, self.risks[self.best_loop], "o", color=line.get_color(), label="kept")
        ax.set(xlabel="loop", ylabel="risk on unlabelled rows")
        return ax
