"""Where plots are drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes(ax: Axes | None) -> Axes:
    """Return `ax`, or the axes of a new figure where it is None."""
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    made: Axes = plt.subplots()[1]
    return made
