"""Template: whole reductions. Few rows are cut into chunks that cores reduce side by side."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.graph.size import text
from mlpapers.kernels.sketch import Compute, For, Load, Store
from mlpapers.kernels.synthesis.body import Body
from mlpapers.kernels.synthesis.reductions import Accumulator, group_moments
from mlpapers.kernels.synthesis.rows import emit_row_values, row_statements

_CHUNKS = 16


def can_split(body: Body) -> bool:
    """Whether a region has too few rows for the cores and a single pass."""
    nest = body.domain.nest
    if nest.mode != "reduce" or not nest.starves() or not body.domain.closed:
        return False
    full = [m for m in nest.members if not nest.is_row(m) and body.node(m).kind != "reduce"]
    return all(nest.levels[m] == 0 for m in full) and all(
        nest.levels[m] == 1 for m in nest.members if body.node(m).kind == "reduce"
    )


def emit_split(body: Body, number: int) -> list[Any]:
    """Return the loops of a whole reduction: chunks in parallel, then their merge.

    Parameters
    ----------
    body : Body
    number : int
        Place of the region; names its constexprs ``TILE`` and ``CHUNK``.

    Returns
    -------
    statements : list
    """
    domain, program = body.domain, body.program
    kept, closed = domain.kept, domain.closed
    axis = max(closed, key=lambda other: int(other.size))
    chunk = f"CHUNK{number}"
    step = 1 if axis is not closed[-1] else 4096
    while step * _CHUNKS < int(axis.size):
        step *= 2
    program.constexprs[chunk] = step
    for other in kept:
        body.index[other.name] = other.name
    reduces = [m for m in domain.nest.members if body.node(m).kind == "reduce"]
    accumulators = [Accumulator(body, group, (), True) for group in group_moments(body, reduces)]
    # In the chunk's own name, so that the partial results fit whatever the knob is set to.
    count = f"(({text(axis.size)}) + {chunk} - 1) // {chunk}"

    inside = row_statements(
        body, closed, (), number, {axis.name: ("c", f"min(c+{chunk}, {text(axis.size)})")}
    )
    # The values of a chunk are not the row's: what follows the reductions belongs to the merge.
    last = max(k for k, statement in enumerate(inside) if isinstance(statement, For))
    inside = inside[: last + 1]
    merge: list[Any] = []
    stores: list[Any] = []
    for accumulator in accumulators:
        merge += accumulator.allocs()
    loads: list[Any] = []
    for accumulator in accumulators:
        names = []
        for name, dtype, _ in accumulator.parts:
            partial = program.fresh("part")
            place = ("c//" + chunk, *(other.name for other in kept))
            program.temps.append((partial, (count, *(text(other.size) for other in kept)), dtype))
            stores.append(Store(name, partial, place))
            names.append(program.fresh("b"))
            loads.append(Load(partial, ("c", *(other.name for other in kept)), names[-1]))
        loads.append(Compute(accumulator.merge, tuple(names), tuple(part[0] for part in accumulator.parts)))
    merge.append(For("c", "0", count, "1", (), tuple(loads)))
    for accumulator in accumulators:
        accumulator.finish(merge)
    for member in reduces:
        body.store(member, merge)
    for level in range(2):
        emit_row_values(body, level, merge)
    first: list[Any] = [*inside, *stores]
    for other in reversed(kept):
        first = [For(other.name, "0", text(other.size), "1", (), tuple(first))]
        merge = [For(other.name, "0", text(other.size), "1", (), tuple(merge))]
    chunks = For("c", "0", text(axis.size), chunk, (("parallel", "coreidx"),), tuple(first))
    return [chunks, *merge]
