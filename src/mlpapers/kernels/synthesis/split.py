"""Template: whole reductions. Few rows are cut into chunks that cores reduce side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlpapers.kernels.dsl.launches import processor_chunk
from mlpapers.kernels.graph.size import Size, product, text
from mlpapers.kernels.sketch import Compute, For, Load, Store
from mlpapers.kernels.synthesis.body import Body, parallel
from mlpapers.kernels.synthesis.domain import Access, Axis, Domain
from mlpapers.kernels.synthesis.reductions import Accumulator, group_moments
from mlpapers.kernels.synthesis.rows import default_columns, emit_row_values, row_statements

_CHUNKS = 16
# Slabs on a device: programs in all, chunks of one row, fewest passes of a chunk, and columns of a tile.
_SLAB_PROGRAMS, _MOST_SLABS, _SHORTEST_SLAB, _SLAB_COLUMNS = 4096, 1024, 128, 128


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

    Where rows lie side by side in memory a chunk takes a tile of them.

    Parameters
    ----------
    body : Body
    number : int
        Place of the region; names its constexprs ``TILE`` (or ``COLS``) and ``CHUNK``.

    Returns
    -------
    statements : list
    """
    slab = _slab(body)
    return _Split(body, slab or body, number, slab is not None).emit()


def _slab(body: Body) -> Body | None:
    """Return the region with channels apart that lie innermost, be they kept or reduced in groups."""
    domain = body.domain
    if not body.program.options.get("side_by_side") or not domain.kept:
        return None
    if not domain.axes[-1].closed:
        return body
    if len(domain.axes) < 3 or domain.axes[-2].closed or len(domain.closed) < 2:
        return None
    nest = domain.nest
    if not nest.slabs or any(nest.is_row(m) and nest.levels[m] == 0 for m in nest.members):
        return None
    accesses = [access for (m, _), access in domain.loads.items() if not nest.is_row(m)]
    accesses += [access for m, access in domain.stores.items() if not nest.is_row(m)]
    inner = domain.axes[-1].size
    if any(access.strides[-2] != access.strides[-1] * inner for access in accesses):
        return None
    groups, members = domain.axes[-2:]
    channels = Axis(groups.name, groups.size * inner, False, groups.atoms + members.atoms)

    def joined(access: Access) -> Access:
        return replace(access, strides=[*access.strides[:-2], access.strides[-1]])

    merged = Domain(
        domain.nest,
        [*domain.axes[:-2], channels],
        {key: joined(access) for key, access in domain.loads.items()},
        {key: joined(access) for key, access in domain.stores.items()},
    )
    return Body(body.program, merged)


class _Split:
    """The two steps of a split reduction.

    Parameters
    ----------
    body : Body
        Of the merge, with the region's own rows.
    wide : Body
        Of the chunks, whose rows may be parts of those.
    number : int
    tiled : bool
        A chunk takes a tile of rows.
    """

    def __init__(self, body: Body, wide: Body, number: int, tiled: bool) -> None:
        self.body, self.wide, self.program, self.number = body, wide, body.program, number
        self.reduces = [m for m in body.domain.nest.members if body.node(m).kind == "reduce"]
        self.dims: tuple[str, ...] = ()
        if tiled:
            name = f"COLS{number}"
            self.program.constexprs[name] = default_columns(wide.domain.kept)
            self.dims = (name,)
        self.axis = max(wide.domain.closed, key=lambda other: int(other.size))
        self.chunk = f"CHUNK{number}"
        self.program.constexprs[self.chunk] = self._rows_of_slab() if tiled else self._step()
        # In the chunk's own name, so that the partial results fit whatever the knob is set to.
        self.count = f"(({text(self.axis.size)}) + {self.chunk} - 1) // {self.chunk}"
        # For each accumulator the names of its parts in memory and, loaded, in the merge.
        self.partials: list[tuple[Accumulator, list[tuple[str, str]]]] = []

    def _step(self) -> int:
        """Return the size of a chunk for a processor."""
        step = 1 if self.axis is not self.wide.domain.closed[-1] else 4096
        while step * _CHUNKS < int(self.axis.size):
            step *= 2
        return step

    def _rows_of_slab(self) -> int:
        """Return a chunk's size with which a device has some thousand programs, in a processor's unit."""
        kept = self.wide.domain.kept
        tiles = -(-int(kept[-1].size) // min(int(kept[-1].size), _SLAB_COLUMNS))
        programs = int(product(other.size for other in kept[:-1])) * tiles * int(self.axis.size)
        step = _SHORTEST_SLAB
        while step * _SLAB_PROGRAMS < programs or step * _MOST_SLABS < int(self.axis.size):
            step *= 2
        return processor_chunk(step)

    def emit(self) -> list[Any]:
        """Return the statements of both steps."""
        return [self._chunks(), *self._merge()]

    def _rows(self, body: Body, tiled: bool) -> tuple[str, ...]:
        """Set the index of a body's rows and return it."""
        kept = body.domain.kept
        for other in kept:
            body.index[other.name] = other.name
        if tiled:
            body.index[kept[-1].name] = f"{kept[-1].name}:{kept[-1].name}+{self.dims[0]}"
        return tuple(body.index[other.name] for other in kept)

    def _over_rows(self, body: Body, statements: list[Any], tiled: bool) -> list[Any]:
        for depth, other in enumerate(reversed(body.domain.kept)):
            if tiled and depth == 0:
                statements = [parallel(other, statements, self.dims[0])]
            else:
                statements = [For(other.name, "0", text(other.size), "1", (), tuple(statements))]
        return statements

    def _chunks(self) -> For:
        """Return the loop over chunks, which store what they have accumulated."""
        wide, axis, chunk = self.wide, self.axis, self.chunk
        rows = self._rows(wide, bool(self.dims))
        ranges = {axis.name: ("c", f"min(c+{chunk}, {text(axis.size)})")}
        groups = group_moments(wide, self.reduces)
        accumulators = [Accumulator(wide, group, self.dims, True) for group in groups]
        inside = row_statements(wide, wide.domain.closed, self.dims, self.number, ranges)
        # The values of a chunk are not the row's: what follows the reductions belongs to the merge.
        last = max(k for k, statement in enumerate(inside) if isinstance(statement, For))
        if wide is not self.body:
            self._forget_views(inside[last + 1 :])
        inside = inside[: last + 1]
        extents = tuple(text(other.size) for other in wide.domain.kept)
        for accumulator in accumulators:
            names = []
            for name, dtype, _ in accumulator.parts:
                partial = self.program.fresh("part")
                self.program.temps.append((partial, (self.count, *extents), dtype))
                inside.append(Store(name, partial, ("c//" + chunk, *rows)))
                names.append((partial, self.program.fresh("b")))
            self.partials.append((accumulator, names))
        first = self._over_rows(wide, inside, bool(self.dims))
        return For("c", "0", text(axis.size), chunk, (("parallel", "coreidx"),), tuple(first))

    def _forget_views(self, statements: list[Any]) -> None:
        """Undeclare the views of dropped statements, which are the last that were declared."""
        views = self.program.views
        dropped = {s.source for s in statements if isinstance(s, Load)}
        dropped |= {s.target for s in statements if isinstance(s, Store)}
        while views and next(reversed(views.values())) in dropped:
            views.popitem()

    def _merge(self) -> list[Any]:
        """Return the loops that join the chunks' accumulators and finish the rows, one by one."""
        body = self.body
        grouped = self.wide is not body
        rows = self._rows(body, False)
        merge: list[Any] = []
        loads: list[Any] = []
        for accumulator, partials in self.partials:
            merge += Accumulator(body, accumulator.members, (), True).allocs()
            for partial, name in partials:
                loads.append(Load(*self._partial(partial, rows, grouped), name))
            names = tuple(name for _, name in partials)
            loads.append(Compute(accumulator.merge, names, tuple(part[0] for part in accumulator.parts)))
        loop = For("c", "0", self.count, "1", (), tuple(loads))
        if grouped:
            members = body.domain.axes[-1]
            loop = For(members.name, "0", text(members.size), "1", (), (loop,))
        merge.append(loop)
        for accumulator, _ in self.partials:
            accumulator.finish(merge)
        for member in self.reduces:
            body.store(member, merge)
        for level in range(2):
            emit_row_values(body, level, merge)
        return self._over_rows(body, merge, False)

    def _partial(self, partial: str, rows: tuple[str, ...], grouped: bool) -> tuple[str, tuple[str, ...]]:
        """Return the source and index of a chunk's accumulator, which a group has for each of its members."""
        if not grouped:
            return partial, ("c", *rows)
        kept, members = self.body.domain.kept, self.body.domain.axes[-1]
        sizes: list[Size] = [*(other.size for other in kept), members.size]
        strides = [product(sizes[k + 1 :]) for k in range(-1, len(sizes))]
        extents = (self.count, *map(text, sizes))
        key = (partial, extents, tuple(map(text, strides)), "0")
        name = self.program.views.setdefault(key, f"v{len(self.program.views)}")
        return name, ("c", *rows, members.name)
