"""From a launch to a TileLang function: one thread per grid point, loops in series inside.

Tiles across the last grid axis become threads; along rows a thread goes element by element. This is the
subset that TileLang compiles for every target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlpapers.kernels.dsl.launches import Launch, Sizes, Tiles, looked_up
from mlpapers.kernels.dsl.statements import StatementWriter, is_literal
from mlpapers.kernels.dsl.tilelang.maths import STORAGE, TYPES, constant, expression
from mlpapers.kernels.ops import COMPUTE
from mlpapers.kernels.sketch import Alloc, Compute, For, Load, Sketch, Store

THREADS = 128
_STARTS = {
    "sum": "0", "prod": "1", "any": "0", "all": "1", "amax": "-inf", "amin": "inf", "argmax": "-inf",
    "argmin": "inf",
}  # fmt: skip
_NARROW = {"i32": "int32", "i16": "int16", "i8": "int8", "u8": "uint8", "f16": "float16", "bf16": "bfloat16"}


@dataclass
class Function(StatementWriter):
    """One TileLang function inside the factory that knows its sizes.

    Parameters
    ----------
    sketch : Sketch
    launch : Launch
    backend : str
    """

    sketch: Sketch
    launch: Launch
    backend: str
    lines: list[str] = field(default_factory=list)
    pointers: list[str] = field(default_factory=list)
    local: set[str] = field(default_factory=set)
    row: str = ""

    def __post_init__(self) -> None:
        self.tiles = Tiles(self.sketch, self.launch)
        self.sizes = Sizes(dict(self.sketch.constexprs), "T.min({0}, {1})")

    def render(self) -> str:
        """Return the text of the factory."""
        counts = [self._count(axis) for axis in self.launch.axes]
        total = " * ".join(f"({count})" for count in counts) or "1"
        self._grid(counts)
        self._body(self.launch.body, 0)
        names = [f"p_{name}" for name in self.pointers]
        sizes = [f"e{k}" for k in range(len(self.sizes.arguments))]
        head = f"def {self.launch.name}({', '.join([*sizes, *(f'n_{name}' for name in names)])}):"
        parameters = ", ".join(
            f'{name}: T.Tensor((n_{name},), "{STORAGE[self.sketch.tensor(tensor).dtype]}")'
            for name, tensor in zip(names, self.pointers)
        )
        serial = self.backend == "cpu"
        lines = [
            head,
            f"    total = {total}",
            "",
            "    @T.prim_func",
            f"    def run({parameters}):",
            # Only what the body names is known where the annotations are evaluated.
            f"        lengths = ({', '.join(f'n_{name}' for name in names)},)",
            f"        with T.Kernel((total + {THREADS - 1}) // {THREADS}, threads={THREADS}) as bx:",
            f"            for tx in T.serial({THREADS}):"
            if serial
            else "            tx = T.get_thread_binding(0)",
        ]
        pad = " " * (16 if serial else 12)
        lines += [f"{pad}if bx * {THREADS} + tx < total:", *(f"{pad}    {line}" for line in self.lines)]
        return "\n".join([*lines, "", "    return run"])

    def programs(self, number: Any) -> str:
        """Return the number of grid points as Python; `number` writes sizes for the host."""
        return " * ".join(f"({number(self._count_text(axis))})" for axis in self.launch.axes) or "1"

    def _step(self, axis: For) -> int:
        return 1 if axis.var == self.launch.columns else int(self.sizes.constant(axis.step))

    def _count_text(self, axis: For) -> str:
        step = self._step(axis)
        return axis.hi if step == 1 else f"(({axis.hi}) + {step - 1}) // {step}"

    def _count(self, axis: For) -> str:
        step = self._step(axis)
        high = self.sizes.text(axis.hi)
        return high if step == 1 else f"({high} + {step - 1}) // {step}"

    def emit(self, depth: int, text: str) -> None:
        """Add a line."""
        self.lines.append("    " * depth + text)

    def _grid(self, counts: Sequence[str]) -> None:
        rest = f"(bx * {THREADS} + tx)"
        for k, (axis, count) in reversed(list(enumerate(zip(self.launch.axes, counts)))):
            self.emit(0, f"i_{axis.var} = " + (f"{rest} % ({count})" if k else rest))
            step = self._step(axis)
            self.emit(0, f"{axis.var} = i_{axis.var}" + (f" * {step}" if step != 1 else ""))
            self.sizes.variables |= {axis.var, f"i_{axis.var}"}
            rest = f"({rest} // ({count}))"

    def _loop(self, loop: For, depth: int) -> None:
        low, high = self.sizes.text(loop.lo), self.sizes.text(loop.hi)
        self.sizes.variables.add(loop.var)
        # A variable that is only in scope here may be missing from the sizes that follow.
        bounds = high if low == "0" else f"{low}, {high}"
        self.emit(depth, f"for {loop.var} in T.serial({bounds}):")
        outer, self.row = self.row, loop.var if self.tiles.is_row(loop) else self.row
        self._body(loop.body, depth + 1)
        self.row = outer

    def _alloc(self, s: Alloc, depth: int) -> None:
        start = s.init or "0"
        if s.dtype == "i64" and "inf" in start:
            start = str(-(2**63) if start == "-inf" else 2**63 - 1)
        kind = "int32" if s.dtype == "b1" else TYPES[s.dtype]
        self.local.add(s.name)
        self.emit(depth, f'{s.name} = T.alloc_local((1,), "{kind}")')
        value = f"T.int32({int(float(start))})" if s.dtype == "b1" else constant(start, s.dtype)
        self.emit(depth, f"{s.name}[0] = {value}")

    def value(self, name: str, dtype: str) -> str:
        """Return an operand."""
        if name in self.local:
            return f"({name}[0] != 0)" if self.tiles.types[name] == "b1" else f"{name}[0]"
        if name in self.tiles.types:
            return name
        if is_literal(name):
            return constant(name, dtype)
        return f'T.cast({self.sizes.text(name)}, "{TYPES[dtype]}")'

    def _place(self, source: str, index: Sequence[str]) -> tuple[str, str]:
        view = self.tiles.view(source)
        terms = [] if view.offset == "0" else [self.sizes.text(view.offset)]
        for item, stride in zip(index, view.strides):
            step = self.sizes.text(stride)
            if step == "0":
                continue
            name = item.partition(":")[0]
            if item.startswith("@"):
                text = self.value(item[1:], "i64")
            elif name in self.sizes.variables:
                text = f"i_{item.split('//')[0]}" if "//" in item else name
            elif "//" in item:
                text = f"i_{item.split('//')[0]}"
            else:
                text = self.sizes.text(item)
            terms.append(text if step == "1" else f"{text} * {step}")
        return view.base, " + ".join(terms) or "0"

    def _pointer(self, tensor: str) -> str:
        if tensor not in self.pointers:
            self.pointers.append(tensor)
        return f"p_{tensor}"

    def _load(self, s: Load, depth: int) -> None:
        base, place = self._place(s.source, s.index)
        kind = TYPES[self.tiles.types[s.dst]]
        if base == "iota":
            self.emit(depth, f'{s.dst} = T.cast({place}, "int64")')
            return
        dtype = self.sketch.tensor(base).dtype
        element = f"{self._pointer(base)}[{place}]"
        if dtype == "b1":
            element = f"({element} != 0)"
        elif STORAGE[dtype] != kind:
            element = f'T.cast({element}, "{kind}")'
        if indirect := looked_up(s.index, self.tiles.view(s.source)):
            where = self.value(indirect[0], "i64")
            within = f"T.And({where} >= 0, {where} < {self.sizes.text(indirect[1])})"
            element = f'T.if_then_else({within}, {element}, T.cast(0, "{kind}"))'
        self.emit(depth, f"{s.dst} = {element}")

    def _store(self, s: Store, depth: int) -> None:
        base, place = self._place(s.target, s.index)
        dtype = self.sketch.tensor(base).dtype
        value = self.value(s.src, COMPUTE[dtype])
        if STORAGE[dtype] != TYPES[COMPUTE[dtype]]:
            value = f'T.cast({value}, "{STORAGE[dtype]}")'
        elif s.src in self.local and self.tiles.types[s.src] != COMPUTE[dtype]:
            value = f'T.cast({value}, "{TYPES[COMPUTE[dtype]]}")'
        self.emit(depth, f"{self._pointer(base)}[{place}] = {value}")

    def _pointwise(self, s: Compute, depth: int) -> None:
        kinds = [self.tiles.types[name] for name in s.args if name in self.tiles.types]
        if s.op == "cast":
            kind = COMPUTE[kinds[0] if kinds else s.dtype]
            text = self.value(s.args[0], kind)
            if s.dtype == "b1":
                text = f"({text} != {constant('0', kind)})" if kind != "b1" else text
            else:
                text = f'T.cast({text}, "{_NARROW[s.dtype]}")' if s.dtype in _NARROW else text
                text = f'T.cast({text}, "{TYPES[COMPUTE[s.dtype]]}")'
        elif s.op == "where":
            kind = COMPUTE[s.dtype]
            args = [self.value(s.args[0], "b1"), *(self.value(a, kind) for a in s.args[1:])]
            text = expression("where", args, kind)
        else:
            kind = kinds[0] if kinds else COMPUTE[s.dtype]
            text = expression(s.op, [self.value(name, kind) for name in s.args], kind)
        self.emit(depth, f"{s.dst[0]} = {text}")

    def _take(self, s: Compute, depth: int) -> None:
        op = s.op.partition("_")[2]
        kind = self.tiles.types[s.dst[0]]
        args = [self.value(name, self.tiles.types.get(name, kind)) for name in s.args]
        first = f"{s.dst[0]}[0]"
        wide = f'"{TYPES[kind]}"'
        if op == "moments":
            mean, square, count = (f"{name}[0]" for name in s.dst)
            if s.op == "merge_moments":
                self.emit(depth, f"if {args[2]} > T.float64(0.0):")
                self.emit(depth + 1, f"d_{s.dst[0]} = {args[0]} - {mean}")
                self.emit(depth + 1, f"w_{s.dst[0]} = {args[2]} / ({count} + {args[2]})")
                self.emit(
                    depth + 1,
                    f"{square} = {square} + {args[1]} + d_{s.dst[0]} * d_{s.dst[0]} * {count} * w_{s.dst[0]}",
                )
                self.emit(depth + 1, f"{mean} = {mean} + d_{s.dst[0]} * w_{s.dst[0]}")
                self.emit(depth + 1, f"{count} = {count} + {args[2]}")
                return
            old = f"o_{s.dst[0]}"
            self.emit(depth, f'{old} = T.alloc_local((1,), "{TYPES[kind]}")')
            self.emit(depth, f"{old}[0] = T.cast({args[0]}, {wide}) - {mean}")
            self.emit(depth, f"{count} = {count} + T.float64(1.0)")
            self.emit(depth, f"{mean} = {mean} + {old}[0] / T.cast({count}, {wide})")
            self.emit(depth, f"{square} = {square} + {old}[0] * (T.cast({args[0]}, {wide}) - {mean})")
            return
        floating = kind[0] == "f"
        if op in ("argmax", "argmin"):
            sign = ">" if op == "argmax" else "<"
            place = f"{s.dst[1]}[0]"
            better = f"T.Or({args[0]} {sign} {first}, {place} < T.int64(0))"
            if floating:
                better = f"T.Or({better}, T.And(T.isnan({args[0]}), T.Not(T.isnan({first}))))"
            self.emit(depth, f"if {better}:")
            self.emit(depth + 1, f"{first} = {args[0]}")
            self.emit(depth + 1, f"{place} = {args[1]}")
            return
        if op in ("any", "all"):
            operand = self.tiles.types.get(s.args[0], "b1")
            truth = args[0] if operand == "b1" else f"({args[0]} != {constant('0', operand)})"
            join = "T.Or" if op == "any" else "T.And"
            self.emit(depth, f'{first} = T.cast({join}({first} != 0, {truth}), "int32")')
        elif op in ("sum", "prod"):
            self.emit(depth, f"{first} = {first} {'+' if op == 'sum' else '*'} T.cast({args[0]}, {wide})")
        else:
            sign = ">" if op == "amax" else "<"
            better = f"{args[0]} {sign} {first}"
            better = f"T.Or({better}, T.isnan({args[0]}))" if floating else better
            self.emit(depth, f"if {better}:")
            self.emit(depth + 1, f"{first} = {args[0]}")

    def _scan(self, s: Compute, depth: int) -> None:
        result, carry = s.dst
        kind = self.tiles.types[carry]
        operand = f'T.cast({self.value(s.args[0], kind)}, "{TYPES[kind]}")'
        op = s.op.removeprefix("scan_")
        place = f"{carry}[0]"
        if op in ("cumsum", "cumprod"):
            self.emit(depth, f"{place} = {place} {'+' if op == 'cumsum' else '*'} {operand}")
        else:
            joined = expression("maximum" if op == "cummax" else "minimum", [operand, place], kind)
            self.emit(depth, f"{place} = {joined}")
        self.emit(depth, f'{result} = T.alloc_local((1,), "{TYPES[s.dtype]}")')
        self.emit(depth, f'{result}[0] = T.cast({place}, "{TYPES[s.dtype]}")')
        self.local.add(result)
