"""A claim's picture as SVG text: drawn once, the same bytes for the same drawing."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The colour of whatever the drawing leaves to the defaults (axes, ticks, labels). A page replaces it by its
# own text colour, so that a picture is readable on light and dark ground; other colours stay.
INK = "#1f2329"

_COLORS = ["#3a7fc1", "#dd7a33", "#3c9a63", "#c2507e", "#8568bd", "#a08a2c", "#2b9aa5", "#7d8590"]
_SIZE = (6.4, 3.6)

# matplotlib's settings belong to the process: two threads must not change them at the same time.
_LOCK = threading.Lock()


def draw_svg(draw: Callable[[Axes], Any], salt: str) -> str:
    """Return the SVG text of what ``draw(ax)`` draws.

    Parameters
    ----------
    draw : callable
        Called once with a fresh Axes on a transparent ground.
    salt : str
        Makes the ids inside the picture differ from those of other pictures, and be the same in every run.
    """
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.prop_cycle": cycler(color=_COLORS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": INK,
        "hatch.color": INK,
        "legend.frameon": False,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with _LOCK, mpl.rc_context(style):
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return text.getvalue()
