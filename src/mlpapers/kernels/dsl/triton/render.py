"""From a launch to a Triton function: one program per grid point, tiles as blocks with masks."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlpapers.kernels.dsl.launches import Launch, Sizes, Tiles, looked_up, online
from mlpapers.kernels.dsl.statements import StatementWriter, is_literal, power_of_two
from mlpapers.kernels.dsl.triton.maths import TYPES, constant, expression
from mlpapers.kernels.dsl.triton.reduce import LaneAccumulator, parts_of
from mlpapers.kernels.dsl.triton.turned import turned
from mlpapers.kernels.ops import COMPUTE
from mlpapers.kernels.sketch import Alloc, Compute, For, Load, Sketch, Store, walk

# Elements of a two-lane tile, and of a block of partial results.
TILE_ELEMENTS = 8192
MERGE_BLOCK = 1024
# Elements of a tile in a loop over a chunk, which accumulates: fewer registers, more programs side by side.
SLAB_ELEMENTS = 4096
# Elements of a tile that is transposed on the way, and the shortest side across its columns.
TURNED_ELEMENTS, TURNED_SIDE = 4096, 16
_CASTS = {
    "f32": "{0}.to(tl.float32)", "f64": "{0}.to(tl.float64)", "i64": "{0}.to(tl.int64)", "b1": "({0} != 0)",
    "bf16": "{0}.to(tl.bfloat16).to(tl.float32)", "f16": "{0}.to(tl.float16).to(tl.float32)",
    "i32": "{0}.to(tl.int32).to(tl.int64)", "i16": "{0}.to(tl.int16).to(tl.int64)",
    "i8": "{0}.to(tl.int8).to(tl.int64)", "u8": "{0}.to(tl.uint8).to(tl.int64)",
}  # fmt: skip
_LOADS = {"b1": "({0} != 0)", "f16": "{0}.to(tl.float32)", "bf16": "{0}.to(tl.float32)"}


@dataclass
class Row:
    """A loop that is passed in blocks."""

    var: str
    block: int
    mask: str
    start: str


@dataclass
class Program(StatementWriter):
    """One Triton function.

    Parameters
    ----------
    sketch : Sketch
        With the constexprs' values.
    launch : Launch
    """

    sketch: Sketch
    launch: Launch
    lines: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    lanes: dict[str, LaneAccumulator] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    row: Row | None = None
    columns: int = 0

    def __post_init__(self) -> None:
        self.launch = turned(self.sketch, self._passes())
        self.tiles = Tiles(self.sketch, self.launch)
        self.sizes = Sizes(dict(self.sketch.constexprs), "tl.minimum({0}, {1})")
        self.column_mask = ""
        self.largest = 1
        self.cached: dict[tuple[str, tuple[str, ...]], str] = {}
        self.bases: dict[str, str] = {}
        self.straight = True
        self.accumulated = self._reductions()

    def _passes(self) -> Launch:
        """Return the launch with one pass less over rows that are too long for a block."""
        sizes = Sizes(dict(self.sketch.constexprs), "")
        for loop in self.launch.body:
            if isinstance(loop, For) and loop.lo == "0" and loop.step != "1":
                extent = sizes.known(loop.hi)
                if extent is None or extent > int(sizes.constant(loop.step)):
                    return replace(self.launch, body=online(self.launch.body))
        return self.launch

    @property
    def places(self) -> bool:
        """Whether a reduction keeps the places of extremes."""
        return any(s.op in ("reduce_argmax", "reduce_argmin") for s, _ in self.accumulated.values())

    @property
    def tile_elements(self) -> int:
        """Elements of a two-lane tile: half as many where a place is kept with each."""
        return TILE_ELEMENTS // 2 if self.places else TILE_ELEMENTS

    @property
    def rank(self) -> int:
        """Number of lanes of the program's blocks."""
        return 2 if self.columns and self.tiles.rows else 1

    def render(self) -> str:
        """Return the function's text."""
        self._grid()
        self._body(self.launch.body, 1)
        pointers = [f"p_{name}" for name in self.pointers]
        sizes = [f"e{k}" for k in range(len(self.sizes.arguments))]
        head = f"@triton.jit\ndef {self.launch.name}({', '.join([*pointers, *sizes, 'WIDE: tl.constexpr'])}):"
        return "\n".join([head, *self.lines])

    def emit(self, depth: int, text: str) -> None:
        """Add a line."""
        self.lines.append("    " * depth + text)

    def _grid(self) -> None:
        self.emit(1, "pid = tl.program_id(0)")
        self.emit(1, "if WIDE:")
        self.emit(2, "pid = pid.to(tl.int64)")
        axes = self.launch.axes
        for k, axis in reversed(list(enumerate(axes))):
            step = int(self.sizes.constant(axis.step))
            extent = self.sizes.known(axis.hi)
            if axis.var == self.launch.columns:
                step = min(power_of_two(step), power_of_two(extent)) if extent else power_of_two(step)
                self.columns = self.widths[axis.var] = step
            if axis.var == self.launch.across:
                step = max(TURNED_ELEMENTS // self.columns, TURNED_SIDE)
                step = self.widths[axis.var] = min(step, power_of_two(extent)) if extent else step
            count = self.sizes.text(axis.hi)
            if step != 1:
                count = (
                    str(-(-extent // step)) if extent is not None else f"(({count} + {step - 1}) // {step})"
                )
            if k:
                self.emit(1, f"i_{axis.var} = pid % {count}")
                self.emit(1, f"pid = pid // {count}")
            else:
                self.emit(1, f"i_{axis.var} = pid")
            self.emit(1, f"{axis.var} = i_{axis.var}" + (f" * {step}" if step != 1 else ""))
            self.sizes.variables |= {axis.var, f"i_{axis.var}"}
            if axis.var == self.launch.columns:
                self.emit(1, f"l_{axis.var} = tl.arange(0, {step})" + ("[None, :]" if self.rank == 2 else ""))
                if extent is None or extent % step:
                    self.column_mask = "m_columns"
                    self.emit(1, f"m_columns = {axis.var} + l_{axis.var} < {self.sizes.text(axis.hi)}")
            if axis.var == self.launch.across:
                self.row = Row(axis.var, step, "", axis.var)
                self.emit(1, f"l_{axis.var} = tl.arange(0, {step})[:, None]")
                if extent is None or extent % step:
                    self.row.mask = f"m_{axis.var}"
                    self.emit(1, f"m_{axis.var} = {axis.var} + l_{axis.var} < {self.sizes.text(axis.hi)}")
        self.largest = max(self.largest, self.columns * (self.row.block if self.row else 1))

    def _take(self, s: Compute, depth: int) -> None:
        self.lanes[s.dst[0]].take(self, s, depth)

    def _reductions(self) -> dict[str, tuple[Compute, For]]:
        """Return the reduction behind each accumulator, and the row loop in which it takes tiles."""
        found: dict[str, tuple[Compute, For]] = {}
        for loop in walk(self.launch.body):
            if isinstance(loop, For) and self.tiles.is_row(loop):
                for s in loop.body:
                    if isinstance(s, Compute) and s.op.startswith(("reduce_", "merge_")):
                        for name in s.dst:
                            found[name] = (s, loop)
        return found

    def _row(self, loop: For) -> Row:
        extent = self.sizes.known(loop.hi) if loop.lo == "0" else None
        step = int(self.sizes.constant(loop.step))
        if step == 1:
            elements = self.tile_elements if loop.lo == "0" else SLAB_ELEMENTS
            step = max(elements // self.columns, 1) if self.columns else MERGE_BLOCK
        block = power_of_two(step)
        if extent is not None:
            block = min(block, power_of_two(extent))
        return Row(loop.var, block, "", loop.lo)

    def turns(self) -> float:
        """Return how often loops pass at most, chunks of the grid with them; infinity where not known."""
        total = 1.0
        for loop in (*self.launch.axes, *(s for s in walk(self.launch.body) if isinstance(s, For))):
            chunk = re.fullmatch(r"min\(\w+\+\w+, (.+)\)", loop.hi)
            extent = self.sizes.known(chunk[1] if chunk else loop.hi)
            closed = loop not in self.launch.axes or loop.step.startswith("CHUNK")
            total *= (math.inf if extent is None else extent) if closed else 1
        return total

    def block_of(self, loop: For) -> int:
        """Return how many passes of a row loop a block holds."""
        return self._row(loop).block

    def block_shape(self, loop: For, lanes: frozenset[str]) -> str:
        """Return the shape of a tile inside a row loop."""
        block = self.block_of(loop)
        return f"[{block}, {self.columns if 'C' in lanes else 1}]" if self.rank == 2 else f"[{block}]"

    def _loop(self, loop: For, depth: int) -> None:
        if not self.tiles.is_row(loop):
            low, high, step = (self.sizes.text(t) for t in (loop.lo, loop.hi, loop.step))
            self.emit(depth, f"for {loop.var} in range({low}, {high}, {step}):")
            self.sizes.variables.add(loop.var)
            self._inside(loop.body, depth + 1)
            return
        row = self._row(loop)
        self.largest = max(self.largest, row.block * max(self.columns, 1))
        extent = self.sizes.known(loop.hi) if loop.lo == "0" else None
        arange = f"tl.arange(0, {row.block})" + ("[:, None]" if self.rank == 2 else "")
        high = self.sizes.text(loop.hi)
        self.emit(depth, f"l_{loop.var} = {arange}")
        whole = (extent is not None and extent % row.block == 0) or self._divides(loop, row.block)
        if extent is not None and extent <= row.block:
            row.start = ""
            if not whole:
                row.mask = f"m_{loop.var}"
                self.emit(depth, f"{row.mask} = l_{loop.var} < {high}")
            self.row = row
            self._body(loop.body, depth)
            self.row = None
            return
        row.start = loop.var
        self.sizes.variables.add(loop.var)
        self.emit(depth, f"for {loop.var} in range({self.sizes.text(loop.lo)}, {high}, {row.block}):")
        if not whole:
            row.mask = f"m_{loop.var}"
            self.emit(depth + 1, f"{row.mask} = {loop.var} + l_{loop.var} < {high}")
        self.row = row
        self._inside(loop.body, depth + 1)
        self.row = None

    def _divides(self, loop: For, block: int) -> bool:
        """Whether blocks fill the chunk over which a loop runs, and chunks the whole."""
        match = re.fullmatch(r"min\((\w+)\+(\w+), (.+)\)", loop.hi)
        if match is None or match[1] != loop.lo:
            return False
        chunk, size = self.sizes.known(match[2]), self.sizes.known(match[3])
        return chunk is not None and size is not None and chunk % block == 0 and size % chunk == 0

    def _inside(self, body: Sequence[Any], depth: int) -> None:
        """Emit a loop's body; what it loads is known there only."""
        outer, self.cached = self.cached, dict(self.cached)
        self._body(body, depth)
        self.cached = outer

    def _alloc(self, s: Alloc, depth: int) -> None:
        if s.name in self.accumulated:
            reduction, loop = self.accumulated[s.name]
            first = reduction.dst[0]
            if s.name == first:
                accumulator = LaneAccumulator(reduction, loop, [self.tiles.allocs[n] for n in reduction.dst])
                for name in reduction.dst:
                    self.lanes[name] = accumulator
                    self.names.pop(name, None)
                accumulator.begin(self, depth)
            return
        shape = (
            f"[1, {self.columns}]"
            if s.dims and self.rank == 2
            else ("[]" if not s.dims else f"[{self.columns}]")
        )
        start = constant(s.init or "0", s.dtype)
        self.emit(depth, f"{s.name} = tl.full({shape}, {start}, {TYPES[s.dtype]})")

    def mask(self, lanes: frozenset[str]) -> str:
        """Return the mask of a tile with these lanes, "" where all its elements are there."""
        parts = []
        if "R" in lanes and self.row is not None and self.row.mask:
            parts.append(self.row.mask)
        if "C" in lanes and self.column_mask:
            parts.append(self.column_mask)
        return " & ".join(f"({part})" if len(parts) > 1 else part for part in parts)

    def _address(self, source: str, index: Sequence[str]) -> tuple[str, str, frozenset[str]]:
        """Return (base tensor, offset text, lanes) of an access."""
        view = self.tiles.view(source)
        outside = [] if view.offset == "0" else [self.sizes.text(view.offset)]
        inside: list[str] = []
        lanes = self.tiles.lanes_of(index, self.row.var if self.row else "")
        for item, stride in zip(index, view.strides):
            step = self.sizes.text(stride)
            if step == "0":
                continue
            times = "" if step == "1" else f" * {step}"
            name = item.partition(":")[0]
            if item.startswith("@"):
                inside.append(f"{self.value(item[1:], 'i64')}{times}")
            elif self.row is not None and name == self.row.var:
                if self.row.start:
                    outside.append(f"{self.row.start}{times}")
                inside.append(f"l_{name}{times}")
            elif ":" in item:
                outside.append(f"{name}{times}")
                inside.append(f"l_{name}{times}")
            elif "//" in item:
                outside.append(f"i_{item.split('//')[0]}{times}")
            else:
                outside.append(f"{self.sizes.text(item)}{times}")
        text = " + ".join([*([f"({' + '.join(outside)})"] if outside else []), *inside]) or "0"
        return view.base, text, lanes

    def pointer(self, tensor: str) -> str:
        """Return the parameter of a tensor."""
        if tensor not in self.pointers:
            self.pointers.append(tensor)
        return f"p_{tensor}"

    def _load(self, s: Load, depth: int) -> None:
        base, offset, lanes = self._address(s.source, s.index)
        key = (s.source, (offset,))
        if key in self.cached:
            self.names[s.dst] = self.cached[key]
            return
        self.names.pop(s.dst, None)
        self.cached[key] = s.dst
        self.bases[s.dst] = base
        if base == "iota":
            self.emit(depth, f"{s.dst} = tl.cast({offset}, tl.int64)")
            return
        dtype = self.sketch.tensor(base).dtype
        mask = self.mask(lanes)
        if indirect := looked_up(s.index, self.tiles.view(s.source)):
            where = self.value(indirect[0], "i64")
            within = f"({where} >= 0) & ({where} < {self.sizes.text(indirect[1])})"
            mask = f"({mask}) & {within}" if mask else within
        text = f"tl.load({self.pointer(base)} + {offset}" + (f", mask={mask}, other=0)" if mask else ")")
        kind = COMPUTE[dtype]
        default = "{0}.to(tl.int64)" if kind == "i64" and dtype != "i64" else "{0}"
        self.emit(depth, f"{s.dst} = {_LOADS.get(dtype, default).format(text)}")

    def _store(self, s: Store, depth: int) -> None:
        self.finish_accumulators([s.src], depth)
        base, offset, lanes = self._address(s.target, s.index)
        dtype = self.sketch.tensor(base).dtype
        value = self.value(s.src, COMPUTE[dtype])
        mask = self.mask(lanes)
        # What was loaded from the tensor before may have changed.
        self.cached = {key: name for key, name in self.cached.items() if self.bases.get(name) != base}
        if dtype == "b1":
            value = f"({value}).to(tl.int8)"
        self.emit(
            depth, f"tl.store({self.pointer(base)} + {offset}, {value}" + (f", mask={mask})" if mask else ")")
        )

    def value(self, name: str, dtype: str) -> str:
        """Return an operand: a tile, a size, or a literal."""
        if name in self.lanes:
            return self.lanes[name].final(self, name)
        if name in self.tiles.types:
            return self.names.get(name, name)
        if is_literal(name):
            return constant(name, dtype)
        return f"tl.cast({self.sizes.text(name)}, {TYPES[dtype]})"

    def type_of(self, name: str) -> str | None:
        """Return the compute type of a tile, None for a literal."""
        return self.tiles.types.get(name)

    def _assign(self, name: str, text: str, depth: int) -> None:
        self.names.pop(name, None)
        self.emit(depth, f"{name} = {text}")

    def finish_accumulators(self, names: Sequence[str], depth: int) -> None:
        """Emit the last step of accumulators that are about to be read."""
        for name in names:
            if name in self.lanes:
                self.lanes[name].finish(self, depth)

    def _pointwise(self, s: Compute, depth: int) -> None:
        self.finish_accumulators(s.args, depth)
        kinds = [kind for kind in map(self.type_of, s.args) if kind is not None]
        if s.op == "cast":
            kind = COMPUTE[kinds[0] if kinds else s.dtype]
            operand = self.value(s.args[0], kind)
            operand = operand if kinds else f"tl.full([], {operand}, {TYPES[kind]})"
            self._assign(s.dst[0], _CASTS[s.dtype].format(operand), depth)
            return
        if s.op == "where":
            kind = COMPUTE[s.dtype]
            args = [self.value(s.args[0], "b1"), *(self.value(a, kind) for a in s.args[1:])]
            self._assign(s.dst[0], f"{expression('where', args, kind)}.to({TYPES[kind]})", depth)
            return
        kind = kinds[0] if kinds else COMPUTE[s.dtype]
        args = [self.value(name, kind) for name in s.args]
        if not kinds:
            args[0] = f"tl.full([], {args[0]}, {TYPES[kind]})"
        text = expression(s.op, args, kind)
        if s.op in ("relu", "maximum", "minimum"):
            text = f"{text}.to({TYPES[kind]})"
        self._assign(s.dst[0], text, depth)

    def _scan(self, s: Compute, depth: int) -> None:
        """Scan the block and put the carry of the blocks before into it."""
        result, carry = s.dst
        kind, wide = self.type_of(s.args[0]) or s.dtype, TYPES[self.tiles.allocs[carry].dtype]
        operand = self.value(s.args[0], kind)
        lanes = self.tiles.lanes[result]
        op = s.op.removeprefix("scan_")
        identity = constant(parts_of(op), kind)
        mask = self.mask(lanes)
        name = f"x_{result}"
        self.emit(depth, f"{name} = {f'tl.where({mask}, {operand}, {identity})' if mask else operand}")
        block = f"y_{result}"
        keep = ", keep_dims=True" if self.rank == 2 else ""
        join = {"cumsum": "{0} + {1}", "cumprod": "{0} * {1}", "cummax": "_larger({0}, {1})",
                "cummin": "_smaller({0}, {1})"}[op]  # fmt: skip
        combine = {"cumsum": "", "cumprod": "", "cummax": "_larger", "cummin": "_smaller"}[op]
        scanned = f"tl.{op}({name}, 0)" if not combine else f"tl.associative_scan({name}, 0, {combine})"
        self.emit(depth, f"{block} = {scanned}")
        self.emit(depth, f"{result} = ({join.format(block, carry)}).to({TYPES[s.dtype]})")
        assert self.row is not None
        last = f"tl.where(l_{self.row.var} == {self.row.block - 1}, {block}, 0)"
        if self.row.start:
            end = f"tl.sum({name if op == 'cumsum' else last}, 0{keep}).to({wide})"
            self.emit(depth, f"{carry} = {join.format(carry, end)}")
        self.names.pop(result, None)
