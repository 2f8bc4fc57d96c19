"""The loops of a nest: its axes in memory order, and every access as strides along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlpapers.kernels.graph.ir import Graph, Node
from mlpapers.kernels.graph.layout import Layout
from mlpapers.kernels.graph.nest import Groups, Nest
from mlpapers.kernels.graph.regions import Partition
from mlpapers.kernels.graph.size import Size, product


@dataclass
class Axis:
    """One loop: its size, and whether reductions (or scans) run along it."""

    name: str
    size: Size
    closed: bool
    atoms: tuple[int, ...]


@dataclass
class Access:
    """Element at offset + sum of index times stride; `indirect` = (stride, size, operand of the index)."""

    base: int
    strides: list[Size]
    offset: Size
    indirect: tuple[Size, Size, int] | None = None


@dataclass
class Domain:
    """The iteration domain of a nest.

    Parameters
    ----------
    nest : Nest
    axes : list of Axis
        Outermost first, in the memory order of the access that dominates.
    loads : dict of (int, int) to Access
        By member and operand slot.
    stores : dict of int to Access
        By member.
    """

    nest: Nest
    axes: list[Axis] = field(default_factory=list)
    loads: dict[tuple[int, int], Access] = field(default_factory=dict)
    stores: dict[int, Access] = field(default_factory=dict)

    @property
    def kept(self) -> list[Axis]:
        """Axes along which there are rows."""
        return [axis for axis in self.axes if not axis.closed]

    @property
    def closed(self) -> list[Axis]:
        """Axes along which reductions or scans run."""
        return [axis for axis in self.axes if axis.closed]

    def index(self, axis: Axis) -> int:
        """Return the place of an axis."""
        return next(k for k, other in enumerate(self.axes) if other is axis)


def build_domain(plan: Partition, nest: Nest, stored: Sequence[int]) -> Domain:
    """Return the domain of a nest whose members `stored` are written to memory."""
    graph = plan.graph
    domain = Domain(nest)
    atoms = list(nest.sizes)
    for member in nest.members:
        node = graph.nodes[member]
        groups = [nest.resolve(group) for group in nest.domains[member]]
        for slot, position in enumerate(node.inputs):
            inside = nest.through_views(graph, position)
            if inside is not None and not (node.kind == "index" and slot == 0):
                continue
            base, layout = graph.layout(position)
            if base.op == "scalar":
                continue
            if layout is None:
                raise ValueError(f"operand {position} of node {member} has no strides")
            domain.loads[member, slot] = _load(node, slot, base, layout, groups, atoms)
        if member in stored:
            groups = nest.groups(member)
            buffer, layout = plan.targets.get(member, (member, node.stored))
            domain.stores[member] = Access(buffer, _strides(layout, groups, atoms), layout.offset)
        if node.op in ("argmax", "argmin"):
            domain.loads[member, -1] = _row_index(node, nest, graph, atoms)
    _arrange(domain, atoms)
    return domain


def _load(node: Node, slot: int, base: Node, layout: Layout, groups: Groups, atoms: list[int]) -> Access:
    if node.kind == "index" and slot == 0:
        dim = node.attrs["dim"]
        strides = list(layout.strides)
        step, strides[dim] = strides[dim], 0
        direct = Layout(node.shape, tuple(strides), layout.offset)
        found = Access(base.index, _strides(direct, groups, atoms), layout.offset)
        found.indirect = (step, layout.shape[dim], node.inputs[1])
        return found
    if len(groups) != len(layout.shape):
        groups = []
    return Access(base.index, _strides(layout, groups, atoms), layout.offset)


def _row_index(node: Node, nest: Nest, graph: Graph, atoms: list[int]) -> Access:
    """Return the access that counts along the reduced dims, row-major: what argmax returns."""
    shape = graph.nodes[node.inputs[0]].shape
    dims = node.attrs["dims"]
    strides: list[Size] = [0] * len(shape)
    step: Size = 1
    for d in reversed(dims):
        strides[d] = step
        step = step * shape[d]
    groups = [nest.resolve(group) for group in nest.domains[node.index]]
    return Access(-1, _strides(Layout(tuple(shape), tuple(strides)), groups, atoms), 0)


def _strides(layout: Layout, groups: Groups, atoms: list[int]) -> list[Size]:
    found: dict[int, Size] = {}
    for stride, group in zip(layout.strides, groups):
        step = stride
        for atom, size in reversed(group):
            if atom is not None:
                found[atom] = step
            step = step * size
    return [found.get(atom, 0) for atom in atoms]


def _arrange(domain: Domain, atoms: list[int]) -> None:
    """Order the atoms as they lie in memory and merge neighbours that every access crosses as one."""
    nest = domain.nest
    closed = nest.closed()
    accesses = [*domain.loads.values(), *domain.stores.values()]
    if nest.mode == "scan" and nest.reverse:
        for access in accesses:
            for k, atom in enumerate(atoms):
                if atom in closed:
                    access.offset = access.offset + access.strides[k] * (nest.sizes[atom] - 1)
                    access.strides[k] = -access.strides[k]

    def extent(access: Access) -> int:
        return int(product(nest.sizes[a] for a, s in zip(atoms, access.strides) if s != 0))

    real = [access for access in accesses if access.base >= 0]
    ordered = sorted(real, key=extent)
    # Among accesses of the same extent a store decides: scattered writes cost more than scattered reads.
    stores = [
        access for access in domain.stores.values() if ordered and extent(access) == extent(ordered[-1])
    ]
    main = stores[0].strides if stores else (ordered[-1].strides if ordered else [0] * len(atoms))
    order = sorted(
        range(len(atoms)),
        key=lambda k: (main[k] != 0, -abs(int(main[k])), k) if main[k] != 0 else (False, 0, k),
    )
    axes: list[tuple[list[int], Size, bool]] = []
    for k in order:
        atom, size = atoms[k], nest.sizes[atoms[k]]
        is_closed = atom in closed
        if axes and axes[-1][2] == is_closed:
            last = axes[-1][0][-1]
            if all(access.strides[last] == access.strides[k] * size for access in accesses):
                axes[-1] = ([*axes[-1][0], k], axes[-1][1] * size, is_closed)
                continue
        axes.append(([k], size, is_closed))
    counts = {True: 0, False: 0}
    for places, size, is_closed in axes:
        name = f"{'r' if is_closed else 'p'}{counts[is_closed]}"
        counts[is_closed] += 1
        domain.axes.append(Axis(name, size, is_closed, tuple(atoms[k] for k in places)))
    for access in accesses:
        access.strides = [access.strides[places[-1]] for places, _, _ in axes]
