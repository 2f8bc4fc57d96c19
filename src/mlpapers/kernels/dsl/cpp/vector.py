"""One run of tile statements as a vector loop (or, on numbers, as straight code)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.dsl.cpp.choice import find_choice, write_choice
from mlpapers.kernels.dsl.cpp.maths import STORAGE, TYPES, constant, expression
from mlpapers.kernels.dsl.cpp.running import find_running_sum, write_running_sum
from mlpapers.kernels.dsl.launches import looked_up
from mlpapers.kernels.dsl.statements import is_literal
from mlpapers.kernels.ops import COMPUTE
from mlpapers.kernels.sketch import Compute, Load, Store

if TYPE_CHECKING:
    from mlpapers.kernels.dsl.cpp.render import Function

_CASTS = {
    "f32": "(float)({0})", "f64": "(double)({0})", "i64": "(long)({0})", "b1": "(({0}) != 0)",
    "bf16": "m_from_bf16(m_to_bf16({0}))", "f16": "(float)(_Float16)({0})", "i32": "(long)(int)({0})",
    "i16": "(long)(short)({0})", "i8": "(long)(signed char)({0})", "u8": "(long)(unsigned char)({0})",
}  # fmt: skip
_LOADS = {"bf16": "m_from_bf16({0})", "f16": "(float){0}", "b1": "(int){0}"}
_STORES = {"bf16": "m_to_bf16({0})", "b1": "(unsigned char)(({0}) != 0)"}
_JOIN = {"sum": "{a} + {b}", "prod": "{a} * {b}", "any": "{a} | ({b} != 0)", "all": "{a} & ({b} != 0)"}
_CLAUSE = {"sum": "+", "prod": "*", "any": "|", "all": "&", "amax": "max", "amin": "min"}


class Run:
    """Statements that share one vector loop.

    Parameters
    ----------
    function : Function
    statements : sequence
    tile : (str, str) or None
        Variable and width of the tile loop around; None for statements on numbers.
    """

    def __init__(self, function: Function, statements: Sequence[Any], tile: tuple[str, str] | None) -> None:
        self.f, self.statements, self.tile = function, statements, tile
        self.before: list[str] = []
        self.inside: list[str] = []
        self.after: list[str] = []
        self.replay: list[str] = []
        self.clauses: list[str] = []
        self.serial = tile is None
        self.pointers = 0
        self.loaded = {s.dst for s in statements if isinstance(s, Load)}
        self.spans: list[tuple[Any, list[str]]] = []

    def collect(self) -> None:
        """Translate the statements into lines before, inside and after the loop."""
        for s in self.statements:
            start = len(self.inside)
            if isinstance(s, Load):
                self._load(s)
            elif isinstance(s, Store):
                self._store(s)
            elif s.op.startswith("scan_"):
                self._scan(s)
            elif s.op.startswith(("reduce_", "merge_")):
                self._reduce(s)
            else:
                self._pointwise(s)
            self.spans.append((s, self.inside[start:]))

    def write(self, depth: int) -> None:
        """Emit the code."""
        self.collect()
        if self.tile is None:
            for line in (*self.before, *self.inside, *self.after):
                self.f.emit(depth, line)
            return
        var, width = self.tile
        declared = {
            s.dst if isinstance(s, Load) else s.dst[0]
            for s in self.statements
            if isinstance(s, Load) or (isinstance(s, Compute) and s.dtype)
        }
        for name in sorted(declared & self.f.arrays):
            self.f.emit(depth, f"alignas(64) {TYPES[self.f.types[name]]} {name}[{width}];")
        self.f.emit(depth, "{")
        for line in self.before:
            self.f.emit(depth + 1, line)
        choice = None if declared & self.f.arrays else find_choice(self.statements)
        if choice is not None:
            write_choice(self, choice, depth + 1)
        elif (scan := find_running_sum(self)) is not None:
            write_running_sum(self, scan, depth + 1)
        else:
            if not self.serial:
                self.f.emit(depth + 1, f"#pragma omp simd{self.reductions}")
            self.f.emit(depth + 1, f"for (long j = 0; j < n_{var}; ++j) {{")
            for line in self.inside:
                self.f.emit(depth + 2, line)
            self.f.emit(depth + 1, "}")
        for line in self.after:
            self.f.emit(depth + 1, line)
        self.f.emit(depth, "}")

    @property
    def reductions(self) -> str:
        """The clauses of a vector loop over the statements."""
        return "".join(f" reduction({clause})" for clause in self.clauses)

    def value(self, name: str, dtype: str) -> str:
        """Return the C++ text of an operand: a literal, a number, or an element of a tile."""
        if name not in self.f.types:
            if name.replace("_", "").isalnum() and not name[0].isdigit() and name not in ("inf", "nan"):
                return f"({TYPES[dtype]}){self.f.number(name)}"
            if is_literal(name):
                return constant(name, dtype)
            return f"({TYPES[dtype]}){self.f.number(name)}"
        rank1 = self.f.ranks.get(name, 0) and (name in self.f.arrays or name in self.f.allocs)
        return f"{name}[j]" if rank1 and self.tile is not None else name

    def address(self, source: str, index: Sequence[str], write: bool) -> tuple[str, str, str]:
        """Return (storage type, address text outside the loop, element text inside)."""
        f = self.f
        if source in f.allocs:
            dims = [f.number(size) for size in f.allocs[source].dims]
            strides = ["1"]
            for size in reversed(dims[1:]):
                strides.insert(0, f"{strides[0]} * {size}")
            base, dtype, offset = source, f.allocs[source].dtype, "0"
        else:
            view = f.views.get(source)
            tensor = view.base if view is not None else source
            if view is not None:
                strides, offset = [f.number(stride) for stride in view.strides], f.number(view.offset)
            else:
                sizes = [f.number(size) for size in f.sketch.tensor(tensor).dims]
                strides = ["1"] * min(1, len(sizes))
                for size in reversed(sizes[1:]):
                    strides.insert(0, f"{strides[0]} * {size}")
                offset = "0"
            dtype = "iota" if tensor == "iota" else f.sketch.tensor(tensor).dtype
            base = "" if tensor == "iota" else f.pointer(tensor, write)
        outside, inside = [] if offset == "0" else [offset], []
        for item, stride in zip(index, strides):
            if item.startswith("@"):
                inside.append(f"{self.value(item[1:], 'i64')} * {stride}")
            elif item == ":":
                inside.append("j")
            elif ":" in item:
                outside.append(f"{item.split(':')[0]} * {stride}")
                inside.append("j" if stride == "1" else f"j * ({stride})")
            elif "//" in item:
                variable, step = item.split("//")
                outside.append(f"{variable} / {f.number(step)} * {stride}")
            else:
                outside.append(f"{item} * {stride}")
        return dtype, f"{base} + ({' + '.join(outside) or '0'})", " + ".join(inside) or "0"

    def _access(self, source: str, index: Sequence[str], write: bool) -> tuple[str, str]:
        dtype, outside, inside = self.address(source, index, write)
        if dtype == "iota":
            return dtype, f"((long){outside.lstrip(' +')} + ({inside}))"
        dtype, element = self._element(source, index, write, dtype, outside, inside)
        view = self.f.views.get(source)
        indirect = None if view is None else looked_up(index, view)
        if indirect is None:
            return dtype, element
        # Nothing is read at a place outside of the table, whose number the host is told.
        where, size = indirect
        place = self.value(where, "i64")
        inside_table = f"(unsigned long){place} < (unsigned long){self.f.number(size)}"
        missed = f"o{self.pointers}"
        self.before.append(f"int {missed} = 0;")
        self.inside.append(f"{missed} |= !({inside_table});")
        self.after.append(f"if ({missed}) *outside = {self.f.table(source, size)};")
        self.clauses.append(f"|:{missed}")
        return dtype, f"({inside_table} ? {element} : 0)"

    def _element(
        self, source: str, index: Sequence[str], write: bool, dtype: str, outside: str, inside: str
    ) -> tuple[str, str]:
        self.pointers += 1
        name = f"q{self.pointers}"
        kind = TYPES[dtype] if source in self.f.allocs else STORAGE[dtype]
        if self.tile is None:
            return dtype, f"({outside})[{inside}]"
        self.before.append(f"{'' if write else 'const '}{kind}* {name} = {outside};")
        front = self.f.front(source, index) if write and inside == "j" else None
        if front is not None:
            self.before.append(f"m_ahead({front}, {name}, n_{self.tile[0]} * (long)sizeof(*{name}));")
        return dtype, f"{name}[{inside}]"

    def assignment(self, name: str, text: str) -> str:
        """Return the line that gives a name its value."""
        if self.tile is not None and name in self.f.arrays:
            return f"{name}[j] = {text};"
        return f"const {TYPES[self.f.types[name]]} {name} = {text};"

    def _assign(self, name: str, text: str) -> None:
        line = self.assignment(name, text)
        self.inside.append(line)
        self.replay.append(line)

    def _load(self, s: Load) -> None:
        dtype, element = self._access(s.source, s.index, False)
        self._assign(
            s.dst, _LOADS.get(dtype, "{0}").format(element) if s.source not in self.f.allocs else element
        )

    def _store(self, s: Store) -> None:
        dtype, element = self._access(s.target, s.index, True)
        value = self.value(s.src, self.f.types.get(s.src, COMPUTE.get(dtype, dtype)))
        text = (
            value
            if s.target in self.f.allocs
            else _STORES.get(dtype, f"({STORAGE[dtype]})" + "({0})").format(value)
        )
        self.inside.append(f"{element} = {text};")

    def _pointwise(self, s: Compute) -> None:
        kinds = [self.f.types[name] for name in s.args if name in self.f.types]
        if s.op == "cast":
            kind = kinds[0] if kinds else s.dtype
            self._assign(s.dst[0], _CASTS[s.dtype].format(self.value(s.args[0], COMPUTE[kind])))
            return
        if s.op == "where":
            kind = COMPUTE[s.dtype]
            condition = self.value(s.args[0], "b1")
            self._assign(
                s.dst[0], expression("where", [condition, *(self.value(a, kind) for a in s.args[1:])], kind)
            )
            return
        kind = kinds[0] if kinds else COMPUTE[s.dtype]
        self._assign(s.dst[0], expression(s.op, [self.value(name, kind) for name in s.args], kind))

    def _scan(self, s: Compute) -> None:
        result, carry = s.dst
        kind = self.f.types[carry]
        operand = f"({TYPES[kind]}){self.value(s.args[0], kind)}"
        place = self.value(carry, kind)
        self.serial = self.serial or not self.f.ranks[carry]
        joined = {
            "scan_cumsum": f"{place} + {operand}",
            "scan_cumprod": f"{place} * {operand}",
            "scan_cummax": expression("maximum", [place, operand], kind),
            "scan_cummin": expression("minimum", [place, operand], kind),
        }[s.op]
        self.inside.append(f"{place} = {joined};")
        self._assign(result, f"({TYPES[s.dtype]}){place}")

    def _reduce(self, s: Compute) -> None:
        whole = self.tile is not None and not self.f.ranks[s.dst[0]] and self.f.ranks.get(s.args[0], 0)
        if s.op in ("reduce_moments", "merge_moments"):
            (self._row_moments if whole else self._side_moments)(s)
        elif s.op in ("reduce_argmax", "reduce_argmin"):
            (self._row_arg if whole else self._side_arg)(s)
        elif whole:
            self._row_reduce(s)
        else:
            self._side_reduce(s)

    def _side_reduce(self, s: Compute) -> None:
        """Element by element into accumulators of the same shape."""
        op = s.op.removeprefix("reduce_")
        accumulator = self.value(s.dst[0], self.f.types[s.dst[0]])
        value = self.value(s.args[0], self.f.types[s.dst[0]])
        if op in _JOIN:
            text = _JOIN[op].format(a=accumulator, b=value)
        else:
            name = "maximum" if op == "amax" else "minimum"
            text = expression(name, [value, accumulator], self.f.types[s.dst[0]])
        self.inside.append(f"{accumulator} = {text};")

    def _side_arg(self, s: Compute) -> None:
        better = ">" if s.op == "reduce_argmax" else "<"
        best, place = (self.value(name, self.f.types[name]) for name in s.dst)
        value, index = (self.value(name, kind) for name, kind in zip(s.args, (self.f.types[s.dst[0]], "i64")))
        test = f"({value} {better} {best}) | (({value} != {value}) & ({best} == {best})) | ({place} < 0)"
        if self.f.types[s.dst[0]] in ("i64", "b1"):
            test = f"({value} {better} {best}) | ({place} < 0)"
        name = f"u{len(self.inside)}"
        self.inside += [
            f"const int {name} = {test};",
            f"{best} = {name} ? {value} : {best};",
            f"{place} = {name} ? {index} : {place};",
        ]

    def _side_moments(self, s: Compute) -> None:
        mean, square, count = s.dst
        m, q = (self.value(name, self.f.types[name]) for name in (mean, square))
        kind = TYPES[self.f.types[mean]]
        if s.op == "merge_moments":
            other_mean, other_square, other = (self.value(name, self.f.types[mean]) for name in s.args)
            self.inside += [
                f"if ({other} > 0) {{ const double n = {count} + {other}, d = {other_mean} - {m};",
                f"  {m} += d * ({other} / n); {q} += {other_square} + d * d * ({count} * {other} / n);",
                f"  {count} = n; }}",
            ]
            return
        value = self.value(s.args[0], self.f.types[mean])
        target = self.before if self.tile is not None else self.inside
        target.append(f"{count} += 1; const {kind} inv_{mean} = ({kind})(1 / {count});")
        self.inside += [
            f"const {kind} d_{mean} = {value} - {m}; {m} += d_{mean} * inv_{mean};",
            f"{q} += d_{mean} * ({value} - {m});",
        ]

    def _row_reduce(self, s: Compute) -> None:
        """Reduce a tile to one number: lanes in the tile's own type, then one step in the accumulator's."""
        op = s.op.removeprefix("reduce_")
        name, accumulator = f"l_{s.dst[0]}", s.dst[0]
        kind = self.f.types[s.args[0]] if op not in ("any", "all") else "b1"
        kind = "i64" if kind == "b1" and op in ("sum", "prod") else kind
        value = self.value(s.args[0], kind)
        start = {"sum": "0", "prod": "1", "any": "0", "all": "1"}.get(op)
        if start is not None:
            self.before.append(f"{TYPES[kind]} {name} = {start};")
            self.inside.append(f"{name} = {_JOIN[op].format(a=name, b=value)};")
            self.after.append(f"{accumulator} = {_JOIN[op].format(a=accumulator, b=name)};")
            self.clauses.append(f"{_CLAUSE[op]}:{name}")
            return
        better = ">" if op == "amax" else "<"
        edge = "-" if op == "amax" else ""
        limit = (
            f"{edge}M_INF"
            if kind[0] == "f"
            else ("(-0x7fffffffffffffffL - 1)" if op == "amax" else "0x7fffffffffffffffL")
        )
        self.before.append(f"{TYPES[kind]} {name} = {limit}; int x_{name} = 0;")
        self.inside.append(
            f"{name} = {value} {better} {name} ? {value} : {name}; x_{name} |= ({value} != {value});"
        )
        self.clauses += [f"{_CLAUSE[op]}:{name}", f"|:x_{name}"]
        self.after.append(f"{accumulator} = {name} {better} {accumulator} ? {name} : {accumulator};")
        if kind[0] == "f":
            self.after.append(f"if (x_{name}) {accumulator} = M_NAN;")

    def _row_arg(self, s: Compute) -> None:
        """Find the extreme of a tile by vectors, and its place only where it beats the best so far."""
        better, edge = (">", "-") if s.op == "reduce_argmax" else ("<", "")
        best, place = s.dst
        kind = self.f.types[best]
        value, index = self.value(s.args[0], kind), self.value(s.args[1], "i64")
        name = f"l_{best}"
        floating = kind[0] == "f"
        limit = (
            f"{edge}M_INF" if floating else ("(-0x7fffffffffffffffL - 1)" if edge else "0x7fffffffffffffffL")
        )
        self.before.append(f"{TYPES[kind]} {name} = {limit}; int x_{name} = 0;")
        self.inside.append(
            f"{name} = {value} {better} {name} ? {value} : {name}; x_{name} |= ({value} != {value});"
        )
        self.clauses += [f"{'max' if edge else 'min'}:{name}", f"|:x_{name}"]
        assert self.tile is not None
        news = f"{place} < 0 || {name} {better} {best}" + (f" || x_{name}" if floating else "")
        found = f"x_{name} ? {value} != {value} : {value} == {name}" if floating else f"{value} == {name}"
        guard = f"if ({best} == {best} && ({news}))" if floating else f"if ({news})"
        self.after += [
            f"{guard} for (long j = 0; j < n_{self.tile[0]}; ++j) {{",
            *(f"  {line}" for line in self.replay),
            f"  if ({found}) {{ {best} = {value}; {place} = {index}; break; }}",
            "}",
        ]

    def _row_moments(self, s: Compute) -> None:
        """Reduce a tile to mean and squared deviations (two passes in cache), merged by Chan's formula.

        What the deviations sum up to is the rounding of the first pass's mean, which is taken out again.
        """
        mean, square, count = s.dst
        assert self.tile is not None
        var, width = self.tile
        kind = self.f.types[s.args[0]]
        value = self.value(s.args[0], kind)
        name = f"l_{mean}"
        self.before.append(f"{TYPES[kind]} {name} = 0; {TYPES[kind]} q_{name} = 0, r_{name} = 0;")
        # What was only loaded is in the cache as it is; what was computed is kept for the second pass.
        plain = self.spans and all(isinstance(statement, Load) for statement, _ in self.spans)
        again, kept = (self.replay[:], value) if plain else ([], f"t_{name}[j]")
        if not plain:
            self.before.append(f"alignas(64) {TYPES[kind]} t_{name}[{width}];")
            self.inside.append(f"{kept} = {value};")
        self.inside.append(f"{name} += {value};")
        self.clauses.append(f"+:{name}")
        self.after += [
            f"const {TYPES[kind]} m_{name} = {name} / n_{var};",
            f"#pragma omp simd reduction(+:q_{name}, r_{name})",
            f"for (long j = 0; j < n_{var}; ++j) {{",
            *(f"  {line}" for line in again),
            f"  const {TYPES[kind]} d = {kept} - m_{name}; q_{name} += d * d; r_{name} += d; }}",
            f"{{ const double n = {count} + n_{var}, c = (double)r_{name} / n_{var};",
            f"  const double d = m_{name} + c - {mean};",
            f"  {mean} += d * (n_{var} / n);",
            f"  {square} += q_{name} - c * r_{name} + d * d * ({count} * n_{var} / n); {count} = n; }}",
        ]
