"""Planes through the optimum of the exact losses, and the Hessian there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_int, check_real
from mlpapers.icl.landscape import one_layer_attention_loss, one_layer_optimal_loss, optimal_step_size
from mlpapers.icl.mixture import TaskMixture, paper_settings
from mlpapers.icl.prompt_theory import optimal_weights, prompt_loss, strategies

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LandscapeResult", "loss_landscape", "plot_landscape"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class LandscapeResult(Result):
    """An exact loss on the plane through its optimum that the softest and the stiffest direction span.

    Attributes
    ----------
    strategy : str
    soft, stiff : ndarray of shape (n_points,)
        Coordinates along the two directions, in lengths of the parameter vector.
    losses : ndarray of shape (n_points, n_points)
        Rows follow `stiff`, columns `soft`.
    optimal_loss : float
    eigenvalues : ndarray
        Of the Hessian at the optimum, increasing; a loss that scales parameters against each other has
        zeros.
    """

    strategy: str
    soft: Array
    stiff: Array
    losses: Array
    optimal_loss: float
    eigenvalues: Array

    @property
    def condition(self) -> float:
        """Largest eigenvalue of the Hessian by the smallest that is not zero (above 1e-10 of the largest)."""
        kept = self.eigenvalues[self.eigenvalues > 1e-10 * self.eigenvalues[-1]]
        return float(kept[-1] / kept[0])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per point of the plane: soft, stiff, loss.

        Returns
        -------
        pandas.DataFrame
        """
        soft, stiff = np.meshgrid(self.soft, self.stiff)
        return pd.DataFrame({"soft": soft.ravel(), "stiff": stiff.ravel(), "loss": self.losses.ravel()})

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw contours of the excess loss, on a logarithmic scale.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.contour``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        excess = np.maximum(self.losses - self.optimal_loss, 0.0)
        floor = max(1e-12, float(excess[excess > 0.0].min(initial=np.inf))) if (excess > 0.0).any() else 1e-12
        ax.contour(self.soft, self.stiff, np.log10(np.maximum(excess, floor)), **{"levels": 12, **options})
        ax.plot(0.0, 0.0, "k+")
        ax.set(
            xlabel="softest direction", ylabel="stiffest direction", title=f"{self.strategy}: log10 excess"
        )
        return ax


def loss_landscape(
    strategy: str,
    *,
    mixture: TaskMixture | None = None,
    n_context: int = 20,
    n_features: int = 5,
    p: float = 0.2,
    sigma: float = 1.0,
    span: float = 0.5,
    n_points: int = 41,
) -> LandscapeResult:
    """Evaluate an exact loss on a plane through its optimum.

    Parameters
    ----------
    strategy : str
        One of :func:`strategies`, or "one_layer" for :func:`one_layer_attention_loss`.
    mixture : TaskMixture, optional
        Of the prompt strategies; by default the published setting "mean-0.4_c11".
    n_context : int, default=20
    n_features : int, default=5
        Of "one_layer".
    p, sigma : float
        Share of labels and noise of "one_layer".
    span : float, default=0.5
        Half the width of the plane, in lengths of the parameter vector.
    n_points : int, default=41
        Points per side.

    Returns
    -------
    result : LandscapeResult

    Raises
    ------
    ValueError, TypeError
        For an unknown strategy, which the message lists, or an argument out of range.
    """
    check_choice("strategy", strategy, (*strategies(), "one_layer"))
    n = check_int("n_context", n_context, minimum=1)
    span = check_real("span", span, low=0.0, closed="neither")
    n_points = check_int("n_points", n_points, minimum=3)
    if strategy == "one_layer":
        loss, optimum, best = _one_layer(n, p, sigma, check_int("n_features", n_features, minimum=1))
    else:
        chosen = paper_settings()["mean-0.4_c11"][0] if mixture is None else mixture
        loss, optimum, best = _prompts(strategy, chosen, n)
    import torch

    point = torch.from_numpy(optimum)
    hessian = torch.autograd.functional.hessian(loss, point).numpy()
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2.0)
    curved = int(np.argmax(values > 1e-10 * values[-1]))
    size = float(np.linalg.norm(optimum)) or 1.0
    grid = np.linspace(-span, span, n_points)
    directions = torch.from_numpy(size * np.ascontiguousarray(vectors[:, [curved, -1]].T))
    with torch.no_grad():
        rows = [[float(loss(point + u * directions[0] + v * directions[1])) for u in grid] for v in grid]
    return LandscapeResult(
        strategy=strategy,
        soft=grid,
        stiff=grid.copy(),
        losses=np.array(rows),
        optimal_loss=best,
        eigenvalues=values,
    )


def plot_landscape(strategy: str, *, ax: Axes | None = None, **options: Any) -> Axes:
    """Draw the plane of :func:`loss_landscape`.

    Parameters
    ----------
    strategy : str
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    **options
        Passed to :func:`loss_landscape`.

    Returns
    -------
    matplotlib Axes
    """
    return loss_landscape(strategy, **options).plot(ax)


def _one_layer(n: int, p: float, sigma: float, d: int) -> tuple[Callable[[Any], Any], Array, float]:
    def loss(theta: Any) -> Any:
        Wb = theta[: d * d].reshape(d, d)
        w1, h1, h0 = theta[d * d : d * d + d], theta[d * d + d : d * d + 2 * d], theta[-1]
        return one_layer_attention_loss(Wb, w1, h1, h0, n=n, p=p, sigma=sigma)

    # W_b and h_0 are determined up to a factor between them: equal norms are the balanced choice.
    step = optimal_step_size(n, p, sigma, d)
    scale = np.sqrt(step * np.sqrt(d))
    Wb = np.eye(d) * (step / scale if scale else 0.0)
    optimum = np.concatenate([Wb.ravel(), np.zeros(2 * d), [scale]])
    return loss, optimum, one_layer_optimal_loss(n, p, sigma, d)


def _prompts(strategy: str, mixture: TaskMixture, n: int) -> tuple[Callable[[Any], Any], Array, float]:
    best = optimal_weights(mixture, n, strategy)
    K, d = mixture.means.shape
    tuned = strategy.startswith("finetune_")
    free = {
        "W": not tuned,
        "prompts": "prompt" in strategy,
        "heads": strategy != "shared_head" and "head" in strategy,
        "shared": strategy == "shared_head",
    }
    blocks = {"W": best.W, "prompts": best.prompts, "heads": best.heads, "shared": best.heads[:1]}
    shapes = {name: blocks[name].shape for name, used in free.items() if used}

    def loss(theta: Any) -> Any:
        import torch

        parts = {name: torch.from_numpy(np.array(value)) for name, value in blocks.items()}
        start = 0
        for name, shape in shapes.items():
            parts[name] = theta[start : start + shape[0] * shape[1]].reshape(shape)
            start += shape[0] * shape[1]
        heads = parts["shared"].expand(K, d) if free["shared"] else parts["heads"]
        return prompt_loss(parts["W"], parts["prompts"], heads, mixture, n)

    return loss, np.concatenate([blocks[name].ravel() for name in shapes]), best.loss
