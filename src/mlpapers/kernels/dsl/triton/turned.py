"""Which launches read or write across what is contiguous, so that their tiles are transposed on the way."""

from __future__ import annotations

from dataclasses import replace

from mlpapers.kernels.dsl.launches import Launch
from mlpapers.kernels.sketch import Alloc, For, Load, Sketch, Store


def turned(sketch: Sketch, launch: Launch) -> Launch:
    """Return a launch with its axis `across` where it has one.

    Parameters
    ----------
    sketch : Sketch
    launch : Launch

    Returns
    -------
    launch : Launch
    """
    return replace(launch, across=_across(sketch, launch))


def _across(sketch: Sketch, launch: Launch) -> str:
    if not launch.columns or any(isinstance(s, For | Alloc) for s in launch.body):
        return ""
    views = {view.name: view for view in sketch.views}
    free = {axis.var for axis in launch.axes if axis.step == "1"}
    found = ""
    for s in launch.body:
        if not isinstance(s, Load | Store):
            continue
        if any(item.startswith("@") for item in s.index):
            return ""
        view = views.get(s.source if isinstance(s, Load) else s.target)
        steps = dict(zip(s.index, view.strides)) if view is not None else {}
        strided = any(
            item.startswith(f"{launch.columns}:") and step not in ("0", "1") for item, step in steps.items()
        )
        contiguous = [item for item, step in steps.items() if step == "1" and item in free]
        if strided and contiguous and not found:
            found = contiguous[0]
    return found
