"""Template: elementwise regions, one parallel nest over blocks of the innermost axis."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.graph.size import text
from mlpapers.kernels.sketch import For
from mlpapers.kernels.synthesis.body import Body

DEFAULT_TILE = 4096


def emit_pointwise(body: Body, number: int) -> list[Any]:
    """Return the loops of an elementwise region.

    Parameters
    ----------
    body : Body
    number : int
        Place of the region; names its constexpr ``TILE``.

    Returns
    -------
    statements : list
    """
    axes = body.domain.axes
    for axis in axes[:-1]:
        body.index[axis.name] = axis.name
    tile = f"TILE{number}"
    if axes:
        body.program.constexprs[tile] = DEFAULT_TILE
        body.index[axes[-1].name] = f"{axes[-1].name}:{axes[-1].name}+{tile}"
    statements: list[Any] = []
    loaded: dict[Any, str] = {}
    for member in body.domain.nest.members:
        body.pointwise(member, loaded, statements)
    for member in body.domain.nest.members:
        body.store(member, statements)
    for depth, axis in enumerate(reversed(axes)):
        hints: tuple[tuple[str, str], ...] = (("parallel", "coreidx"),)
        if depth == 0:
            hints = (*hints, ("vectorize", "simd"))
        statements = [
            For(axis.name, "0", text(axis.size), tile if depth == 0 else "1", hints, tuple(statements))
        ]
    return statements
