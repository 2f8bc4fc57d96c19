"""A region that runs as one loop nest, grown operation by operation.

The iteration domain is a product of atoms: sizes that are split whenever a reshape cuts through them, so
every
member's dims are groups of atoms and every access is affine in the atoms' indices.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mlpapers.kernels.graph.ir import Graph, Node
from mlpapers.kernels.graph.size import Size, exact_ratio, product

# (atom, size); atom None where a broadcast dim has no atom yet.
Entry = tuple[int | None, Size]
Groups = list[list[Entry]]

# A row program over fewer rows than this would leave cores idle: its passes become regions of their own.
MIN_ROWS = 8
# Elements of one row under which idle cores cost less than a second region.
SHORT_ROW = 8192
# A device has hundreds of multiprocessors, each of which holds a row of so many elements in its registers.
DEVICE_ROWS, DEVICE_ROW = 264, 65536
# A single row is read by one program alone, and by one multiprocessor's share of the memory.
DEVICE_WHOLE = 16384
# Rows that lie side by side in memory are read in slabs, one program for many of them: few programs soon.
DEVICE_SLAB = 1024
_on_device = contextvars.ContextVar("on_device", default=False)


@contextlib.contextmanager
def for_device(there: bool) -> Iterator[None]:
    """Cut regions for a device with many multiprocessors instead of a few cores.

    Parameters
    ----------
    there : bool
        False changes nothing.
    """
    token = _on_device.set(there)
    try:
        yield
    finally:
        _on_device.reset(token)


@dataclass
class Nest:
    """A loop nest over atoms.

    Parameters
    ----------
    position : int
        Place in the order of execution.
    sizes : dict of int to size
        Atoms that are not split.
    reduced : list of int
        Atoms that reductions close, or along which scans run.
    mode : {"pointwise", "reduce", "scan"}
    reverse : bool
        Scans run from the end.
    members : list of int
        Nodes computed here, in order.
    places : dict of int to groups
        The atoms of each dim of each member.
    levels : dict of int to int
        How many reductions, one after the other, a member's value waits for.
    domains : dict of int to groups
        The atoms of each dim of the member's operands.
    splits : dict of int to (int, int)
        Atoms that were split, and their outer and inner parts.
    made : int
        How many atoms there were so far: their names are not used again.
    channels : list of (int, size)
        Atoms of the channels of a channels-last buffer that a member reads.
    """

    position: int
    sizes: dict[int, Size] = field(default_factory=dict)
    reduced: list[int] = field(default_factory=list)
    mode: Literal["pointwise", "reduce", "scan"] = "pointwise"
    reverse: bool = False
    members: list[int] = field(default_factory=list)
    places: dict[int, Groups] = field(default_factory=dict)
    levels: dict[int, int] = field(default_factory=dict)
    domains: dict[int, Groups] = field(default_factory=dict)
    splits: dict[int, tuple[int, int]] = field(default_factory=dict)
    made: int = 0
    channels: list[Entry] = field(default_factory=list)

    def atom(self, size: Size) -> int:
        """Add an atom."""
        name = self.made
        self.made += 1
        self.sizes[name] = size
        return name

    def resolve(self, entries: Sequence[Entry]) -> list[Entry]:
        """Replace split atoms by their parts."""
        found: list[Entry] = []
        for atom, size in entries:
            if atom is not None and atom in self.splits:
                found += self.resolve([(part, self._size(part)) for part in self.splits[atom]])
            else:
                found.append((atom, size))
        return found

    def _size(self, atom: int) -> Size:
        if atom in self.sizes:
            return self.sizes[atom]
        outer, inner = self.splits[atom]
        return self._size(outer) * self._size(inner)

    def groups(self, member: int) -> Groups:
        """Return the atoms of each dim of a member."""
        return [self.resolve(group) for group in self.places[member]]

    def atoms_of(self, groups: Groups) -> set[int]:
        """Return the atoms that occur in groups."""
        return {atom for group in groups for atom, _ in self.resolve(group) if atom is not None}

    def closed(self) -> set[int]:
        """Return the reduced (or scanned) atoms."""
        return {atom for atom, _ in self.resolve([(atom, 0) for atom in self.reduced]) if atom is not None}

    def is_row(self, member: int) -> bool:
        """Whether a member has one value per row (none along the reduced atoms)."""
        return self.mode == "reduce" and not (self.atoms_of(self.places[member]) & self.closed())

    def _split(self, entry: Entry, outer: Size) -> tuple[Entry, Entry] | None:
        atom, size = entry
        inner = exact_ratio(size, outer)
        if inner is None:
            return None
        if atom is None:
            return (None, outer), (None, inner)
        del self.sizes[atom]
        first = self.atom(outer)
        second = self.atom(inner)
        self.splits[atom] = (first, second)
        return (first, outer), (second, inner)

    def regroup(self, groups: Groups, shape: Sequence[Size]) -> Groups | None:
        """Return the atoms under a reshape, or None where no split expresses it."""
        flat = [entry for group in groups for entry in self.resolve(group)]
        found: Groups = []
        for wanted in shape:
            group: list[Entry] = []
            remaining = wanted
            while remaining != 1:
                if not flat:
                    return None
                entry = flat.pop(0)
                rest = exact_ratio(remaining, entry[1])
                if rest is None:
                    halves = self._split(entry, remaining)
                    if halves is None:
                        return None
                    entry, leftover = halves
                    flat.insert(0, leftover)
                    rest = 1
                group.append(entry)
                remaining = rest
            found.append(group)
        return found if not flat else None

    def unify(self, a: Sequence[Entry], b: Sequence[Entry]) -> list[Entry] | None:
        """Return the common refinement of two groups of one dim, or None where their atoms differ."""
        left, right = self.resolve(a), self.resolve(b)
        found: list[Entry] = []
        while left and right:
            (first, m), (second, n) = left[0], right[0]
            if m == n:
                if first is not None and second is not None and first != second:
                    return None
                found.append((first if first is not None else second, m))
                left, right = left[1:], right[1:]
                continue
            longer, other, size = (left, right, n) if int(m) > int(n) else (right, left, m)
            halves = self._split(longer[0], size)
            if halves is None:
                return None
            longer[0:1] = list(halves)
            left, right = (longer, other) if longer is left else (other, longer)
            left, right = self.resolve(left), self.resolve(right)
        return found if not left and not right else None

    def through_views(self, graph: Graph, position: int) -> tuple[int, Groups] | None:
        """Return the member under a chain of views and the atoms of the view's dims; None if not here."""
        chain: list[Node] = []
        node = graph.nodes[position]
        while node.kind == "view" and node.index not in self.places:
            chain.append(node)
            node = graph.nodes[node.inputs[0]]
        if node.index not in self.places:
            return None
        groups: Groups | None = self.groups(node.index)
        for view in reversed(chain):
            groups = self._viewed(groups, view) if groups is not None else None
        return (node.index, groups) if groups is not None else (node.index, [])

    def _viewed(self, groups: Groups, view: Node) -> Groups | None:
        if view.op == "permute":
            return [groups[d] for d in view.attrs["order"]]
        if view.op == "expand":
            lead = len(view.shape) - len(groups)
            old: Groups = [[] for _ in range(lead)] + groups
            return [
                [(None, size)] if not group and size != 1 else group for group, size in zip(old, view.shape)
            ]
        if view.op == "reshape":
            return self.regroup(groups, view.shape)
        return None

    def fork(self) -> Nest:
        """Return a copy on which a growth can be tried."""
        return copy.deepcopy(self)

    def rows(self) -> int:
        """Return the number of rows at capture: the product of the atoms that stay."""
        closed = self.closed()
        return int(product(size for atom, size in self.sizes.items() if atom not in closed))

    def row_length(self) -> int:
        """Return the number of elements of a row at capture."""
        return int(product(self.sizes[atom] for atom in self.closed()))

    @property
    def slabs(self) -> bool:
        """Whether rows lie side by side in channels-last memory: reduced over space, channels stay apart."""
        channels = {atom for atom, _ in self.resolve(self.channels) if atom is not None}
        closed = self.closed()
        return self.mode == "reduce" and bool(channels - closed) and bool(closed - channels)

    def starves(self) -> bool:
        """Whether a second pass over the rows would leave cores idle."""
        if _on_device.get():
            if self.slabs and self.row_length() > DEVICE_SLAB:
                return True
            longest = DEVICE_ROW if self.rows() > 1 else DEVICE_WHOLE
            return self.rows() < DEVICE_ROWS and self.row_length() > longest
        return self.rows() < MIN_ROWS and self.row_length() * self.rows() > SHORT_ROW


def start(position: int, node: Node, graph: Graph) -> Nest:
    """Return a nest that holds one node, with an atom for each of its (operand's) dims."""
    nest = Nest(position)
    domain = graph.nodes[node.inputs[0]].shape if node.kind in ("reduce", "scan") else node.shape
    groups: Groups = [[(nest.atom(size), size)] if size != 1 else [] for size in domain]
    _place(nest, node, groups, 0)
    _note_channels(nest, node, graph)
    return nest


def _place(nest: Nest, node: Node, groups: Groups, level: int) -> bool:
    """Enter a node whose operand's (for a reduction) or own atoms are known; False where it does not fit."""
    if node.kind == "reduce":
        dims = node.attrs["dims"]
        closing = [entry for d in dims for entry in nest.resolve(groups[d])]
        if any(atom is None for atom, _ in closing) or nest.mode == "scan":
            return False
        atoms = {atom for atom, _ in closing if atom is not None}
        if nest.atoms_of(groups) != set(nest.sizes):
            return False
        if nest.mode == "reduce" and atoms != nest.closed():
            return False
        if nest.mode == "pointwise":
            for member in nest.members:
                own = nest.atoms_of(nest.places[member])
                if own != set(nest.sizes) and own & atoms:
                    return False
        if level > 0 and nest.starves():
            return False
        nest.mode = "reduce"
        nest.reduced = sorted(atoms)
        kept = [group for d, group in enumerate(groups) if d not in dims]
        nest.places[node.index] = kept
        nest.levels[node.index] = level + 1
    else:
        if node.kind == "scan":
            atoms = {atom for atom, _ in nest.resolve(groups[node.attrs["dim"]]) if atom is not None}
            if nest.mode == "reduce" or nest.atoms_of(groups) != set(nest.sizes):
                return False
            if nest.mode == "scan" and (atoms != nest.closed() or nest.reverse != node.attrs["reverse"]):
                return False
            nest.mode, nest.reduced, nest.reverse = "scan", sorted(atoms), node.attrs["reverse"]
        nest.places[node.index] = groups
        nest.levels[node.index] = level
    nest.domains[node.index] = groups
    nest.members.append(node.index)
    return True


def _note_channels(nest: Nest, node: Node, graph: Graph) -> None:
    """Remember the channels of a channels-last buffer that a node reads as it is."""
    for position in node.inputs:
        other = graph.nodes[position]
        if node.kind == "pointwise" and "memory" in other.attrs and position not in nest.places:
            nest.channels = list(nest.places[node.index][other.attrs["memory"][-1]])


def grow(nest: Nest, node: Node, graph: Graph) -> Nest | None:
    """Return the nest with a further node, or None where the node does not fit.

    A pointwise node fits where its operands that are computed here have the same atoms (after splitting),
    and it
    is either of the full domain or of one value per row. A reduction fits where it closes the same atoms as
    those
    before it.
    """
    grown = nest.fork()
    domain = graph.nodes[node.inputs[0]].shape if node.kind in ("reduce", "scan") else node.shape
    groups: list[list[Entry] | None] = [None] * len(domain)
    level = 0
    found = False
    operands = node.inputs[1:] if node.kind == "index" else node.inputs
    for position in operands:
        inside = grown.through_views(graph, position)
        if inside is None:
            continue
        member, layout = inside
        if len(layout) != len(domain):
            return None
        found = True
        level = max(level, grown.levels[member])
        for d, group in enumerate(layout):
            current = groups[d]
            merged = group if current is None else grown.unify(current, group)
            if merged is None:
                return None
            groups[d] = merged
    if not found:
        return None
    placed = [atom for group in groups if group for atom, _ in grown.resolve(group) if atom is not None]
    if len(set(placed)) < len(placed):
        # One value along two dims, as y[:, None] - y[None, :] has it, would be its diagonal.
        return None
    filled = _fill(grown, groups, domain)
    if filled is None:
        return None
    own = grown.atoms_of(filled)
    if grown.mode == "reduce" and own != set(grown.sizes) and own & grown.closed():
        return None
    full = grown.mode == "reduce" and bool(own & grown.closed())
    if node.kind != "reduce" and full and level > 0 and grown.starves():
        return None
    if not _place(grown, node, filled, level):
        return None
    _note_channels(grown, node, graph)
    return grown


def _fill(nest: Nest, groups: Sequence[list[Entry] | None], domain: Sequence[Size]) -> Groups | None:
    """Give broadcast dims their atoms: new ones, or those along which the nest reduces, in order."""
    filled: Groups = []
    closed = _closed_entries(nest)
    for group, size in zip(groups, domain):
        found: list[Entry] = []
        for atom, n in nest.resolve(group if group is not None else ([(None, size)] if size != 1 else [])):
            if atom is not None:
                found.append((atom, n))
            elif nest.mode == "pointwise":
                found.append((nest.atom(n), n))
            else:
                taken = _take(nest, closed, n)
                if taken is None:
                    return None
                found += taken
        filled.append(found)
    used = {atom for group in filled for atom, _ in nest.resolve(group)}
    return None if any(atom not in used for atom, _ in closed) and used & nest.closed() else filled


def _closed_entries(nest: Nest) -> list[Entry]:
    """Return the reduced (or scanned) atoms in the order of the dims of the first reduction."""
    closed = nest.closed()
    for member in nest.members:
        entries = [entry for group in nest.domains[member] for entry in nest.resolve(group)]
        if closed and closed <= {atom for atom, _ in entries}:
            return [entry for entry in entries if entry[0] in closed]
    return []


def _take(nest: Nest, closed: list[Entry], size: Size) -> list[Entry] | None:
    """Take from the front of `closed` the atoms that make up a dim, splitting the last where necessary."""
    found: list[Entry] = []
    remaining = size
    while remaining != 1:
        if not closed:
            return None
        entry = closed.pop(0)
        rest = exact_ratio(remaining, entry[1])
        if rest is None:
            halves = nest._split(entry, remaining)
            if halves is None:
                return None
            entry, leftover = halves
            closed.insert(0, leftover)
            rest = 1
        found.append(entry)
        remaining = rest
    return found


def join_sibling(nest: Nest, node: Node, graph: Graph, shared: set[int]) -> Nest | None:
    """Return the nest with a reduction or pointwise node that reads the same whole buffer as a member.

    Parameters
    ----------
    nest : Nest
    node : Node
    graph : Graph
    shared : set of int
        Operands (positions) that the node and a full member of the nest both read under the same view.

    Returns
    -------
    grown : Nest or None
    """
    for member in nest.members:
        other = graph.nodes[member]
        common = shared & set(other.inputs)
        if not common or other.kind == "index":
            continue
        grown = nest.fork()
        groups = [grown.resolve(group) for group in grown.domains[member]]
        domain = graph.nodes[node.inputs[0]].shape if node.kind in ("reduce", "scan") else node.shape
        if len(groups) != len(domain) or grown.atoms_of(groups) != set(grown.sizes):
            continue
        if any(product(n for _, n in grown.resolve(group)) != size for group, size in zip(groups, domain)):
            continue
        if _place(grown, node, groups, 0):
            return grown
    return None
