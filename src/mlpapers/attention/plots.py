"""Pictures of temperatures and of dilution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpapers.attention.statistics import AttentionStats
from mlpapers.core._axes import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_dilution", "plot_temperatures"]

_MAX_LABELS = 60


def plot_dilution(stats: AttentionStats, ax: Axes | None = None) -> Axes:
    """Draw the largest probability of a row against the number of visible keys, mean over heads, by layer.

    Parameters
    ----------
    stats : AttentionStats
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import torch
    >>> from mlpapers.attention import SelectiveTransformerLM, attention_statistics, plot_dilution
    >>> model = SelectiveTransformerLM(16, dim=8, num_layers=2, num_heads=2, random_state=0)
    >>> stats = attention_statistics(model, torch.arange(16)[None])
    >>> plot_dilution(stats).get_xlabel()
    'visible keys'
    """
    if not isinstance(stats, AttentionStats):
        raise TypeError(f"stats must be AttentionStats; got {type(stats).__name__}")
    ax = new_axes(ax)
    n_layers = len(stats.visible)
    for layer in range(n_layers):
        shade = 0.15 + 0.75 * layer / max(n_layers - 1, 1)
        label = {0: "first layer", n_layers - 1: "last layer"}.get(layer)
        ax.plot(
            stats.visible[layer], stats.top1_mass[layer].mean(0), color=(0.2, 0.45, 0.75, shade), label=label
        )
    ax.plot(stats.visible[0], 1.0 / stats.visible[0], "--", color="0.5", label="uniform")
    ax.set(xlabel="visible keys", ylabel="largest probability", xscale="log", yscale="log")
    ax.legend()
    return ax


def plot_temperatures(tokens: Sequence[str], tau: Any, ax: Axes | None = None) -> Axes:
    """Draw temperatures over a text as a heat-map.

    Parameters
    ----------
    tokens : sequence of str, length T
    tau : array-like of shape (T,) or (n, T)
        n rows: heads, or layers.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    rows = np.atleast_2d(np.asarray(tau, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] != len(tokens):
        raise ValueError(f"tau must have one column per token, {len(tokens)}; got shape {rows.shape}")
    ax = new_axes(ax)
    # Symmetric about 1, which is plain attention; differences below a hundredth stay pale.
    reach = max(float(np.nanmax(np.abs(rows - 1.0))), 0.01)
    picture = ax.imshow(rows, aspect="auto", cmap="RdBu_r", vmin=1.0 - reach, vmax=1.0 + reach)
    ax.figure.colorbar(picture, ax=ax, label="temperature")
    if len(tokens) <= _MAX_LABELS:
        ax.set_xticks(np.arange(len(tokens)), [_plain(token) for token in tokens], rotation=90, fontsize=7)
    else:
        ax.set_xlabel("token")
    return ax


def _plain(token: str) -> str:
    # A dollar sign would begin a formula.
    return token.replace("$", r"\$").replace("\n", "\\n")
