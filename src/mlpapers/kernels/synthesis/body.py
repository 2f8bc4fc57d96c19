"""Tile statements for the members of a nest; the loop templates decide where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlpapers.kernels.graph.ir import Node
from mlpapers.kernels.graph.regions import Partition
from mlpapers.kernels.graph.size import Size, text
from mlpapers.kernels.ops import COMPUTE, POINTWISE
from mlpapers.kernels.sketch import Compute, Load, Store, View
from mlpapers.kernels.synthesis.domain import Access, Axis, Domain

# A value that costs so much is kept for the next pass over the row instead of being computed again.
KEEP_COST = 10


@dataclass
class Program:
    """Declarations of a sketch in the making.

    Parameters
    ----------
    plan : Partition
    names : dict of int to str
        Tensor name of each node that lies in memory.
    views : dict of View to str
    temps : list of (name, dims, dtype)
        Further buffers (partial results).
    constexprs : dict of str to int
    options : dict
        Choices of the design: ``keep`` (row values between passes), ``side_by_side`` (short rows as columns).
    """

    plan: Partition
    names: dict[int, str] = field(default_factory=dict)
    views: dict[tuple[Any, ...], str] = field(default_factory=dict)
    temps: list[tuple[str, tuple[str, ...], str]] = field(default_factory=list)
    constexprs: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    counter: int = 0

    def view(self, base: str, dims: Sequence[Size], strides: Sequence[Size], offset: Size) -> str:
        """Return the name of a view, declared once."""
        key = (base, tuple(map(text, dims)), tuple(map(text, strides)), text(offset))
        return self.views.setdefault(key, f"v{len(self.views)}")

    def declared_views(self) -> tuple[View, ...]:
        """Return all views."""
        return tuple(
            View(name, base, dims, strides, offset)
            for (base, dims, strides, offset), name in self.views.items()
        )

    def fresh(self, prefix: str) -> str:
        """Return a new name."""
        self.counter += 1
        return f"{prefix}{self.counter}"


def literal(value: Any, dtype: str) -> str:
    """Return the text of a number."""
    if dtype == "b1":
        return "1" if value else "0"
    if isinstance(value, int) and dtype[0] in "iu":
        return text(value)
    if isinstance(value, int):
        return text(value) if type(value) is not int else repr(float(value))
    return repr(float(value))


@dataclass
class Body:
    """Emits the statements of one nest.

    Parameters
    ----------
    program : Program
    domain : Domain
    index : dict of str to str
        Axis name -> index text in the current loops (``p0``, ``r0:r0+TILE``).
    """

    program: Program
    domain: Domain
    index: dict[str, str] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)
    # Names of accumulators and row values that are not called after their member.
    renamed: dict[int, str] = field(default_factory=dict)

    def node(self, member: int) -> Node:
        """Return a node of the graph."""
        return self.program.plan.graph.nodes[member]

    def tile(self, member: int) -> str:
        """Return the name of a member's tile."""
        return self.renamed.get(member, f"t{member}")

    def place(self, access: Access, base: str) -> tuple[str, tuple[str, ...]]:
        """Return the view of an access and its index."""
        axes = [(axis, stride) for axis, stride in zip(self.domain.axes, access.strides) if stride != 0]
        dims = [axis.size for axis, _ in axes]
        strides = [stride for _, stride in axes]
        index = [self.index[axis.name] for axis, _ in axes]
        if access.indirect is not None:
            stride, size, where = access.indirect
            dims.append(size)
            strides.append(stride)
            inside = self.domain.nest.through_views(self.program.plan.graph, where)
            index.append(f"@{self.tile(inside[0])}" if inside is not None else f"@w{where}")
        return self.program.view(base, dims, strides, access.offset), tuple(index)

    def operand(self, member: int, slot: int, loaded: dict[Any, str], out: list[Any]) -> str:
        """Return the text of an operand, loading it where it lies in memory."""
        node = self.node(member)
        access = self.domain.loads.get((member, slot))
        if access is not None:
            counted = access.base < 0 or self.node(access.base).op == "iota"
            base = "iota" if counted else self.program.names[access.base]
            source, index = self.place(access, base)
            if (source, index) not in loaded:
                name = self.program.fresh("a")
                loaded[source, index] = name
                out.append(Load(source, index, name))
            return loaded[source, index]
        position = node.inputs[slot]
        base_node = self.program.plan.graph.base(position)
        if base_node.op == "scalar":
            return literal(base_node.attrs["value"], base_node.dtype)
        inside = self.domain.nest.through_views(self.program.plan.graph, position)
        assert inside is not None
        return self.tile(inside[0])

    def pointwise(self, member: int, loaded: dict[Any, str], out: list[Any]) -> None:
        """Emit an elementwise member (or an indirect load)."""
        node = self.node(member)
        if node.kind == "index":
            where = node.inputs[1]
            if (member, 1) in self.domain.loads:
                index = self.operand(member, 1, loaded, out)
                name = f"w{where}"
                if ("w", where) not in loaded:
                    loaded["w", where] = name
                    out.append(Compute("cast", (index,), (name,), "i64"))
            source, place = self.place(
                self.domain.loads[member, 0], self.program.names[self.domain.loads[member, 0].base]
            )
            out.append(Load(source, place, self.tile(member)))
            return
        operands = [self.operand(member, slot, loaded, out) for slot in range(len(node.inputs))]
        dtype = node.dtype if node.op == "cast" else COMPUTE[node.dtype]
        out.append(Compute(node.op, tuple(operands), (self.tile(member),), dtype))

    def store(self, member: int, out: list[Any]) -> None:
        """Emit the store of a member that other regions need."""
        access = self.domain.stores.get(member)
        if access is not None:
            target, index = self.place(access, self.program.names[access.base])
            out.append(Store(self.tile(member), target, index))

    def needed(self, targets: Iterable[int], stop: Iterable[int] = ()) -> list[int]:
        """Return the full members that targets need, in order; what only those in `stop` need is left out."""
        found: set[int] = set()
        stack = list(targets)
        halted = set(stop)
        nest = self.domain.nest
        while stack:
            member = stack.pop()
            if member in found or nest.is_row(member):
                continue
            found.add(member)
            if member in halted:
                continue
            for position in self.node(member).inputs:
                inside = nest.through_views(self.program.plan.graph, position)
                if inside is not None:
                    stack.append(inside[0])
        return [member for member in nest.members if member in found]

    def costly(self, member: int) -> bool:
        """Whether computing a member again costs more than keeping it."""
        node = self.node(member)
        return node.op in POINTWISE and POINTWISE[node.op].cost >= KEEP_COST

    def row_members(self, level: int) -> list[int]:
        """Return the elementwise members with one value per row that become known at a level."""
        nest = self.domain.nest
        return [
            member
            for member in nest.members
            if nest.levels[member] == level
            and self.node(member).kind in ("pointwise", "index")
            and nest.is_row(member)
        ]


def parallel(axis: Axis, body: Sequence[Any], step: str = "1", *more: tuple[str, str]) -> Any:
    """Return a parallel loop over an axis."""
    from mlpapers.kernels.sketch import For

    return For(axis.name, "0", text(axis.size), step, (("parallel", "coreidx"), *more), tuple(body))
