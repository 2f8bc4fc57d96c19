"""A whole sketch from a graph: regions in order, each by its template, and the declarations around them."""

from __future__ import annotations

import re
from typing import Any

from mlpapers.kernels.graph.ir import Graph, Node
from mlpapers.kernels.graph.layout import Layout
from mlpapers.kernels.graph.regions import Partition, Region, partition
from mlpapers.kernels.graph.size import text
from mlpapers.kernels.sketch import Sketch, Symbol, Tensor
from mlpapers.kernels.synthesis.body import Body, Program
from mlpapers.kernels.synthesis.calls import library_call, window_call
from mlpapers.kernels.synthesis.domain import Domain, build_domain
from mlpapers.kernels.synthesis.pointwise import emit_pointwise
from mlpapers.kernels.synthesis.rows import emit_rows, reduces_columns
from mlpapers.kernels.synthesis.scans import emit_scan
from mlpapers.kernels.synthesis.split import can_split, emit_split

# Bytes of a fresh buffer from which huge pages are asked for.
HUGE_FROM = 4 << 20


def assemble(
    graph: Graph,
    name: str,
    host: str,
    arguments: list[str],
    *,
    fuse: bool = True,
    keep: bool = True,
    side_by_side: bool = False,
) -> Sketch:
    """Return the sketch of a graph.

    Parameters
    ----------
    graph : Graph
    name : str
    host : str
        Python text around the kernel.
    arguments : list of str
        Expression of each argument of ``forward``.
    fuse : bool
        Fuse regions; False gives every operation its own.
    keep : bool
        Keep costly row values between passes instead of computing them again.
    side_by_side : bool
        Reduce many short rows together, as the columns of a tile.

    Returns
    -------
    sketch : Sketch
    """
    return _Assembler(partition(graph, fuse=fuse), arguments, keep, side_by_side).run(name, host)


class _Assembler:
    def __init__(self, plan: Partition, arguments: list[str], keep: bool, side_by_side: bool) -> None:
        self.plan, self.graph, self.arguments = plan, plan.graph, arguments
        self.program = Program(plan, options={"keep": keep, "side_by_side": side_by_side})
        self.tensors: dict[str, Tensor] = {}
        self.picks: dict[int, list[Node]] = {}
        for node in self.graph.nodes:
            if node.op == "pick":
                self.picks.setdefault(node.inputs[0], []).append(node)
        self.stored = self._external()

    def _external(self) -> dict[int, set[int]]:
        """Return for each nest (by position) the members that lie in memory because others need them."""
        wanted = {self.graph.base(p).index for p in self.graph.outputs}
        wanted |= {self.graph.base(p).index for _, p in self.graph.updates} | set(self.plan.targets)
        self.readers: dict[int, int] = {}
        for region in self.plan.regions:
            found: set[int] = set()
            if region.nest is None:
                found = {self.graph.base(p).index for p in self.graph.nodes[region.node].inputs}
            else:
                for member in region.nest.members:
                    node = self.graph.nodes[member]
                    for slot, position in enumerate(node.inputs):
                        inside = region.nest.through_views(self.graph, position)
                        if inside is None or (node.kind == "index" and slot == 0):
                            found.add(self.graph.base(position).index)
            for base in found:
                self.readers[base] = self.readers.get(base, 0) + 1
            wanted |= found
        stored: dict[int, set[int]] = {}
        done: set[int] = set()
        for region in self.plan.regions:
            if region.nest is not None:
                stored[region.nest.position] = (set(region.nest.members) & wanted) - done
                done |= stored[region.nest.position]
        return stored

    def run(self, name: str, host: str) -> Sketch:
        self._leaves()
        body: list[Any] = []
        templates: list[str] = []
        for number, region in enumerate(self.plan.regions):
            statements, template = self._region(region, number)
            body += statements
            templates.append(template)
        results = tuple(self._reference(position) for position in self.graph.outputs)
        updates = tuple((key, self._reference(position)) for key, position in self.graph.updates)
        # Touching a large fresh buffer is dominated by page faults: huge pages save most of them.
        fresh = [self.graph.nodes[p].bytes for p in self.program.names if self.graph.nodes[p].kind != "leaf"]
        self.program.constexprs["HUGE"] = int(max(fresh, default=0) >= HUGE_FROM)
        for temp, dims, dtype in self.program.temps:
            self.tensors[temp] = Tensor(temp, dims, dtype, "temp")
        views = self.program.declared_views()
        if any(view.base == "iota" for view in views):
            self.tensors["iota"] = Tensor("iota", (), "i64", "index")
        inputs = {
            int(tensor.key.split(" ", 1)[0]): tensor.name
            for tensor in self.tensors.values()
            if tensor.role == "input"
        }
        symbols = tuple(
            Symbol(symbol, inputs[argument], dim) for symbol, (argument, dim) in self.graph.symbols.items()
        )
        return Sketch(
            re.sub(r"\W", "_", name) or "sketch",
            symbols,
            tuple(self.program.constexprs.items()),
            tuple(self.tensors.values()),
            views,
            tuple(body),
            results,
            self.graph.structure,
            updates,
            tuple(templates),
            host,
            tuple(self.graph.requires),
        )

    def _leaves(self) -> None:
        for argument, (name, position) in enumerate(self.graph.inputs):
            if position >= 0:
                self._declare(position, f"x_{name}", "input", f"{argument} {self.arguments[argument]}")
        for node in self.graph.nodes:
            if node.op == "state":
                self._declare(node.index, f"w{node.index}", "state", node.attrs["key"])
            elif node.op == "const":
                self._declare(node.index, f"c{node.index}", "const", repr(node.attrs["values"]))

    def _declare(self, position: int, name: str, role: str, key: str = "") -> str:
        node = self.graph.nodes[position]
        self.program.names[position] = name
        dims = [node.shape[d] for d in node.attrs.get("memory") or range(len(node.shape))]
        self.tensors[name] = Tensor(name, tuple(map(text, dims)), node.dtype, role, key)
        return name

    def _buffer(self, position: int) -> str:
        """Return the name of the tensor in which a node lies, declared when first needed."""
        if position in self.program.names:
            return self.program.names[position]
        returned = {self.graph.base(p).index for p in self.graph.outputs}
        role = "output" if position in returned else "temp"
        return self._declare(position, f"b{position}", role)

    def _reference(self, position: int) -> str:
        """Return the tensor or view behind a position."""
        base, layout = self.graph.layout(position)
        if layout is None:
            raise ValueError(f"node {position} has no strides")
        name = self._buffer(base.index)
        if "memory" not in base.attrs and layout == Layout.contiguous(base.shape):
            return name
        return self.program.view(name, layout.shape, layout.strides, layout.offset)

    def _region(self, region: Region, number: int) -> tuple[list[Any], str]:
        if region.nest is None:
            node = self.graph.nodes[region.node]
            if region.kind == "window":
                source = self.graph.nodes[node.inputs[0]]
                return [
                    window_call(node, source, self._dense(node.inputs[0]), self._buffer(node.index))
                ], "window"
            arguments = [self._reference(position) for position in node.inputs]
            picks = sorted(self.picks.get(node.index, []), key=lambda pick: pick.attrs["result"])
            results = []
            for k in range(max(node.attrs["results"], 1)):
                found = [pick for pick in picks if pick.attrs["result"] == k]
                results.append(self._buffer(found[0].index) if found else self._unused(node, k))
            if not picks:
                results = [self._buffer(node.index)]
            return [library_call(node, arguments, results)], "contraction" if node.attrs[
                "contraction"
            ] else "library"
        nest = region.nest
        domain = build_domain(self.plan, nest, sorted(self.stored[nest.position]))
        self._reuse(domain)
        for access in [*domain.loads.values(), *domain.stores.values()]:
            if access.base >= 0 and self.graph.nodes[access.base].op != "iota":
                self._buffer(access.base)
        body = Body(self.program, domain)
        if nest.mode == "scan":
            return emit_scan(body, number), "scan"
        if nest.mode == "pointwise":
            return emit_pointwise(body, number), "pointwise"
        if can_split(body):
            return emit_split(body, number), "whole_reduce"
        levels = max(nest.levels.values())
        columns = reduces_columns(body)
        full = any(
            nest.levels[m] > 0 and not nest.is_row(m) and self.graph.nodes[m].kind != "reduce"
            for m in nest.members
        )
        kind = "row" if levels > 1 or full else "reduce"
        return emit_rows(body, number), f"column_{kind}" if columns else kind

    def _unused(self, node: Node, result: int) -> str:
        name = f"unused{node.index}_{result}"
        self.tensors[name] = Tensor(name, (), node.dtype, "temp")
        return name

    def _dense(self, position: int) -> str:
        """Return the tensor of an operand that must be contiguous."""
        base, layout = self.graph.layout(position)
        if layout is None or not (layout.offset == 0 and Layout(layout.shape, layout.strides).is_contiguous):
            raise ValueError(f"operand {position} of a window must be contiguous")
        return self._buffer(base.index)

    def _reuse(self, domain: Domain) -> None:
        """Let the epilogue of a call write over the call's result where nobody else reads it.

        The store comes after every load of the same element, in the last pass; a fresh buffer would cost page
        faults and a second working set.
        """
        nest = domain.nest
        top = max(nest.levels.values(), default=0)
        returned = [
            self.graph.base(p).index for p in [*self.graph.outputs, *(p for _, p in self.graph.updates)]
        ]
        for member, store in domain.stores.items():
            if (
                store.base != member
                or nest.levels[member] < top
                or member in self.program.names
                or nest.is_row(member)
            ):
                continue
            for access in domain.loads.values():
                base = self.graph.nodes[access.base] if access.base >= 0 else None
                if base is None or base.op != "library" or access.base in returned:
                    continue
                alone = self.readers.get(base.index, 0) == 1
                every = all(
                    other.strides == store.strides and other.offset == store.offset and other.indirect is None
                    for other in domain.loads.values()
                    if other.base == base.index
                )
                whole = (
                    base.numel == self.graph.nodes[member].numel
                    and base.dtype == self.graph.nodes[member].dtype
                )
                same = base.stored == self.graph.nodes[member].stored
                if alone and every and whole and same and base.index in self.program.names:
                    self.program.names[member] = self.program.names[base.index]
                    break
