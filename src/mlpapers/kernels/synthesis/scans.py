"""Template: scans. Rows (or tiles of columns) in parallel, one running value per row."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.graph.size import text
from mlpapers.kernels.ops import COMPUTE, SCANS
from mlpapers.kernels.sketch import Alloc, Compute, For
from mlpapers.kernels.synthesis.body import Body, literal, parallel
from mlpapers.kernels.synthesis.rows import default_columns

DEFAULT_TILE = 4096


def emit_scan(body: Body, number: int) -> list[Any]:
    """Return the loops of a region with scans along one dim.

    Parameters
    ----------
    body : Body
    number : int
        Place of the region; names its constexprs ``TILE`` and ``COLS``.

    Returns
    -------
    statements : list
    """
    domain, nest = body.domain, body.domain.nest
    kept, closed = domain.kept, domain.closed
    columns = bool(kept) and not domain.axes[-1].closed
    for axis in domain.axes:
        body.index[axis.name] = axis.name
    tile, cols = f"TILE{number}", f"COLS{number}"
    dims: tuple[str, ...] = ()
    if columns:
        body.program.constexprs[cols] = default_columns(kept)
        body.index[kept[-1].name] = f"{kept[-1].name}:{kept[-1].name}+{cols}"
        dims = (cols,)
    elif closed:
        body.program.constexprs[tile] = DEFAULT_TILE
        body.index[closed[-1].name] = f"{closed[-1].name}:{closed[-1].name}+{tile}"
    inner: list[Any] = []
    statements: list[Any] = []
    loaded: dict[Any, str] = {}
    for member in nest.members:
        node = body.node(member)
        if node.kind == "scan":
            kind = COMPUTE[node.dtype]
            wide = "f64" if kind == "f32" and node.op in ("cumsum", "cumprod") else kind
            statements.append(
                Alloc(f"s{member}", dims, wide, ("accumulator", "fastest"), literal(SCANS[node.op], wide))
            )
            operand = body.operand(member, 0, loaded, inner)
            inner.append(Compute(f"scan_{node.op}", (operand,), (body.tile(member), f"s{member}"), kind))
        else:
            body.pointwise(member, loaded, inner)
        body.store(member, inner)
    for depth, axis in enumerate(reversed(closed)):
        step = tile if depth == 0 and not columns else "1"
        inner = [For(axis.name, "0", text(axis.size), step, (), tuple(inner))]
    statements += inner
    for depth, axis in enumerate(reversed(kept)):
        statements = [parallel(axis, statements, cols if columns and depth == 0 else "1")]
    return statements
