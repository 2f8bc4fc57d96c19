"""From a sketch's loops to C++: consecutive tile statements become one vector loop each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlpapers.kernels.dsl.cpp.home import home_of
from mlpapers.kernels.dsl.cpp.jam import rows_together, write_rows
from mlpapers.kernels.dsl.cpp.maths import STORAGE, TYPES, constant
from mlpapers.kernels.dsl.cpp.vector import Run
from mlpapers.kernels.ops import COMPUTE
from mlpapers.kernels.sketch import Alloc, Compute, For, Load, Sketch, Store, View, walk

_PARALLEL_FROM = 16384
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


@dataclass
class Function:
    """One C++ function: the loops between two library calls.

    Parameters
    ----------
    sketch : Sketch
    constants : dict of str to int
        Values of the constexprs.
    name : str
    tables : list of (str, str)
        Tensors that are read at computed places and how many there are, of all functions so far; grows.
    """

    sketch: Sketch
    constants: dict[str, int]
    name: str
    tables: list[tuple[str, str]] = field(default_factory=list)
    looks_up: bool = False
    pointers: list[str] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    sizes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    arrays: set[str] = field(default_factory=set)
    allocs: dict[str, Alloc] = field(default_factory=dict)
    tiles: list[tuple[str, str]] = field(default_factory=list)
    workspaces: list[Alloc] = field(default_factory=list)
    views: dict[str, View] = field(default_factory=dict)
    loops: list[str] = field(default_factory=list)
    fronts: dict[str, str] | None = None
    homes: dict[str, Store] = field(default_factory=dict)
    helpers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.views = {view.name: view for view in self.sketch.views}

    def number(self, text: str) -> str:
        """Return a size as C++: a literal, a loop variable, or an argument that the host computes."""
        text = _IDENTIFIER.sub(lambda m: str(self.constants.get(m[0], m[0])), text)
        if re.fullmatch(r"-?\d+", text):
            return text
        if match := re.fullmatch(r"min\((\w+)\+(\w+), (.+)\)", text):
            return f"m_min({match[1]} + {match[2]}, {self.number(match[3])})"
        if re.fullmatch(r"c", text):
            return text
        if text not in self.sizes:
            self.sizes.append(text)
        return f"e{self.sizes.index(text)}"

    def pointer(self, tensor: str, write: bool = False) -> str:
        """Return the parameter of a tensor."""
        if tensor not in self.pointers:
            self.pointers.append(tensor)
        if write:
            self.written.add(tensor)
        return f"p_{tensor}"

    def table(self, source: str, size: str) -> int:
        """Return the number, from 1, of a tensor that is read at computed places."""
        self.looks_up = True
        table = (self.views[source].base, size)
        if table not in self.tables:
            self.tables.append(table)
        return self.tables.index(table) + 1

    def front(self, target: str, index: Sequence[str]) -> str | None:
        """Declare and return the front of a large result that a thread writes in its memory's order, or None.

        Parameters
        ----------
        target : str
            What a store names.
        index : sequence of str

        Returns
        -------
        name : str or None
        """
        if target in self.homes:
            target, index = self.homes[target].target, (*self.homes[target].index[:-1], index[-1])
        if self.fronts is None or target in self.allocs or not self.constants.get("HUGE"):
            return None
        order = [self.loops.index(name) for item in index if (name := item.split(":")[0]) in self.loops]
        if order != sorted(order):
            return None
        tensor = self.views[target].base if target in self.views else target
        count = " * ".join(self.number(size) for size in self.sketch.tensor(tensor).dims) or "1"
        pointer = self.pointer(tensor, write=True)
        name = f"f_{target}"
        self.fronts[name] = f"m_front {name} = m_begin({pointer}, ({count}) * (long)sizeof(*{pointer}));"
        return name

    def emit(self, depth: int, text: str) -> None:
        """Add a line."""
        self.lines.append("  " * depth + text)

    def emit_block(self, depth: int, lines: Sequence[str], clauses: str = "") -> None:
        """Add a vector loop over the elements g to h of a tile."""
        self.emit(depth, f"#pragma omp simd{clauses}")
        self.emit(depth, "for (long j = g; j < h; ++j) {")
        for line in lines:
            self.emit(depth + 1, line)
        self.emit(depth, "}")

    def render(self, body: Sequence[Any]) -> str:
        """Return the text of the function for a run of statements."""
        self._infer(body)
        self._find_arrays(body)
        alone = spaces_of_all(body)
        self._workspace(alone, 1)
        self._body(body, 1, in_parallel=False)
        self._release(alone, 1)
        parameters = []
        for tensor in self.pointers:
            kind = STORAGE[self.sketch.tensor(tensor).dtype]
            parameters.append(f"{'' if tensor in self.written else 'const '}{kind}* __restrict p_{tensor}")
        parameters += [f"long e{k}" for k in range(len(self.sizes))]
        parameters += ["long* outside"] * self.looks_up
        parameters.append("int threads")
        head = f'extern "C" void {self.name}({", ".join(parameters)}) {{'
        return "\n".join([head, *self.lines, "}"])

    def _infer(self, body: Sequence[Any]) -> None:
        for s in walk(body):
            if isinstance(s, Alloc):
                self.types[s.name], self.ranks[s.name] = s.dtype, min(len(s.dims), 1)
                self.allocs[s.name] = s
            elif isinstance(s, Load):
                self.types[s.dst] = self._source_type(s.source)
                indirect = [item[1:] for item in s.index if item.startswith("@")]
                sliced = any(":" in item for item in s.index)
                self.ranks[s.dst] = max([int(sliced), *(self.ranks[name] for name in indirect)])
            elif isinstance(s, Compute):
                rank = max([self.ranks.get(name, 0) for name in s.args], default=0)
                if s.op.startswith("scan_"):
                    self.types[s.dst[0]], self.ranks[s.dst[0]] = s.dtype, rank
                elif s.dtype:
                    self.types[s.dst[0]] = COMPUTE[s.dtype]
                    self.ranks[s.dst[0]] = rank

    def _source_type(self, source: str) -> str:
        if source in self.allocs:
            return self.allocs[source].dtype
        view = self.views.get(source)
        base = view.base if view is not None else source
        return "i64" if base == "iota" else COMPUTE[self.sketch.tensor(base).dtype]

    def rank_of(self, s: Any) -> int:
        """Return 1 for a statement on tiles, 0 for one on numbers."""
        if isinstance(s, Load):
            return self.ranks[s.dst]
        if isinstance(s, Store):
            return max(self.ranks.get(s.src, 0), int(any(":" in item for item in s.index)))
        if isinstance(s, Compute):
            return max([self.ranks.get(name, 0) for name in (*s.args, *s.dst)], default=0)
        return 0

    def _find_arrays(self, body: Sequence[Any]) -> None:
        """Tiles that a vector loop reads from an earlier one are arrays; the others are its own numbers."""
        for run in self._runs(body):
            made: set[str] = set()
            for s in run:
                if isinstance(s, Alloc):
                    continue
                written = s.dst if isinstance(s, Compute) else (s.dst,) if isinstance(s, Load) else ()
                for name in names_of(s):
                    tile = self.ranks.get(name, 0) and name not in self.allocs
                    if tile and name not in written and name not in made:
                        self.arrays.add(name)
                made.update(written)

    def _runs(self, body: Sequence[Any]) -> list[list[Any]]:
        runs: list[list[Any]] = [[]]
        for s in body:
            if isinstance(s, For):
                runs += self._runs(s.body)
                runs.append([])
            else:
                runs[-1].append(s)
        return runs

    def _body(self, body: Sequence[Any], depth: int, in_parallel: bool) -> None:
        run: list[Any] = []
        for s in body:
            if isinstance(s, For):
                self._run(run, depth)
                run = []
                self._loop(s, depth, in_parallel)
            else:
                run.append(s)
        self._run(run, depth)

    def _loop(self, loop: For, depth: int, in_parallel: bool) -> None:
        chain = [loop]
        if loop.has("parallel") and not in_parallel:
            while (
                len(chain[-1].body) == 1
                and isinstance(chain[-1].body[0], For)
                and chain[-1].body[0].has("parallel")
            ):
                chain.append(chain[-1].body[0])
            spaces = [s for s in walk(chain[-1].body) if isinstance(s, Alloc) and "temp_workspace" in s.hints]
            self._find_homes(spaces, chain[-1].body)
            spaces = [s for s in spaces if s.name not in self.homes]
            self.emit(
                depth, f"#pragma omp parallel num_threads(threads) if({self._work(chain)} > {_PARALLEL_FROM})"
            )
            self.emit(depth, "{")
            start, self.fronts = len(self.lines), {}
            self._workspace(spaces, depth + 1)
            collapse = f" collapse({len(chain)})" if len(chain) > 1 else ""
            self.emit(depth + 1, f"#pragma omp for schedule(static){collapse}")
            self._nested(chain, depth + 1, True)
            self._release(spaces, depth + 1)
            self.emit(depth, "}")
            self.lines[start:start] = ["  " * (depth + 1) + line for line in self.fronts.values()]
            self.fronts = None
            return
        self._nested(chain, depth, in_parallel)

    def _find_homes(self, spaces: Sequence[Alloc], body: Sequence[Any]) -> None:
        """Note which workspaces of a row can live in a row of a result, at most one in each."""
        for space in spaces:
            home = home_of(self, space, body)
            if home is not None and home.target not in {store.target for store in self.homes.values()}:
                self.homes[space.name] = home

    def _work(self, chain: Sequence[For]) -> str:
        def extent(loops: Sequence[Any]) -> list[str]:
            inner = [s for s in loops if isinstance(s, For)]
            if not inner:
                return []
            widest = max(inner, key=lambda s: len(extent(s.body)))
            return [widest.hi, *extent(widest.body)]

        sizes = [loop.hi for loop in chain] + extent(chain[-1].body)
        return " * ".join(f"(double){self.number(size)}" for size in sizes if "min(" not in size)

    def _workspace(self, spaces: Sequence[Alloc], depth: int) -> None:
        for s in spaces:
            count = " * ".join(self.number(size) for size in s.dims) or "1"
            kind = TYPES[s.dtype]
            self.emit(
                depth,
                f"{kind}* {s.name} = ({kind}*)aligned_alloc(64, "
                f"(({count}) * sizeof({kind}) + 63) / 64 * 64);",
            )

    def _release(self, spaces: Sequence[Alloc], depth: int) -> None:
        for s in spaces:
            self.emit(depth, f"free({s.name});")

    def _nested(self, chain: Sequence[For], depth: int, in_parallel: bool) -> None:
        for k, loop in enumerate(chain):
            low, high, step = self.number(loop.lo), self.number(loop.hi), self.number(loop.step)
            rows = rows_together(self, loop)
            if rows > 1:
                self.emit(depth + k, "{")
                write_rows(self, loop, rows, depth + k)
                continue
            self.emit(
                depth + k, f"for (long {loop.var} = {low}; {loop.var} < {high}; {loop.var} += {step}) {{"
            )
        inner = chain[-1]
        self.loops += [loop.var for loop in chain]
        depth += len(chain)
        step = self.number(inner.step)
        tiled = step != "1" and any(
            f"{inner.var}:" in item for s in walk(inner.body) for item in indices_of(s)
        )
        if tiled:
            self.emit(
                depth, f"const long n_{inner.var} = m_min({step}, {self.number(inner.hi)} - {inner.var});"
            )
            self.tiles.append((inner.var, step))
        self._body(inner.body, depth, in_parallel)
        if tiled:
            self.tiles.pop()
        del self.loops[-len(chain) :]
        for k, loop in enumerate(reversed(chain)):
            self.emit(depth - 1 - k, "}}" if rows_together(self, loop) > 1 else "}")

    def _run(self, run: Sequence[Any], depth: int) -> None:
        """Emit statements between loops: numbers first, then one vector loop for all tiles."""
        if not run:
            return
        for s in run:
            if isinstance(s, Alloc):
                self._alloc(s, depth)
        scalars = [s for s in run if not isinstance(s, Alloc) and self.rank_of(s) == 0]
        if scalars:
            Run(self, scalars, None).write(depth)
        tiles = [s for s in run if not isinstance(s, Alloc) and self.rank_of(s) == 1]
        if tiles:
            Run(self, tiles, self.tiles[-1]).write(depth)

    def _alloc(self, s: Alloc, depth: int) -> None:
        kind = TYPES[s.dtype]
        if s.name in self.homes:
            home = self.homes[s.name]
            _, row, _ = Run(self, (), None).address(home.target, (*home.index[:-1], "0"), True)
            self.emit(depth, f"{kind}* {s.name} = {row};")
        if "temp_workspace" in s.hints:
            return
        start = constant(s.init, s.dtype) if s.init else "0"
        if not s.dims:
            self.emit(depth, f"{kind} {s.name} = {start};")
            return
        size = self.number(s.dims[0])
        self.emit(depth, f"alignas(64) {kind} {s.name}[{size}];")
        self.emit(depth, f"for (long j = 0; j < {size}; ++j) {s.name}[j] = {start};")


def spaces_of_all(body: Sequence[Any]) -> list[Alloc]:
    """Return the workspaces outside every parallel loop: one row is all there is."""
    found: list[Alloc] = []
    for s in body:
        if isinstance(s, Alloc) and "temp_workspace" in s.hints:
            found.append(s)
        elif isinstance(s, For) and not s.has("parallel"):
            found += spaces_of_all(s.body)
    return found


def names_of(s: Any) -> tuple[str, ...]:
    """Return the tile names of a statement."""
    if isinstance(s, Load):
        return (s.dst, *(item[1:] for item in s.index if item.startswith("@")))
    if isinstance(s, Store):
        return (s.src,)
    return (*s.args, *s.dst)


def indices_of(s: Any) -> tuple[str, ...]:
    """Return the index items of a statement."""
    return s.index if isinstance(s, Load | Store) else ()
