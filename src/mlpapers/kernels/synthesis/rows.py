"""Template: row programs. Each row passes once per chain of reductions, costly values kept in between.

Where the innermost axis is reduced, a row falls into one number and the vector runs along it; where it
stays, a
tile of columns is reduced side by side and the vector runs across them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.graph.size import Sym, product, text
from mlpapers.kernels.ops import COMPUTE
from mlpapers.kernels.sketch import Alloc, For, Load, Store
from mlpapers.kernels.synthesis.body import Body, parallel
from mlpapers.kernels.synthesis.domain import Axis
from mlpapers.kernels.synthesis.reductions import SHORT_SUM, Accumulator, group_moments, is_moment

DEFAULT_TILE = 4096
# Elements of a row (or a tile of columns) that are kept between passes: they stay in the second-level cache.
KEEP_ELEMENTS = 65536
_PARALLEL_UNITS = 8
# Rows up to this length are too little work for a program each where there are so many of them.
_SHORT_ROW, _MANY_ROWS, _TILE_OF_ROWS = 256, 4096, 32


def reduces_columns(body: Body) -> bool:
    """Return whether a tile of rows is reduced side by side instead of one row after the other.

    Parameters
    ----------
    body : Body

    Returns
    -------
    columns : bool
    """
    domain = body.domain
    if not domain.kept or not domain.axes[-1].closed:
        return bool(domain.kept)
    short = domain.nest.row_length() <= _SHORT_ROW
    many = domain.nest.rows() >= _MANY_ROWS and int(_rows_of(body)[-1].size) >= _TILE_OF_ROWS
    return bool(body.program.options.get("side_by_side")) and short and many


def _rows_of(body: Body) -> list[Axis]:
    """Return the axes of the rows, last that along which the columns of a tile are taken.

    Where rows are stored along their length but loaded across it, that is the axis along which the load is
    contiguous.
    """
    domain = body.domain
    kept = domain.kept
    if not domain.axes[-1].closed:
        return kept
    full = [access for access in domain.loads.values() if all(stride != 0 for stride in access.strides)]
    along = [axis for axis in kept if any(access.strides[domain.index(axis)] == 1 for access in full)]
    across = all(access.strides[-1] != 1 for access in full)
    if len(along) != 1 or not across:
        return kept
    return [*(axis for axis in kept if axis is not along[0]), along[0]]


def emit_rows(body: Body, number: int) -> list[Any]:
    """Return the loops of a row program.

    Parameters
    ----------
    body : Body
    number : int
        Place of the region; names its constexprs ``TILE`` and ``COLS``.

    Returns
    -------
    statements : list
    """
    columns = reduces_columns(body)
    kept, closed = _rows_of(body) if columns else body.domain.kept, body.domain.closed
    for axis in kept:
        body.index[axis.name] = axis.name
    dims: tuple[str, ...] = ()
    if columns:
        name = f"COLS{number}"
        body.program.constexprs[name] = default_columns(kept)
        body.index[kept[-1].name] = f"{kept[-1].name}:{kept[-1].name}+{name}"
        dims = (name,)
    statements = row_statements(body, closed, dims, number)
    for depth, axis in enumerate(reversed(kept)):
        tiled = columns and depth == 0
        statements = [parallel(axis, statements, f"COLS{number}" if tiled else "1")]
    return statements


def default_columns(kept: Sequence[Axis]) -> int:
    """Return a tile width that gives every core some tiles and every tile some vectors."""
    outer = int(product(axis.size for axis in kept[:-1]))
    if outer >= _PARALLEL_UNITS and int(kept[-1].size) <= 2048 and not isinstance(kept[-1].size, Sym):
        # Whole rows of memory, so that the passes are sequential reads.
        return -(-int(kept[-1].size) // 16) * 16
    wanted = int(kept[-1].size) * max(outer, 1) // _PARALLEL_UNITS
    width = 16
    while width < min(wanted, 512):
        width *= 2
    return width


def row_statements(
    body: Body,
    closed: Sequence[Axis],
    dims: tuple[str, ...],
    number: int,
    ranges: dict[str, Any] | None = None,
) -> list[Any]:
    """Return the statements for one row or one tile of columns: all passes, and what follows each."""
    nest = body.domain.nest
    length = int(product(axis.size for axis in closed))
    out: list[Any] = []
    emit_row_values(body, 0, out)
    full = [m for m in nest.members if body.node(m).kind in ("pointwise", "index") and not nest.is_row(m)]
    first: dict[int, int] = {}
    passes: list[tuple[list[int], list[int], set[int]]] = []
    width = body.program.constexprs.get(dims[0], 1) if dims else 1
    may_keep = body.program.options.get("keep", True) and length * width <= KEEP_ELEMENTS
    for level in range(max(nest.levels.values(), default=0) + 1):
        reduces = [m for m in nest.members if body.node(m).kind == "reduce" and nest.levels[m] == level + 1]
        stored = [m for m in full if m in body.domain.stores and nest.levels[m] == level]
        sources = [inside[0] for m in reduces if (inside := _inside(body, m))]
        stop = {m for m, when in first.items() if when < level and may_keep and body.costly(m)}
        needed = body.needed([*sources, *stored], stop)
        for member in needed:
            first.setdefault(member, level)
        passes.append((reduces, needed, stop & set(needed)))
    kept_members = set().union(*(reuse for _, _, reuse in passes)) if passes else set()
    for member in sorted(kept_members):
        extents = (*(text(axis.size) for axis in closed), *dims)
        dtype = COMPUTE[body.node(member).dtype]
        out.insert(0, Alloc(f"k{member}", extents, dtype, ("temp_workspace", "fast")))
    for level, (reduces, needed, reuse) in enumerate(passes):
        accumulators = [
            # A running mean that is rounded to single spoils the deviations of numbers far from 0.
            Accumulator(body, group, dims, not dims or length > SHORT_SUM or is_moment(body.node(group[0])))
            for group in group_moments(body, reduces)
        ]
        if needed or accumulators:
            for accumulator in accumulators:
                out += accumulator.allocs()
            inner = _pass(body, closed, dims, number, level, accumulators, needed, kept_members, reuse, first)
            out += _loops(closed, inner, dims, number, ranges or {})
        for accumulator in accumulators:
            accumulator.finish(out)
        for member in reduces:
            body.store(member, out)
        emit_row_values(body, level + 1, out)
    return out


def _inside(body: Body, member: int) -> Any:
    return body.domain.nest.through_views(body.program.plan.graph, body.node(member).inputs[0])


def emit_row_values(body: Body, level: int, out: list[Any]) -> None:
    """Emit the elementwise work of one value per row that a level makes possible."""
    loaded: dict[Any, str] = {}
    for member in body.row_members(level):
        body.pointwise(member, loaded, out)
        body.store(member, out)


def _pass(
    body: Body,
    closed: Sequence[Axis],
    dims: tuple[str, ...],
    number: int,
    level: int,
    accumulators: Sequence[Accumulator],
    needed: Sequence[int],
    kept_members: set[int],
    reuse: set[int],
    first: dict[int, int],
) -> list[Any]:
    """Return the statements inside the loops of one pass."""
    for axis in closed:
        body.index[axis.name] = axis.name
    if not dims:
        tile = f"TILE{number}"
        body.program.constexprs[tile] = DEFAULT_TILE
        body.index[closed[-1].name] = f"{closed[-1].name}:{closed[-1].name}+{tile}"
    place = (*(body.index[axis.name] for axis in closed), *([":"] if dims else []))
    out: list[Any] = []
    loaded: dict[Any, str] = {}
    for member in needed:
        if member in reuse:
            out.append(Load(f"k{member}", place, body.tile(member)))
            continue
        body.pointwise(member, loaded, out)
        if member in kept_members and first[member] == level:
            out.append(Store(body.tile(member), f"k{member}", place))
        if body.domain.nest.levels[member] == level:
            body.store(member, out)
    for accumulator in accumulators:
        accumulator.take(loaded, out)
    return out


def _loops(
    closed: Sequence[Axis], inner: Sequence[Any], dims: tuple[str, ...], number: int, ranges: dict[str, Any]
) -> list[Any]:
    """Wrap statements in the loops along a row; `ranges` narrows the bounds of an axis."""
    statements = list(inner)
    for depth, axis in enumerate(reversed(closed)):
        vector = depth == 0 and not dims
        low, high = ranges.get(axis.name, ("0", text(axis.size)))
        hints = (("vectorize", "simd"),) if vector else ()
        statements = [For(axis.name, low, high, f"TILE{number}" if vector else "1", hints, tuple(statements))]
    return statements
