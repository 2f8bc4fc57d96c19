"""Cut a graph into regions: loop nests that fuse what shares a domain, and single calls between them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mlpapers.kernels.graph.ir import Graph, Node
from mlpapers.kernels.graph.layout import Layout
from mlpapers.kernels.graph.nest import Nest, grow, join_sibling, start
from mlpapers.kernels.ops import POINTWISE

# Recomputing up to so many operations per element is cheaper than storing and loading the value.
RECOMPUTE_COST = 4
# Elementwise operations that are computed again for a second pass.
_LONGEST_CHAIN = 24
# What depends only on tensors that are so much smaller than the largest runs first.
_SMALL_SHARE = 16


@dataclass
class Region:
    """One step of a plan.

    Parameters
    ----------
    kind : {"nest", "call", "window"}
    nest : Nest or None
    node : int
        The node of a call or window; -1 for a nest.
    """

    kind: str
    nest: Nest | None = None
    node: int = -1


@dataclass
class Partition:
    """A graph's regions in order, and where values lie that more than one region sees.

    Parameters
    ----------
    graph : Graph
        The graph, with copies added where a move needs them.
    regions : list of Region
    targets : dict of int to (int, Layout)
        Member that is stored as a part of another node's buffer, and where.
    """

    graph: Graph
    regions: list[Region] = field(default_factory=list)
    targets: dict[int, tuple[int, Layout]] = field(default_factory=dict)


def partition(graph: Graph, *, fuse: bool = True) -> Partition:
    """Assign every node to a region, greedily in topological order.

    A pointwise node, reduction or scan joins the latest nest that computes one of its operands where its
    domain
    fits; otherwise one that reads the same buffer; otherwise it starts a nest. Contractions and other calls
    stand
    alone.

    Parameters
    ----------
    graph : Graph
    fuse : bool
        False gives every node a region of its own.

    Returns
    -------
    partition : Partition
    """
    return _Partitioner(graph, fuse).run()


class _Partitioner:
    def __init__(self, graph: Graph, fuse: bool) -> None:
        nodes = list(graph.nodes)
        self.graph = replace(graph, nodes=nodes, outputs=list(graph.outputs), updates=list(graph.updates))
        self.fuse = fuse
        self.result = Partition(self.graph)
        self.ready: dict[int, int] = {}
        self.users: dict[int, int] = {}
        for node in nodes:
            for position in set(node.inputs):
                self.users[position] = self.users.get(position, 0) + 1
        for position in [*graph.outputs, *(position for _, position in graph.updates)]:
            self.users[position] = self.users.get(position, 0) + 1

    def run(self) -> Partition:
        self._materialise_results()
        for node in self._order():
            if node.kind in ("leaf", "view") or node.index in self.ready:
                continue
            if node.kind in ("pointwise", "reduce", "scan", "index"):
                self._fuse(node)
            elif node.op == "pick":
                self.ready[node.index] = self.ready[node.inputs[0]]
            elif node.op == "cat":
                self._cat(node)
            elif node.op == "pad":
                self._pad(node)
            else:
                node = self._addressable(node)
                self.ready[node.index] = len(self.result.regions)
                self.result.regions.append(
                    Region("window" if node.kind == "window" else "call", node=node.index)
                )
        return self.result

    def _order(self) -> list[Node]:
        """Return the nodes in topological order, those that depend on small tensors alone first.

        A nest can take in only what is ready before it: per-row factors of weights must not wait for the
        first pass over the data, or what needs both starts another pass.
        """
        reach: list[int] = []
        for node in self.graph.nodes:
            reach.append(max([int(node.numel), *(reach[position] for position in node.inputs)]))
        small = max(reach, default=0) // _SMALL_SHARE
        return sorted(self.graph.nodes, key=lambda node: (reach[node.index] > small, node.index))

    def _materialise_results(self) -> None:
        """Copy results that are numbers or ranges: there is no buffer to return."""

        def held(position: int) -> int:
            base, layout = self.graph.layout(position)
            plain = layout is not None and all(stride >= 0 for stride in layout.strides)
            if base.op in ("scalar", "iota", "const") or not plain:
                return self._append("identity", position)
            return position

        self.graph.outputs = [held(position) for position in self.graph.outputs]
        self.graph.updates = [(key, held(position)) for key, position in self.graph.updates]

    def _addressable(self, node: Node) -> Node:
        """Return a call whose operands PyTorch can take: copies where a view has no (or negative) strides."""
        inputs = []
        for position in node.inputs:
            base, layout = self.graph.layout(position)
            plain = layout is not None and all(stride >= 0 for stride in layout.strides)
            if node.kind == "window":
                plain = layout is not None and layout.is_contiguous and layout.numel == base.numel
            if base.op in ("scalar", "iota") or not plain:
                copied = self.graph.nodes[self._append("identity", position)]
                self._fuse(copied)
                position = copied.index
            inputs.append(position)
        self.graph.nodes[node.index] = replace(node, inputs=tuple(inputs))
        return self.graph.nodes[node.index]

    def _append(self, op: str, position: int) -> int:
        node = self.graph.nodes[position]
        added = Node(len(self.graph.nodes), op, (position,), {}, node.shape, node.dtype)
        self.graph.nodes.append(added)
        self.users[position] = self.users.get(position, 0) + 1
        return added.index

    def _bases(self, node: Node) -> list[int]:
        return [self.graph.base(position).index for position in node.inputs]

    def _fits(self, nest: Nest, node: Node) -> bool:
        """Whether every operand that the nest does not compute is ready before it runs."""
        return all(
            base in nest.places or self.graph.nodes[base].kind == "leaf" or self.ready[base] < nest.position
            for base in self._bases(node)
        )

    def _fuse(self, node: Node) -> None:
        for region in reversed(self.result.regions) if self.fuse else ():
            nest = region.nest
            if nest is None or not self._fits(nest, node):
                continue
            grown = grow(nest, node, self.graph)
            if grown is None and not any(base in nest.places for base in self._bases(node)):
                shared = {p for p in node.inputs if self.graph.nodes[p].op != "scalar"}
                grown = join_sibling(nest, node, self.graph, shared)
            if grown is not None:
                region.nest = grown
                self.ready[node.index] = nest.position
                return
        self._open(node)

    def _open(self, node: Node) -> None:
        position = len(self.result.regions)
        nest = self._with_recomputed(position, node) if self.fuse else None
        nest = nest or start(position, node, self.graph)
        self.result.regions.append(Region("nest", nest=nest))
        for member in nest.members:
            self.ready.setdefault(member, position)

    def _with_recomputed(self, position: int, node: Node) -> Nest | None:
        """Start the nest with a cheap operand that another nest computes too, instead of loading it."""
        if node.kind == "index":
            return None
        again = self._with_chain(position, node)
        if again is not None:
            return again
        for base in self._bases(node):
            producer = self.graph.nodes[base]
            if producer.kind != "pointwise" or producer.op not in POINTWISE:
                continue
            if POINTWISE[producer.op].cost > RECOMPUTE_COST:
                continue
            if any(self.graph.nodes[b].kind not in ("leaf", "library") for b in self._bases(producer)):
                continue
            grown = grow(start(position, producer, self.graph), node, self.graph)
            if grown is not None:
                return grown
        return None

    def _with_chain(self, position: int, node: Node) -> Nest | None:
        """Start the nest with all elementwise work between a channels-last buffer and a node's operand.

        Another nest has done it on the way to a statistic. To store the value there and load it here would
        cost one pass over memory more than to load the buffer again.
        """
        chain: set[int] = set()
        stack = self._bases(node)
        while stack:
            other = self.graph.nodes[stack.pop()]
            if other.index in chain or other.kind != "pointwise" or other.numel != node.numel:
                continue
            chain.add(other.index)
            stack += self._bases(other)
        sources = {base for member in chain for base in self._bases(self.graph.nodes[member])}
        slabs = any(
            region.nest is not None and region.nest.slabs and chain & set(region.nest.members)
            for region in self.result.regions
        )
        if not slabs or len(chain) > _LONGEST_CHAIN:
            return None
        if not any("memory" in self.graph.nodes[base].attrs for base in sources):
            return None
        first, *rest = sorted(chain)
        nest: Nest | None = start(position, self.graph.nodes[first], self.graph)
        for member in [*rest, node.index]:
            nest = grow(nest, self.graph.nodes[member], self.graph) if nest is not None else None
        return nest

    def _cat(self, node: Node) -> None:
        ready = -1
        offset = None
        dim = node.attrs["dim"]
        whole = Layout.contiguous(node.shape)
        for part in node.inputs:
            size = self.graph.nodes[part].shape[dim]
            begin = 0 if offset is None else offset
            ready = max(ready, self._store(part, node.index, whole.slice(dim, begin, size, 1)))
            offset = begin + size
        self.ready[node.index] = ready

    def _pad(self, node: Node) -> None:
        whole = Layout.contiguous(node.shape)
        value = Node(len(self.graph.nodes), "scalar", (), {"value": node.attrs["value"]}, (), node.dtype)
        self.graph.nodes.append(value)
        spread = Node(len(self.graph.nodes), "expand", (value.index,), {}, node.shape, node.dtype)
        self.graph.nodes.append(spread)
        filled = self._store(spread.index, node.index, whole)
        inner = whole
        part = self.graph.nodes[node.inputs[0]]
        for d, (low, _) in enumerate(node.attrs["pads"]):
            inner = inner.slice(d, low, part.shape[d], 1)
        copied = self._append("identity", part.index)
        self.result.targets[copied] = (node.index, inner)
        # The border is written before the inside, so the copy must not join an earlier nest.
        nest = start(len(self.result.regions), self.graph.nodes[copied], self.graph)
        self.result.regions.append(Region("nest", nest=nest))
        self.ready[copied] = nest.position
        self.ready[node.index] = max(filled, nest.position)

    def _store(self, part: int, buffer: int, layout: Layout) -> int:
        """Store a value as a part of a buffer; return the region after which it is there."""
        direct = part in self.ready and self.users.get(part, 0) == 1 and part not in self.result.targets
        if not direct or self.graph.nodes[part].kind not in ("pointwise", "reduce", "scan", "index"):
            part = self._append("identity", part)
            self._fuse(self.graph.nodes[part])
        self.result.targets[part] = (buffer, layout)
        return self.ready[part]
