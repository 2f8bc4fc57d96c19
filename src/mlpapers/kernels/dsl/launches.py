"""A sketch as device launches: which loops become the grid, which run inside a program, what is a tile.

The loops around tile statements that carry the hint ``parallel`` are the grid. Inside a program, tiles have
up to two lanes: ``C`` across the tile of the last grid axis (columns) and ``R`` along the innermost loop that
reduces, scans or passes over a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlpapers.kernels.ops import COMPUTE
from mlpapers.kernels.sketch import Alloc, Call, Compute, For, Load, Sketch, Store, View, walk

_REDUCES = ("reduce_", "merge_")
# A device wants about a thousand programs; sketches are cut into some 32 chunks for a processor.
_DEVICE_CHUNKS = 1024
_PROCESSOR_CHUNKS = 32


@dataclass(frozen=True)
class Launch:
    """One grid and the program that each of its points runs.

    Parameters
    ----------
    name : str
    axes : tuple of For
        Loops of the grid, outermost first; their bodies are not used.
    body : tuple of statements
    columns : str
        Variable of the last axis where that is cut into tiles, else "".
    across : str
        Variable of another axis of an elementwise grid along which some access is contiguous that strides
        along the columns: tiles of both read and write whole sectors. Else "".
    """

    name: str
    axes: tuple[For, ...]
    body: tuple[Any, ...]
    columns: str = ""
    across: str = ""


def launches(sketch: Sketch) -> list[Launch | Call]:
    """Return the launches and library calls of a sketch, in order.

    Parameters
    ----------
    sketch : Sketch

    Returns
    -------
    steps : list of Launch or Call
    """
    steps: list[Launch | Call] = []
    serial: list[Any] = []

    def flush() -> None:
        for part in _cut(serial):
            steps.append(_launch(f"kernel_{len(steps)}", (), part))
        serial.clear()

    for statement in sketch.body:
        if isinstance(statement, Call):
            flush()
            steps.append(statement)
        elif isinstance(statement, For) and _is_grid(statement):
            flush()
            chain = [statement]
            while len(chain[-1].body) == 1 and _is_grid(chain[-1].body[0]):
                chain.append(chain[-1].body[0])
            axes = tuple(replace(loop, body=()) for loop in chain)
            steps.append(_launch(f"kernel_{len(steps)}", axes, chain[-1].body))
        else:
            serial.append(statement)
    flush()
    return steps


def _is_grid(statement: Any) -> bool:
    """Whether a loop's passes are independent: it says so, or it runs over rows (p0, p1 ...)."""
    if not isinstance(statement, For):
        return False
    return statement.has("parallel") or (statement.var.startswith("p") and statement.step == "1")


def _launch(name: str, axes: tuple[For, ...], body: Sequence[Any]) -> Launch:
    columns = axes[-1].var if axes and axes[-1].step != "1" and is_tiled(axes[-1].var, body) else ""
    return Launch(name, axes, rematerialised(body), columns)


def is_tiled(variable: str, body: Sequence[Any]) -> bool:
    """Whether some access takes a tile along a variable."""
    return any(
        item.startswith(f"{variable}:") for s in walk(body) if isinstance(s, Load | Store) for item in s.index
    )


def _cut(statements: Sequence[Any]) -> list[list[Any]]:
    """Cut serial statements after stores, wherever no tile is carried over.

    A program may not read what another of its threads has just written.
    """
    parts: list[list[Any]] = []
    current: list[Any] = []
    for k, statement in enumerate(statements):
        current.append(statement)
        stores = any(isinstance(s, Store) for s in walk([statement]))
        if stores and not _written(current) & _read(statements[k + 1 :]):
            parts.append(current)
            current = []
    return [*parts, current] if current else parts


def _written(statements: Sequence[Any]) -> set[str]:
    return {name for s in walk(statements) for name in results_of(s)}


def _read(statements: Sequence[Any]) -> set[str]:
    """Return the names that are used before they are set."""
    known: set[str] = set()
    found: set[str] = set()
    for s in walk(statements):
        found |= set(operands_of(s)) - known
        known |= set(results_of(s))
    return found


def results_of(s: Any) -> tuple[str, ...]:
    """Return the names that a statement sets."""
    if isinstance(s, Alloc):
        return (s.name,)
    if isinstance(s, Load):
        return (s.dst,)
    return s.dst if isinstance(s, Compute) else ()


def operands_of(s: Any) -> tuple[str, ...]:
    """Return the names that a statement uses; accumulators are used by what changes them."""
    if isinstance(s, Load):
        return (s.source, *(item[1:] for item in s.index if item.startswith("@")))
    if isinstance(s, Store):
        return (s.src, *(item[1:] for item in s.index if item.startswith("@")))
    if isinstance(s, Compute):
        carried = s.dst if s.op.startswith((*_REDUCES, "scan_")) else ()
        return (*s.args, *carried)
    return ()


def rematerialised(body: Sequence[Any]) -> tuple[Any, ...]:
    """Return statements without workspaces: a kept value is computed again where it is read.

    A tile that lies in registers has no address, and on a device arithmetic is cheaper than memory.
    """
    kept = {s.name for s in body if isinstance(s, Alloc) and "temp_workspace" in s.hints}
    if not kept:
        return tuple(body)
    recipes: dict[str, list[Any]] = {}
    for loop in walk(body):
        if isinstance(loop, For):
            for s in loop.body:
                if isinstance(s, Store) and s.target in kept and s.target not in recipes:
                    recipes[s.target] = _slice(loop.body, s.src)
    return tuple(_without(body, kept, recipes))


def _slice(body: Sequence[Any], name: str) -> list[Any]:
    """Return the statements of a loop body on which a name depends."""
    wanted, found = {name}, []
    for s in reversed(body):
        if isinstance(s, Load | Compute) and set(results_of(s)) & wanted:
            found.append(s)
            wanted |= set(operands_of(s))
    return found[::-1]


def _without(body: Sequence[Any], kept: set[str], recipes: dict[str, list[Any]]) -> Iterator[Any]:
    # A recipe may itself read a kept value.
    known: set[str] = set()
    for s in body:
        if isinstance(s, For):
            yield replace(s, body=tuple(_without(s.body, kept, recipes)))
        elif isinstance(s, Alloc | Store) and (s.name if isinstance(s, Alloc) else s.target) in kept:
            continue
        elif isinstance(s, Load) and s.source in kept:
            for step in _without(recipes[s.source], kept, recipes):
                if not set(results_of(step)) <= known:
                    known |= set(results_of(step))
                    yield step
        else:
            known |= set(results_of(s))
            yield s


def online(body: Sequence[Any]) -> tuple[Any, ...]:
    """Return statements whose pass for a maximum and pass for the sum of exp(x - maximum) are one pass.

    The maximum m and the sum s of what was seen go on as m' = max(m, x), s' = s exp(m - m') + exp(x - m').

    Parameters
    ----------
    body : sequence of statements

    Returns
    -------
    body : tuple of statements
    """
    out = list(body)
    for k, first in enumerate(out):
        second = next((n for n in range(k + 1, len(out)) if isinstance(out[n], For)), None)
        if not isinstance(first, For) or second is None:
            continue
        found = _online_pair(first, out[k + 1 : second], out[second])
        if found is not None:
            statement, alloc = found
            between = [s for s in out[k + 1 : second] if s is not alloc]
            loop = replace(first, body=(first.body[0], statement))
            return online([*out[:k], alloc, loop, *between, *out[second + 1 :]])
    return tuple(out)


def _online_pair(first: For, between: Sequence[Any], second: For) -> tuple[Compute, Alloc] | None:
    """Return the joint reduction of two loops and the sum's accumulator, None where they are no such pair."""
    ops = [s.op if isinstance(s, Compute) else type(s).__name__ for s in (*first.body, *second.body)]
    if ops != ["Load", "reduce_amax", "Load", "sub", "exp", "reduce_sum"] or first.hi != second.hi:
        return None
    (load, maximum), (again, shifted, power, total) = first.body, second.body
    casts = [s for s in between if isinstance(s, Compute) and s.op == "cast" and s.args == maximum.dst]
    allocs = [s for s in between if isinstance(s, Alloc) and s.name == total.dst[0]]
    if not casts or not allocs or (load.source, load.index) != (again.source, again.index):
        return None
    chain = (shifted.args, power.args, total.args)
    if chain != ((again.dst, casts[0].dst[0]), shifted.dst, power.dst):
        return None
    return Compute("reduce_online", (load.dst,), (*maximum.dst, *total.dst)), allocs[0]


def device_chunk(value: int) -> int:
    """Return the size of a device's chunks, `value` being the processor's, which wants few and large ones."""
    return max(value * _PROCESSOR_CHUNKS // _DEVICE_CHUNKS, 1)


def processor_chunk(value: int) -> int:
    """Return the size that ``device_chunk`` makes a given one."""
    return value * _DEVICE_CHUNKS // _PROCESSOR_CHUNKS


def with_chunks(sketch: Sketch, values: dict[str, int]) -> Sketch:
    """Return a sketch with other chunk sizes, also where their number is written as digits.

    Parameters
    ----------
    sketch : Sketch
    values : dict of str to int
        New values of constexprs; names that are none are left out.

    Returns
    -------
    sketch : Sketch
    """
    old = dict(sketch.constexprs)
    new = {name: int(value) for name, value in values.items() if name in old}
    patterns = [
        (f"+ {old[name] - 1}) // {old[name]}", f"+ {value - 1}) // {value}")
        for name, value in new.items()
        if name.startswith("CHUNK") and value != old[name]
    ]

    def text(size: str) -> str:
        for before, after in patterns:
            size = size.replace(before, after)
        return size

    def body(statements: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            replace(s, hi=text(s.hi), body=body(s.body)) if isinstance(s, For) else s for s in statements
        )

    return replace(
        sketch.with_constexprs(**new),
        tensors=tuple(replace(t, dims=tuple(map(text, t.dims))) for t in sketch.tensors),
        body=body(sketch.body),
    )


@dataclass
class Tiles:
    """Types and lanes of the tiles of one program.

    Attributes
    ----------
    types : dict of str to str
    lanes : dict of str to frozenset
        Subset of {"R", "C"} along which a tile varies.
    loops : dict of int to str
        Identity of each loop that is cut into tiles -> its variable.
    carried : set of str
        Accumulators of scans.
    """

    sketch: Sketch
    launch: Launch
    types: dict[str, str] = field(default_factory=dict)
    lanes: dict[str, frozenset[str]] = field(default_factory=dict)
    allocs: dict[str, Alloc] = field(default_factory=dict)
    carried: set[str] = field(default_factory=set)
    rows: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.views = {view.name: view for view in self.sketch.views}
        for s in walk(self.launch.body):
            if isinstance(s, Compute) and s.op.startswith("scan_"):
                self.carried.add(s.dst[1])
        for loop in walk(self.launch.body):
            if isinstance(loop, For) and not any(isinstance(s, For) for s in loop.body):
                self.rows.add(loop.var)
        if self.launch.across:
            self.rows.add(self.launch.across)
        self._infer(self.launch.body, self.launch.across)

    def is_row(self, loop: For) -> bool:
        """Whether a loop is passed in tiles: it is an innermost one."""
        return not any(isinstance(s, For) for s in loop.body)

    def view(self, name: str) -> View:
        """Return a view, or that of a whole tensor."""
        if name in self.views:
            return self.views[name]
        dims = self.sketch.tensor(name).dims
        strides = [" * ".join([*(f"({dim})" for dim in dims[k + 1 :]), "1"]) for k in range(len(dims))]
        return View(name, name, dims, tuple("1" if s == "1" else s.removesuffix(" * 1") for s in strides))

    def _infer(self, body: Sequence[Any], row: str) -> None:
        for s in body:
            if isinstance(s, For):
                self._infer(s.body, s.var if self.is_row(s) else row)
            elif isinstance(s, Alloc):
                self.allocs[s.name] = s
                self.types[s.name] = s.dtype
                self.lanes[s.name] = frozenset("C") if s.dims else frozenset()
            elif isinstance(s, Load):
                base = self.view(s.source).base
                self.types[s.dst] = "i64" if base == "iota" else COMPUTE[self.sketch.tensor(base).dtype]
                self.lanes[s.dst] = self.lanes_of(s.index, row)
            elif isinstance(s, Compute) and s.op.startswith("scan_"):
                self.types[s.dst[0]], self.lanes[s.dst[0]] = s.dtype, self._joined(s.args) | {"R"}
            elif isinstance(s, Compute) and not s.op.startswith(_REDUCES):
                self.types[s.dst[0]], self.lanes[s.dst[0]] = COMPUTE[s.dtype], self._joined(s.args)

    def _joined(self, names: Sequence[str]) -> frozenset[str]:
        return frozenset().union(*(self.lanes.get(name, frozenset()) for name in names))

    def lanes_of(self, index: Sequence[str], row: str) -> frozenset[str]:
        """Return the lanes along which an index varies inside the row loop `row`."""
        found: frozenset[str] = frozenset()
        for item in index:
            name = item.partition(":")[0]
            if item.startswith("@"):
                found |= self.lanes[item[1:]]
            elif ":" in item and name == self.launch.columns:
                found |= {"C"}
            elif name == row:
                found |= {"R"}
        return found


def looked_up(index: Sequence[str], view: View) -> tuple[str, str] | None:
    """Return the tile that holds the places of an indirect access and the size of their dim, else None."""
    return next(((item[1:], size) for item, size in zip(index, view.dims) if item.startswith("@")), None)


_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


class Sizes:
    """Numbers of a kernel: literals, loop variables, and arguments that the host computes.

    Parameters
    ----------
    constants : dict of str to int
        Values of the constexprs.
    minimum : str
        Format of the smaller of two numbers.
    """

    def __init__(self, constants: dict[str, int], minimum: str) -> None:
        self.constants, self.minimum = constants, minimum
        self.arguments: list[str] = []
        self.variables: set[str] = set()

    def text(self, size: str) -> str:
        """Return a size as the kernel's source has it."""
        size = self.constant(size)
        if re.fullmatch(r"-?\d+", size) or size in self.variables:
            return size
        if match := re.fullmatch(r"min\((\w+)\+(\w+), (.+)\)", size):
            return self.minimum.format(f"{match[1]} + {match[2]}", self.text(match[3]))
        if size not in self.arguments:
            self.arguments.append(size)
        return f"e{self.arguments.index(size)}"

    def constant(self, size: str) -> str:
        """Return a size with the constexprs' values in it, evaluated where nothing else is left."""
        size = _IDENTIFIER.sub(lambda m: str(self.constants.get(m[0], m[0])), size)
        if not _IDENTIFIER.search(size):
            return str(int(eval(compile(size, "<size>", "eval"), {"__builtins__": {}})))
        return size

    def known(self, size: str) -> int | None:
        """Return the value of a size that is the same at every call, else None."""
        size = self.constant(size)
        return int(size) if re.fullmatch(r"-?\d+", size) else None
