"""The graph of a task in our own few operations, built with common subexpressions shared."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlpapers.kernels.graph.layout import Layout
from mlpapers.kernels.graph.size import Size, Sym, make_size, product, text
from mlpapers.kernels.ops import DTYPE_BYTES, POINTWISE, REDUCTIONS, SCANS

VIEWS = ("permute", "reshape", "expand", "slice", "flip")
LEAVES = ("input", "state", "const", "scalar", "iota")
# An elementwise result that is gathered is computed of gathered operands if so many times fewer are wanted.
_FEW = 4


class UnsupportedOp(ValueError):
    """No template covers an operation of the graph; the message lists the operations."""


@dataclass(frozen=True)
class Node:
    """One value of the graph.

    Parameters
    ----------
    index : int
        Position in the graph; inputs of a node come before it.
    op : str
    inputs : tuple of int
    attrs : dict
    shape : tuple of int or Sym
    dtype : str
    """

    index: int
    op: str
    inputs: tuple[int, ...]
    attrs: dict[str, Any]
    shape: tuple[Size, ...]
    dtype: str

    @property
    def kind(self) -> str:
        """One of leaf, view, pointwise, reduce, scan, index, move, window, contraction, library."""
        if self.op in LEAVES:
            return "leaf"
        if self.op in VIEWS:
            return "view"
        if self.op in POINTWISE or self.op == "cast":
            return "pointwise"
        if self.op in REDUCTIONS:
            return "reduce"
        if self.op in SCANS:
            return "scan"
        return {"gather": "index", "cat": "move", "pad": "move", "pool": "window"}.get(self.op, "library")

    @property
    def numel(self) -> Size:
        """Number of elements."""
        return product(self.shape)

    @property
    def bytes(self) -> int:
        """Size in memory at capture."""
        return int(self.numel) * DTYPE_BYTES[self.dtype]

    @property
    def stored(self) -> Layout:
        """How the value lies in a buffer of its own: row-major, or with its dims in the order `memory`."""
        return Layout.ordered(self.shape, self.attrs.get("memory") or range(len(self.shape)))


@dataclass
class Graph:
    """A task's computation.

    Parameters
    ----------
    nodes : list of Node
    inputs : list of (str, int)
        Name of each argument of ``forward`` and its node, or -1 where the argument is not used.
    outputs : list of int
    updates : list of (str, int)
        State that the call changes: key of the ``state_dict``, and the node of its new value.
    structure : str
        What ``forward`` returns: "tensor", "tuple" or "list".
    symbols : dict of str to (int, int)
        Free size -> (argument, dim) where it is found at run time.
    random : bool
        The module draws random numbers.
    aten : dict of str to int
        Operations of the captured program and how often each stands in it.
    free : str
        Which sizes are free: "batch", "static" or "dynamic".
    disclosures : tuple of str
    requires : list of str
        Conditions on the free sizes, beside what the inputs' shapes say; elsewhere the graph is wrong.
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: list[tuple[str, int]] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    updates: list[tuple[str, int]] = field(default_factory=list)
    structure: str = "tensor"
    symbols: dict[str, tuple[int, int]] = field(default_factory=dict)
    random: bool = False
    aten: dict[str, int] = field(default_factory=dict)
    free: str = "batch"
    disclosures: tuple[str, ...] = ()
    requires: list[str] = field(default_factory=list)

    @property
    def ops(self) -> dict[str, int]:
        """Operations of the graph and how often each occurs."""
        return dict(collections.Counter(node.op for node in self.nodes))

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Operations without a template of ours: they run in PyTorch where the policy allows it."""
        return tuple(sorted({str(node.attrs["target"]) for node in self.nodes if node.op == "library"}))

    @property
    def bytes_min(self) -> int:
        """Bytes that any program moves at the captured sizes: what it reads once, results once."""
        used = {position for node in self.nodes for position in node.inputs} | set(self.outputs)
        read = sum(node.bytes for node in self.nodes if node.op in ("input", "state") and node.index in used)
        written = {
            self.base(position).index if self.base(position).kind == "leaf" else position
            for position in self.outputs
        }
        fresh = sum(self.nodes[position].bytes for position in written if self.nodes[position].kind != "leaf")
        return read + fresh + sum(self.nodes[position].bytes for _, position in self.updates)

    @property
    def flops(self) -> float:
        """Floating-point operations at the captured sizes."""
        total = 0.0
        for node in self.nodes:
            if node.op == "library":
                total += node.attrs.get("flops", 0)
            elif node.kind in ("reduce", "scan"):
                total += int(self.nodes[node.inputs[0]].numel)
            elif node.kind == "window":
                total += int(node.numel) * math.prod(int(k) for k in node.attrs["kernel"])
            elif node.kind == "pointwise":
                total += int(node.numel) * (POINTWISE[node.op].cost if node.op in POINTWISE else 0)
        return total

    def base(self, position: int) -> Node:
        """Return the node under a chain of views."""
        node = self.nodes[position]
        while node.kind == "view":
            node = self.nodes[node.inputs[0]]
        return node

    def layout(self, position: int) -> tuple[Node, Layout | None]:
        """Return the buffer under a chain of views, and the chain's strides in it (None without any)."""
        chain: list[Node] = []
        node = self.nodes[position]
        while node.kind == "view":
            chain.append(node)
            node = self.nodes[node.inputs[0]]
        layout: Layout | None = node.stored
        for view in reversed(chain):
            layout = layout.apply(view.op, view.attrs, view.shape) if layout is not None else None
        return node, layout

    def regions(self) -> list[Any]:
        """Return the regions (fused loop nests and single calls) in the order in which they run."""
        from mlpapers.kernels.graph.regions import partition

        return list(partition(self).regions)


class Builder:
    """Adds nodes to a graph; equal ones are shared, algebra that is exact in floating point is applied."""

    def __init__(self) -> None:
        self.graph = Graph()
        self._known: dict[Any, int] = {}

    def node(self, position: int) -> Node:
        """Return a node of the graph so far."""
        return self.graph.nodes[position]

    def add(
        self,
        op: str,
        inputs: Sequence[int],
        shape: Sequence[Size],
        dtype: str,
        **attrs: Any,
    ) -> int:
        """Add a node and return its position; an equal node that exists is returned instead."""
        if op in VIEWS and all(self._same(a, b) for a, b in zip(self.node(inputs[0]).shape, shape)):
            plain = op in ("reshape", "expand") or (
                op == "permute" and list(attrs["order"]) == sorted(attrs["order"])
            )
            whole = op == "slice" and attrs["step"] == 1
            if len(self.node(inputs[0]).shape) == len(shape) and (plain or whole):
                return inputs[0]
        key = (op, tuple(inputs), tuple(shape), dtype, repr(sorted(attrs.items(), key=lambda item: item[0])))
        if key in self._known and op not in ("input", "library"):
            return self._known[key]
        position = len(self.graph.nodes)
        self.graph.nodes.append(Node(position, op, tuple(inputs), attrs, tuple(shape), dtype))
        self._known[key] = position
        return position

    @staticmethod
    def _same(a: Size, b: Size) -> bool:
        return bool(a == b)

    def scalar(self, value: float, dtype: str) -> int:
        """Add a number."""
        return self.add("scalar", (), (), dtype, value=value)

    def value(self, position: int) -> float | None:
        """Return the number behind a node that is one, else None."""
        node = self.graph.base(position)
        return node.attrs["value"] if node.op == "scalar" else None

    def reshape(self, position: int, shape: Sequence[Size]) -> int:
        """Add a reshape, with an explicit copy where the view's strides do not allow it."""
        node = self.node(position)
        if tuple(node.shape) == tuple(shape):
            return position
        if node.op == "reshape":
            return self.reshape(node.inputs[0], shape)
        added = self.add("reshape", (position,), shape, node.dtype)
        if self.graph.layout(added)[1] is None:
            copied = self.add("identity", (position,), node.shape, node.dtype)
            added = self.add("reshape", (copied,), shape, node.dtype)
        return added

    def expand(self, position: int, shape: Sequence[Size]) -> int:
        """Add a broadcast to `shape`."""
        return self.add("expand", (position,), shape, self.node(position).dtype)

    def permute(self, position: int, order: Sequence[int]) -> int:
        """Add a permutation of dims."""
        node = self.node(position)
        shape = tuple(node.shape[d] for d in order)
        return self.add("permute", (position,), shape, node.dtype, order=tuple(order))

    def rewritten(self, graph: Graph, places: Mapping[int, int]) -> Graph:
        """Return `graph` with the builder's nodes, each of its own where `places` says."""
        return replace(
            graph,
            nodes=self.graph.nodes,
            inputs=[(name, places.get(position, -1)) for name, position in graph.inputs],
            outputs=[places[position] for position in graph.outputs],
            updates=[(key, places[position]) for key, position in graph.updates],
        )

    def require(self, condition: str) -> None:
        """Note a condition on the free sizes."""
        if condition not in self.graph.requires:
            self.graph.requires.append(condition)

    def require_positive(self, size: Size, *, or_zero: bool = False) -> None:
        """Note that a free size must be positive, unless it always is."""
        spare = size if or_zero else size - 1
        if isinstance(spare, Sym) and not spare.expr.is_nonnegative:
            fixed, free = spare.expr.as_coeff_Add()
            self.require(f"{text(make_size(free, int(spare)))} >= {-fixed}")

    def slice(self, position: int, dim: int, start: Size, length: Size, step: int = 1) -> int:
        """Add a slice of one dim."""
        node = self.node(position)
        for least in (start, length, node.shape[dim] - start - (length - 1) * step - 1):
            self.require_positive(least, or_zero=True)
        shape = (*node.shape[:dim], length, *node.shape[dim + 1 :])
        if start == 0 and step == 1 and length == node.shape[dim]:
            return position
        return self.add(
            "slice", (position,), shape, node.dtype, dim=dim, start=start, length=length, step=step
        )

    def gather(self, source: int, where: int, dim: int, shape: Sequence[Size]) -> int:
        """Add the elements of `source` at the places `where` along a dim.

        Of an elementwise result that is much larger only those elements are computed: the operation is
        applied to its gathered operands.
        """
        node = self.node(source)
        alike = all(self._same(a, b) for d, (a, b) in enumerate(zip(node.shape, shape)) if d != dim)
        few = int(product(shape)) * _FEW <= int(node.numel)
        if node.kind != "pointwise" or not alike or not few:
            return self.add("gather", (source, where), shape, node.dtype, dim=dim)
        operands = []
        for position in node.inputs:
            operand = self.node(position)
            plain = self.node(operand.inputs[0]) if operand.op == "expand" else operand
            # Sizes are aligned at the last one, as they broadcast.
            place = dim - len(node.shape) + len(plain.shape)
            if plain.op == "scalar" or (operand.op == "expand" and (place < 0 or plain.shape[place] == 1)):
                operands.append(position if plain is operand else self.expand(plain.index, shape))
            else:
                operands.append(self.gather(position, where, dim, shape))
        return self.add(node.op, operands, shape, node.dtype, **node.attrs)

    def cast(self, position: int, dtype: str) -> int:
        """Add a conversion; a number is converted at once."""
        node = self.node(position)
        if node.dtype == dtype:
            return position
        if node.op == "scalar":
            value = node.attrs["value"]
            if dtype == "b1":
                value = bool(value)
            elif dtype.startswith(("i", "u")):
                value = int(value)
            else:
                value = float(value)
            return self.scalar(value, dtype)
        return self.add("cast", (position,), node.shape, dtype)

    def pointwise(self, op: str, operands: Sequence[int], shape: Sequence[Size], dtype: str) -> int:
        """Add an elementwise operation over operands broadcast to `shape`."""
        simpler = self._simplify(op, operands, shape, dtype)
        if simpler is not None:
            return simpler
        broadcast = [
            position if self.node(position).op == "scalar" else self.expand(position, shape)
            for position in operands
        ]
        return self.add(op, broadcast, shape, dtype)

    def _simplify(self, op: str, operands: Sequence[int], shape: Sequence[Size], dtype: str) -> int | None:
        """Apply identities that hold for every floating-point value, signed zeros and nan included."""
        first = operands[0]
        same = self.node(first).dtype == dtype
        if op in ("mul", "div") and same and self.value(operands[1]) == 1:
            return self.expand(first, shape)
        if op == "mul" and self.value(first) == 1 and self.node(operands[1]).dtype == dtype:
            return self.expand(operands[1], shape)
        if op == "sub" and same and self.value(operands[1]) == 0:
            return self.expand(first, shape)
        if op == "neg" and self.node(first).op == "neg":
            return self.node(first).inputs[0]
        if op in ("relu", "abs") and self.node(first).op in ("relu", "abs", "square"):
            return first
        if op == "where":
            condition = self.value(first)
            if condition is not None:
                return self.expand(operands[1] if condition else operands[2], shape)
        return None

    def reduce(self, op: str, position: int, dims: Sequence[int], dtype: str, keepdim: bool = False) -> int:
        """Add a reduction over dims; with none of them, over all."""
        node = self.node(position)
        rank = len(node.shape)
        dims = sorted({d % rank for d in dims}) if dims else list(range(rank))
        kept = tuple(size for d, size in enumerate(node.shape) if d not in dims)
        if all(node.shape[d] == 1 for d in dims):
            reduced = self._reduce_one(op, self.reshape(position, kept), dtype)
        else:
            reduced = self.add(op, (position,), kept, dtype, dims=tuple(dims))
        if not keepdim:
            return reduced
        return self.reshape(reduced, [1 if d in dims else size for d, size in enumerate(node.shape)])

    def _reduce_one(self, op: str, position: int, dtype: str) -> int:
        """Return the reduction of single elements, already without the reduced dims."""
        shape = self.node(position).shape
        if op in ("argmax", "argmin"):
            return self.expand(self.scalar(0, dtype), shape)
        if op == "m2":
            return self.pointwise("sub", [position, position], shape, dtype)
        return self.cast(position, dtype)
