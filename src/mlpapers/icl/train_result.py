"""What training returns."""

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

__all__ = ["TrainResult"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainResult(Result):
    """Losses along a training run, and the best state.

    Attributes
    ----------
    losses : ndarray of shape (n_steps,)
        Loss of every step of the best run: of its batch, or of the population.
    model_state : dict of str to tensor
        Parameters of the best run; arrays after ``load``.
    best_loss : float
        Lowest loss: a mean over the last tenth of the steps where losses are those of batches.
    n_steps : int
    seconds : float
        Wall time of all runs.
    """

    losses: NDArray[np.float64]
    model_state: dict[str, Any]
    best_loss: float
    n_steps: int
    seconds: float

    def summary(self) -> str:
        """Return steps, seconds, losses, and the shapes of the parameters.

        Returns
        -------
        str
        """
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.model_state.items())
        return (
            f"{type(self).__name__}: {self.n_steps} steps in {self.seconds:.3g} s, "
            f"best loss {self.best_loss:.6g} (first {self.losses[0]:.6g}, "
            f"last {self.losses[-1]:.6g})\n  {shapes}"
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per step: step, loss.

        Returns
        -------
        pandas.DataFrame
        """
        return pd.DataFrame({"step": np.arange(1, len(self.losses) + 1), "loss": self.losses})

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the losses.

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
        ax.plot(np.arange(1, len(self.losses) + 1), self.losses, **options)
        ax.set(xlabel="step", ylabel="loss")
        return ax
