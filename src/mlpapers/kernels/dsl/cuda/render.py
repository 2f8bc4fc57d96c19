"""From a launch to a CUDA function: a block of threads per grid point, one element of a tile per thread.

Thread t works on column t % TC and on the rows t / TC, t / TC + TR, ... of a row loop. Reductions keep one
accumulator per thread; the threads of a column are joined through shared memory when the value is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mlpapers.kernels.dsl.cuda.maths import STORAGE, TYPES, constant, expression
from mlpapers.kernels.dsl.launches import Launch, Sizes, Tiles, looked_up
from mlpapers.kernels.dsl.statements import StatementWriter, is_literal, power_of_two
from mlpapers.kernels.ops import COMPUTE
from mlpapers.kernels.sketch import Alloc, Compute, For, Load, Sketch, Store, walk

_WARP = 32
_CASTS = {
    "f32": "(float)({0})", "f64": "(double)({0})", "i64": "(ll)({0})", "b1": "(({0}) != 0)",
    "bf16": "m_from_bf16(m_to_bf16({0}))", "f16": "m_from_f16(m_to_f16({0}))", "i32": "(ll)(int)({0})",
    "i16": "(ll)(short)({0})", "i8": "(ll)(signed char)({0})", "u8": "(ll)(unsigned char)({0})",
}  # fmt: skip
_LOADS = {"bf16": "m_from_bf16({0})", "f16": "m_from_f16({0})", "b1": "({0} != 0)"}
_STORES = {"bf16": "m_to_bf16({0})", "f16": "m_to_f16({0})", "b1": "(unsigned char)({0})"}
_STARTS = {
    "sum": "0", "prod": "1", "any": "0", "all": "1", "amax": "-inf", "amin": "inf", "cumsum": "0",
    "cumprod": "1", "cummax": "-inf", "cummin": "inf",
}  # fmt: skip
_SCANS = {"cumsum": "f_sum", "cumprod": "f_prod", "cummax": "f_amax", "cummin": "f_amin"}


@dataclass
class Function(StatementWriter):
    """One CUDA function.

    Parameters
    ----------
    sketch : Sketch
        With the constexprs' values.
    launch : Launch
    threads : int
        Most threads of a block.
    """

    sketch: Sketch
    launch: Launch
    threads: int
    lines: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)
    written: set[str] = field(default_factory=set)
    widths: dict[str, int] = field(default_factory=dict)
    groups: dict[str, tuple[Compute, list[Alloc]]] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    row: str = ""
    guard: str = ""

    def __post_init__(self) -> None:
        self.tiles = Tiles(self.sketch, self.launch)
        self.sizes = Sizes(dict(self.sketch.constexprs), "m_min({0}, {1})")
        self.reductions: dict[str, Compute] = {}
        self.scans = False
        for s in walk(self.launch.body):
            if isinstance(s, Compute):
                self.scans |= s.op.startswith("scan_")
                if s.op.startswith(("reduce_", "merge_")):
                    self.reductions |= dict.fromkeys(s.dst, s)
        self.columns, self.rows = self._threads()
        self.threads = self.columns * self.rows

    def _threads(self) -> tuple[int, int]:
        """Return how many threads lie across columns and along rows."""
        if self.launch.columns:
            if not self.tiles.rows or self.scans:
                return self.threads, 1
            return _WARP, max(self.threads // _WARP, 1)
        extents = [
            self.sizes.known(loop.hi) if loop.lo == "0" else None
            for loop in walk(self.launch.body)
            if isinstance(loop, For) and self.tiles.is_row(loop)
        ]
        if extents and all(extent is not None for extent in extents):
            longest = max(extent for extent in extents if extent is not None)
            return 1, min(self.threads, max(power_of_two(longest), _WARP))
        return 1, self.threads if extents else _WARP

    def render(self) -> str:
        """Return the function's text."""
        if self.reductions or self.scans:
            self.emit(1, f"__shared__ double shared[{3 * self.threads}];")
        self.emit(1, f"const int tx = threadIdx.x % {self.columns}, ty = threadIdx.x / {self.columns};")
        self._grid()
        depth = 1
        if self.launch.columns and not self.tiles.rows:
            var, width = self.launch.columns, self.widths[self.launch.columns]
            self.emit(1, "#pragma unroll 4")
            self.emit(1, f"for (ll u = tx; u < {width}; u += {self.columns}) {{")
            self.emit(2, f"const ll c_{var} = {var} + u;")
            self.emit(2, f"if (c_{var} >= {self.sizes.text(self.launch.axes[-1].hi)}) break;")
            depth = 2
        self._body(self.launch.body, depth)
        if depth == 2:
            self.emit(1, "}")
        parameters = []
        for name in self.pointers:
            const = "" if name in self.written else "const "
            parameters.append(f"{const}{STORAGE[self.sketch.tensor(name).dtype]}* __restrict__ p_{name}")
        parameters += [f"ll e{k}" for k in range(len(self.sizes.arguments))]
        head = (
            f'extern "C" __global__ void __launch_bounds__({self.threads}) '
            f"{self.launch.name}({', '.join(parameters)}) {{"
        )
        return "\n".join([head, *self.lines, "}"])

    def emit(self, depth: int, text: str) -> None:
        """Add a line."""
        self.lines.append("  " * depth + text)

    def _grid(self) -> None:
        self.emit(1, "ll pid = blockIdx.x;")
        for k, axis in reversed(list(enumerate(self.launch.axes))):
            step = int(self.sizes.constant(axis.step))
            if axis.var == self.launch.columns:
                step = self.columns if self.tiles.rows else max(step, self.columns)
                self.widths[axis.var] = step
            count = self.sizes.text(axis.hi)
            count = count if step == 1 else f"(({count} + {step - 1}) / {step})"
            if k:
                self.emit(1, f"const ll i_{axis.var} = pid % {count};")
                self.emit(1, f"pid /= {count};")
            else:
                self.emit(1, f"const ll i_{axis.var} = pid;")
            self.emit(1, f"const ll {axis.var} = i_{axis.var} * {step};")
            self.sizes.variables |= {axis.var, f"i_{axis.var}"}
            if axis.var == self.launch.columns and self.tiles.rows:
                self.emit(1, f"const ll c_{axis.var} = {axis.var} + tx;")
                self.emit(1, f"const bool valid = c_{axis.var} < {self.sizes.text(axis.hi)};")
                self.guard = "valid"

    def _loop(self, loop: For, depth: int) -> None:
        low, high, step = (self.sizes.text(t) for t in (loop.lo, loop.hi, loop.step))
        self.sizes.variables.add(loop.var)
        var = loop.var
        if not self.tiles.is_row(loop):
            self.emit(depth, f"for (ll {var} = {low}; {var} < {high}; {var} += {step}) {{")
            self._body(loop.body, depth + 1)
            self.emit(depth, "}")
            return
        outer, self.row = (self.row, self.guard), var
        if any(isinstance(s, Compute) and s.op.startswith("scan_") for s in loop.body):
            # All threads take part in the scan of a block, also those past the end.
            self.emit(depth, f"for (ll b_{var} = {low}; b_{var} < {high}; b_{var} += {self.rows}) {{")
            self.emit(depth + 1, f"const ll {var} = b_{var} + ty;")
            inside = f"{var} < {high}" + (f" && {self.guard}" if self.guard else "")
            self.emit(depth + 1, f"const bool in_{var} = {inside};")
            self.guard = f"in_{var}"
        else:
            self.emit(depth, "#pragma unroll 4")
            condition = f"{self.guard} && {var} < {high}" if self.guard else f"{var} < {high}"
            self.emit(depth, f"for (ll {var} = {low} + ty; {condition}; {var} += {self.rows}) {{")
            self.guard = ""
        self._body(loop.body, depth + 1)
        self.emit(depth, "}")
        self.row, self.guard = outer

    def _parts(self, name: str) -> tuple[Compute, list[Alloc]]:
        reduction = self.reductions[name]
        return reduction, [self.tiles.allocs[part] for part in reduction.dst]

    def kind_of(self, reduction: Compute) -> str:
        """Return the type of a thread's accumulator: the operand's, where the alloc is only wider."""
        alloc = self.tiles.allocs[reduction.dst[0]]
        op = reduction.op.partition("_")[2]
        kind = self.tiles.types.get(reduction.args[0], alloc.dtype)
        if op in ("any", "all"):
            return "b1"
        return "i64" if kind == "b1" and op in ("sum", "prod") else kind

    def _alloc(self, s: Alloc, depth: int) -> None:
        if s.name not in self.reductions:
            kind = TYPES[s.dtype]
            self.emit(depth, f"{kind} {s.name} = {constant(s.init or '0', s.dtype)};")
            return
        reduction, allocs = self._parts(s.name)
        if s.name != reduction.dst[0]:
            return
        self.finished -= set(reduction.dst)
        op, kind = reduction.op.partition("_")[2], self.kind_of(reduction)
        if op == "moments":
            mean, square, count = (alloc.name for alloc in allocs)
            wide = TYPES[kind]
            self.emit(depth, f"{wide} {mean} = 0, {square} = 0, {count} = 0;")
        elif op in ("argmax", "argmin"):
            self.emit(depth, f"Pick<{TYPES[kind]}> {s.name} = {{0, -1}};")
        else:
            start = _STARTS[op]
            if kind == "i64" and "inf" in start:
                start = str(-(2**63) if start == "-inf" else 2**63 - 1)
            if kind == "b1":
                start = "1" if start in ("1", "inf") else "0"
            self.emit(depth, f"{TYPES[kind]} {s.name} = {constant(start, kind)};")

    def _take(self, s: Compute, depth: int) -> None:
        op, kind = s.op.partition("_")[2], self.kind_of(s)
        args = [self.value(name, kind) for name in s.args]
        name = s.dst[0]
        if s.op == "merge_moments":
            mean, square, count = s.dst
            self.emit(depth, f"{{ Moments z = f_moments()(Moments{{{mean}, {square}, {count}}}, "
                      f"Moments{{{', '.join(args)}}});")  # fmt: skip
            self.emit(depth, f"  {mean} = z.m; {square} = z.q; {count} = z.n; }}")
        elif op == "moments":
            mean, square, count = s.dst
            self.emit(depth, f"{{ {count} += 1; const {TYPES[kind]} d = {args[0]} - {mean};")
            self.emit(depth, f"  {mean} += d / {count}; {square} += d * ({args[0]} - {mean}); }}")
        elif op in ("argmax", "argmin"):
            index = self.value(s.args[1], "i64")
            self.emit(depth, f"{name} = f_{op}()({name}, Pick<{TYPES[kind]}>{{{args[0]}, {index}}});")
        else:
            self.emit(depth, f"{name} = f_{op}()({name}, ({TYPES[kind]}){args[0]});")

    def _finish(self, names: Sequence[str], depth: int) -> None:
        """Join the threads' accumulators the first time that one of these is read."""
        for name in names:
            if name not in self.reductions or name in self.finished:
                continue
            reduction, allocs = self._parts(name)
            self.finished |= set(reduction.dst)
            op = reduction.op.partition("_")[2]
            first, wide = allocs[0].name, TYPES[allocs[0].dtype]
            shape = f"{self.columns}, {self.rows}"
            if op == "moments":
                mean, square, count = reduction.dst
                self.emit(depth, f"const Moments g_{mean} = m_join<{shape}>("
                          f"Moments{{{mean}, {square}, {count}}}, shared, f_moments());")  # fmt: skip
            elif op in ("argmax", "argmin"):
                self.emit(depth, f"const auto g_{first} = m_join<{shape}>({first}, shared, f_{op}());")
            else:
                self.emit(
                    depth, f"const {wide} g_{first} = m_join<{shape}>(({wide}){first}, shared, f_{op}());"
                )

    def value(self, name: str, dtype: str) -> str:
        """Return an operand: a tile's element, a joined accumulator, a size, or a literal."""
        if name in self.reductions:
            reduction = self.reductions[name]
            op, first = reduction.op.partition("_")[2], reduction.dst[0]
            if op == "moments":
                return f"g_{first}.{'mqn'[reduction.dst.index(name)]}"
            if op in ("argmax", "argmin"):
                return f"g_{first}.{'vi'[reduction.dst.index(name)]}"
            return f"g_{first}"
        if name in self.tiles.types:
            return name
        if is_literal(name):
            return constant(name, dtype)
        return f"({TYPES[dtype]}){self.sizes.text(name)}"

    def _place(self, source: str, index: Sequence[str]) -> tuple[str, str, frozenset[str]]:
        view = self.tiles.view(source)
        terms = [] if view.offset == "0" else [self.sizes.text(view.offset)]
        for item, stride in zip(index, view.strides):
            step = self.sizes.text(stride)
            if step == "0":
                continue
            name = item.partition(":")[0]
            if item.startswith("@"):
                text = self.value(item[1:], "i64")
            elif name == self.row:
                text = self.row
            elif ":" in item:
                text = f"c_{name}"
            elif "//" in item:
                text = f"i_{item.split('//')[0]}"
            else:
                text = self.sizes.text(item)
            terms.append(text if step == "1" else f"{text} * {step}")
        return view.base, " + ".join(terms) or "0", self.tiles.lanes_of(index, self.row)

    def _pointer(self, tensor: str, write: bool) -> str:
        if tensor not in self.pointers:
            self.pointers.append(tensor)
        if write:
            self.written.add(tensor)
        return f"p_{tensor}"

    def _load(self, s: Load, depth: int) -> None:
        base, place, lanes = self._place(s.source, s.index)
        kind = TYPES[self.tiles.types[s.dst]]
        if base == "iota":
            self.emit(depth, f"const ll {s.dst} = {place};")
            return
        dtype = self.sketch.tensor(base).dtype
        element = _LOADS.get(dtype, f"({kind}){{0}}").format(f"{self._pointer(base, False)}[{place}]")
        guard = self.guard if lanes else ""
        if indirect := looked_up(s.index, self.tiles.view(s.source)):
            where = self.value(indirect[0], "i64")
            within = f"{where} >= 0 && {where} < {self.sizes.text(indirect[1])}"
            guard = f"({guard} && {within})" if guard else f"({within})"
        text = f"{guard} ? {element} : ({kind})0" if guard else element
        self.emit(depth, f"const {kind} {s.dst} = {text};")

    def _store(self, s: Store, depth: int) -> None:
        self._finish([s.src], depth)
        base, place, lanes = self._place(s.target, s.index)
        dtype = self.sketch.tensor(base).dtype
        value = self.value(s.src, COMPUTE[dtype])
        guards = [self.guard] if self.guard and lanes else []
        if "R" not in lanes and (self.rows > 1 or not lanes):
            guards.append("ty == 0" if "C" in lanes else "threadIdx.x == 0")
        stored = _STORES.get(dtype, f"({STORAGE[dtype]})({{0}})").format(value)
        text = f"{self._pointer(base, True)}[{place}] = {stored};"
        self.emit(depth, f"if ({' && '.join(guards)}) {text}" if guards else text)

    def _pointwise(self, s: Compute, depth: int) -> None:
        self._finish(s.args, depth)
        kinds = [self.tiles.types[name] for name in s.args if name in self.tiles.types]
        result = TYPES[self.tiles.types[s.dst[0]]]
        if s.op == "cast":
            kind = COMPUTE[kinds[0] if kinds else s.dtype]
            text = _CASTS[s.dtype].format(self.value(s.args[0], kind))
        elif s.op == "where":
            kind = COMPUTE[s.dtype]
            text = expression(
                "where", [self.value(s.args[0], "b1"), *(self.value(a, kind) for a in s.args[1:])], kind
            )
        else:
            kind = kinds[0] if kinds else COMPUTE[s.dtype]
            text = expression(s.op, [self.value(name, kind) for name in s.args], kind)
        self.emit(depth, f"const {result} {s.dst[0]} = {text};")

    def _scan(self, s: Compute, depth: int) -> None:
        result, carry = s.dst
        op = s.op.removeprefix("scan_")
        wide = self.tiles.allocs[carry].dtype
        operand = self.value(s.args[0], wide)
        kind, start = TYPES[wide], _STARTS[op]
        if wide == "i64" and "inf" in start:
            start = str(-(2**63) if start == "-inf" else 2**63 - 1)
        neutral = constant(start, wide)
        given = f"({kind}){operand}"
        given = f"{self.guard} ? {given} : {neutral}" if self.guard else given
        self.emit(depth, f"{kind} l_{result};")
        block = f"m_scan<{self.columns}, {self.rows}>({given}, l_{result}, shared, {_SCANS[op]}())"
        self.emit(depth, f"const {kind} x_{result} = {_SCANS[op]}()({carry}, {block});")
        self.emit(depth, f"{carry} = {_SCANS[op]}()({carry}, l_{result});")
        self.emit(depth, f"const {TYPES[s.dtype]} {result} = ({TYPES[s.dtype]})x_{result};")
