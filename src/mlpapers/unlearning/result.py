"""What a removal returns."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["UnlearningResult"]


@dataclass(frozen=True, kw_only=True, eq=False)
class UnlearningResult(Result):
    """The receipt of one request.

    Residuals, bounds and gaps describe the secret parameters: do not publish them with the model.

    Attributes
    ----------
    request_id : str
    indices : ndarray of shape (k,) of int
        Original numbers of the rows removed, in the order of the request; empty after ``reanchor``.
    n_removed, n_remaining : int
    action : {"newton", "descent", "exact", "reanchor", "retrain"}
        What the ladder ended with.
    certified : bool
        Whether the certificate is valid.
    epsilon, delta : float
        What was asked for.
    epsilon_spent : float
        What the bounds prove at this delta; infinite without noise unless the removal was exact.
    residual_norm : float
        Exact gradient norm where it was computed, else NaN.
    residual_bound, residual_budget, budget_left : float
        Bound on the gradient norm, what the noise pays for, and the difference.
    parameter_gap_bound, gap_budget : float
        Bound on the distance to the retrained parameters; its budget (output perturbation only, else NaN).
    noise_scale : float
    perturbation : str
    step_norm : float
        Distance that the parameters moved.
    weight_removed : float
        Sum of the weights of the removed rows before the request.
    jacobian_slack : float
        Log-Jacobian bound of this removal, NaN where the Hessian was stale or the map is another one.
    scope : str
        See :class:`Certificate`.
    seconds : float
        Time of the removal; writing the log and the state is not in it.
    """

    request_id: str
    indices: NDArray[np.int64]
    n_removed: int
    n_remaining: int
    action: str
    certified: bool
    epsilon: float
    delta: float
    epsilon_spent: float
    residual_norm: float
    residual_bound: float
    residual_budget: float
    budget_left: float
    parameter_gap_bound: float
    gap_budget: float
    noise_scale: float
    perturbation: str
    step_norm: float
    weight_removed: float
    jacobian_slack: float
    scope: str
    seconds: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row with every number; indices are in the column "indices" as a tuple.

        Returns
        -------
        pandas.DataFrame
        """
        row: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        row["indices"] = tuple(int(index) for index in self.indices)
        return pd.DataFrame([row])

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the residual, its bound and its budget as bars on a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.barh``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        bars = {
            "exact residual": self.residual_norm,
            "residual bound": self.residual_bound,
            "residual budget": self.residual_budget,
            "gap bound": self.parameter_gap_bound,
            "gap budget": self.gap_budget,
        }
        # A logarithmic axis has no zero; what is below the smallest normal number is drawn there.
        shown = {name: max(value, 1e-300) for name, value in bars.items() if math.isfinite(value)}
        ax.barh(list(shown), list(shown.values()), **options)
        ax.set_xscale("log")
        ax.invert_yaxis()
        ax.set_title(f"{self.request_id}: {self.n_removed} rows, {self.action}")
        return ax
