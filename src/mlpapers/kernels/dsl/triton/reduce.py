"""Reductions in Triton: one accumulator per lane of a block, joined once when the value is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlpapers.kernels.dsl.triton.maths import TYPES, constant
from mlpapers.kernels.sketch import Alloc, Compute, For

if TYPE_CHECKING:
    from mlpapers.kernels.dsl.triton.render import Program

_STARTS = {
    "sum": "0", "prod": "1", "any": "0", "all": "1", "amax": "-inf", "amin": "inf", "argmax": "-inf",
    "argmin": "inf", "cumsum": "0", "cumprod": "1", "cummax": "-inf", "cummin": "inf",
}  # fmt: skip
_JOINED_IN_DOUBLE = 8192
_SMALLEST, _LARGEST, _SHORT = -(2**63), 2**63 - 1, 2**31 - 1


def parts_of(op: str) -> str:
    """Return the neutral element of a reduction or scan."""
    return _STARTS[op]


@dataclass
class LaneAccumulator:
    """The accumulators of one reduction.

    Parameters
    ----------
    reduction : Compute
    loop : For
        The row loop in which it takes tiles.
    allocs : list of Alloc
    """

    reduction: Compute
    loop: For
    allocs: list[Alloc]
    done: bool = field(default=False)

    @property
    def op(self) -> str:
        """Name without its prefix."""
        return self.reduction.op.partition("_")[2]

    def _kind(self, program: Program) -> str:
        """Return the type of the lanes: the operand's, where the accumulator's is only wider."""
        operand = program.type_of(self.reduction.args[0]) or self.allocs[0].dtype
        if self.op in ("any", "all"):
            return "b1"
        if operand == "b1" or (operand == "i64" and self.allocs[0].dtype == "i64"):
            return "i64" if self.op in ("sum", "prod") or operand == "i64" else "b1"
        return operand

    def _start(self, kind: str) -> str:
        text = _STARTS[self.op]
        if kind in ("i64", "b1") and "inf" in text:
            return (
                str(_SMALLEST if text == "-inf" else _LARGEST)
                if kind == "i64"
                else ("0" if text == "-inf" else "1")
            )
        return text

    def _places(self, program: Program) -> tuple[str, int]:
        """Return the type of places and its largest number: the short one where there are few places."""
        return ("tl.int32", _SHORT) if program.turns() <= _SHORT else ("tl.int64", _LARGEST)

    def begin(self, program: Program, depth: int) -> None:
        """Emit the lanes' first values."""
        self.done = False
        lanes = frozenset("RC") if self.allocs[0].dims else frozenset("R")
        shape = program.block_shape(self.loop, lanes)
        names = [alloc.name for alloc in self.allocs]
        if self.op == "online":
            program.emit(depth, f'{names[0]} = tl.full({shape}, float("-inf"), tl.float32)')
            program.emit(depth, f"{names[1]} = tl.full({shape}, 0.0, tl.float32)")
            return
        if self.op == "moments":
            kind = self._kind(program)
            shape = f"[1, {program.columns}]" if self._by_tiles(program) else shape
            for name in names:
                program.emit(depth, f"{name} = tl.full({shape}, 0.0, {TYPES[kind]})")
            return
        kind = self._kind(program)
        start = constant(self._start(kind), kind)
        if kind == "b1":
            start, place = ("1" if start == "True" else "0"), "tl.int32"
        else:
            place = TYPES[kind]
        program.emit(depth, f"{names[0]} = tl.full({shape}, {start}, {place})")
        if self.op in ("argmax", "argmin"):
            program.emit(depth, f"{names[1]} = tl.full({shape}, -1, {self._places(program)[0]})")

    def take(self, program: Program, s: Compute, depth: int) -> None:
        """Emit the statement that takes a tile in."""
        if self.op == "online":
            self._online(program, s, depth)
            return
        row_mask = program.mask(frozenset("RC") if self.allocs[0].dims else frozenset("R"))
        kind = self._kind(program)
        names = [alloc.name for alloc in self.allocs]
        args = [program.value(name, kind) for name in s.args]
        if s.op == "merge_moments":
            self._merge(program, names, args, row_mask, depth)
            return
        value = args[0]
        if self._by_tiles(program):
            self._tile_moments(program, names, s.args[0], kind, depth)
            return
        if self.op == "moments":
            self._moments(program, names, value, kind, row_mask, depth)
            return
        if self.op in ("argmax", "argmin"):
            index = f"{program.value(s.args[1], 'i64')}.to({self._places(program)[0]})"
            better = ">" if self.op == "argmax" else "<"
            best, place = names
            test = f"(({value} {better} {best}) | ({place} < 0)"
            test += f" | (({value} != {value}) & ({best} == {best})))" if kind[0] == "f" else ")"
            test = f"{test} & {row_mask}" if row_mask else test
            flag = f"u_{best}"
            program.emit(depth, f"{flag} = {test}")
            program.emit(depth, f"{best} = tl.where({flag}, {value}, {best})")
            program.emit(depth, f"{place} = tl.where({flag}, {index}, {place})")
            return
        name = names[0]
        if kind == "b1":
            value = f"({value} != 0).to(tl.int32)"
        elif program.type_of(s.args[0]) == "b1":
            value = f"{value}.to(tl.int64)"
        if self.op in ("sum", "prod"):
            neutral = constant(_STARTS[self.op], kind)
            value = f"tl.where({row_mask}, {value}, {neutral})" if row_mask else value
            program.emit(depth, f"{name} = {name} {'+' if self.op == 'sum' else '*'} {value}")
            return
        joined = {
            "any": f"{name} | {value}",
            "all": f"{name} & {value}",
            "amax": f"tl.where(({value} > {name}) | ({value} != {value}), {value}, {name})",
            "amin": f"tl.where(({value} < {name}) | ({value} != {value}), {value}, {name})",
        }[self.op]
        program.emit(depth, f"{name} = {f'tl.where({row_mask}, {joined}, {name})' if row_mask else joined}")

    def _online(self, program: Program, s: Compute, depth: int) -> None:
        """Emit the step of a running maximum and the sum of exponentials below it."""
        row_mask = program.mask(frozenset("RC") if self.allocs[0].dims else frozenset("R"))
        largest, total = (alloc.name for alloc in self.allocs)
        value, shift = program.value(s.args[0], "f32"), f"n_{largest}"
        joined = f"tl.where(({value} > {largest}) | ({value} != {value}), {value}, {largest})"
        program.emit(
            depth, f"{shift} = {f'tl.where({row_mask}, {joined}, {largest})' if row_mask else joined}"
        )
        # Nothing but -inf so far: the difference of two infinities is none.
        base = f"b_{largest}"
        program.emit(depth, f'{base} = tl.where({shift} == float("-inf"), 0.0, {shift})')
        power = f"tl.exp({value} - {base})"
        power = f"tl.where({row_mask}, {power}, 0.0)" if row_mask else power
        program.emit(depth, f"{total} = {total} * tl.exp({largest} - {base}) + {power}")
        program.emit(depth, f"{largest} = {shift}")

    def _moments(
        self, program: Program, names: list[str], value: str, kind: str, mask: str, depth: int
    ) -> None:
        """Emit Welford's step: the mean moves by delta / n, the squares by delta times the new delta."""
        mean, square, count = names
        delta = f"d_{mean}"
        program.emit(depth, f"{count} += " + (f"({mask}).to({TYPES[kind]})" if mask else "1.0"))
        zero = f"tl.where({mask}, {value} - {mean}, 0.0)" if mask else f"{value} - {mean}"
        program.emit(depth, f"{delta} = {zero}")
        # A lane that has seen nothing yet has delta 0.
        divisor = f"tl.where({count} > 0.0, {count}, 1.0)" if mask else count
        program.emit(depth, f"{mean} += {delta} / {divisor}")
        again = f"tl.where({mask}, {value} - {mean}, 0.0)" if mask else f"({value} - {mean})"
        program.emit(depth, f"{square} += {delta} * {again}")

    def _by_tiles(self, program: Program) -> bool:
        """Whether moments are those of a tile's columns, joined tile by tile."""
        return self.reduction.op == "reduce_moments" and program.rank == 2 and bool(self.allocs[0].dims)

    def _tile_moments(self, program: Program, names: list[str], operand: str, kind: str, depth: int) -> None:
        """Emit the mean and the squares around it of a tile's columns, and Chan's merge with those before.

        Both passes run over registers; lanes that each move a mean would need three times as many.
        """
        mean, square, count = names
        value = program.value(operand, kind)
        if program.tiles.lanes.get(operand) != frozenset("RC"):
            value = (
                f"tl.full({program.block_shape(self.loop, frozenset('RC'))}, 0.0, {TYPES[kind]}) + {value}"
            )
        mask = program.mask(frozenset("R"))
        number = f"tl.sum(({mask}).to({TYPES[kind]}), 0, keep_dims=True)" if mask else ""
        apart = f"x_{mean} - u_{mean}"
        between = f"e_{mean} * e_{mean} * ({count} * n_{mean} / o_{mean})"
        for text in (
            f"x_{mean} = " + (f"tl.where({mask}, {value}, 0.0)" if mask else value),
            f"n_{mean} = {number or float(program.block_of(self.loop))}",
            f"u_{mean} = tl.sum(x_{mean}, 0, keep_dims=True) / n_{mean}",
            f"d_{mean} = " + (f"tl.where({mask}, {apart}, 0.0)" if mask else apart),
            f"o_{mean} = {count} + n_{mean}",
            f"e_{mean} = u_{mean} - {mean}",
            f"{square} += tl.sum(d_{mean} * d_{mean}, 0, keep_dims=True) + {between}",
            f"{mean} += e_{mean} * (n_{mean} / o_{mean})",
            f"{count} = o_{mean}",
        ):
            program.emit(depth, text)

    def _merge(self, program: Program, names: list[str], args: list[str], mask: str, depth: int) -> None:
        """Emit Chan's merge of partial moments, lane by lane."""
        mean, square, count = names
        other = f"o_{mean}"
        program.emit(depth, f"{other} = " + (f"tl.where({mask}, {args[2]}, 0.0)" if mask else args[2]))
        program.emit(depth, f"n_{mean} = {count} + {other}")
        program.emit(depth, f"w_{mean} = {other} / tl.where(n_{mean} > 0.0, n_{mean}, 1.0)")
        gap = f"d_{mean}"
        program.emit(depth, f"{gap} = tl.where({other} > 0.0, {args[0]} - {mean}, 0.0)")
        program.emit(
            depth, f"{square} += tl.where({other} > 0.0, {args[1]}, 0.0) + {gap} * {gap} * {count} * w_{mean}"
        )
        program.emit(depth, f"{mean} += {gap} * w_{mean}")
        program.emit(depth, f"{count} = n_{mean}")

    def finish(self, program: Program, depth: int) -> None:
        """Emit the join of the lanes, once."""
        if self.done:
            return
        self.done = True
        keep = ", keep_dims=True" if program.rank == 2 else ""
        names = [alloc.name for alloc in self.allocs]
        kind = self._kind(program)
        if self.op == "online":
            largest, total = names
            program.emit(depth, f"g_{largest} = tl.max({largest}, 0{keep})")
            bad = f"tl.max(({largest} != {largest}).to(tl.int32), 0{keep}) > 0"
            program.emit(depth, f'g_{largest} = tl.where({bad}, float("nan"), g_{largest})')
            program.emit(depth, f'b_{largest} = tl.where(g_{largest} == float("-inf"), 0.0, g_{largest})')
            wide = TYPES[self.allocs[1].dtype]
            joined = f"tl.sum({total} * tl.exp({largest} - b_{largest}), 0{keep})"
            program.emit(depth, f"g_{total} = {joined}.to({wide})")
            return
        if self._by_tiles(program):
            for alloc in self.allocs:
                program.emit(depth, f"g_{alloc.name} = {alloc.name}.to({TYPES[alloc.dtype]})")
            return
        if self.op == "moments":
            mean, square, count = names
            wide = TYPES[self.allocs[0].dtype]
            # Few lanes are joined in double; a block of doubles as long as a row would not fit the registers.
            width = program.block_of(self.loop) * max(program.columns, 1)
            lanes = wide if width <= _JOINED_IN_DOUBLE else TYPES[kind]
            program.emit(depth, f"c_{mean} = {count}.to({lanes})")
            program.emit(depth, f"g_{count} = tl.sum(c_{mean}, 0{keep})")
            safe = f"tl.where(g_{count} > 0.0, g_{count}, 1.0)"
            program.emit(depth, f"g_{mean} = tl.sum(c_{mean} * {mean}.to({lanes}), 0{keep}) / {safe}")
            program.emit(depth, f"h_{mean} = {mean}.to({lanes}) - g_{mean}")
            program.emit(
                depth, f"g_{square} = tl.sum({square}.to({lanes}) + c_{mean} * h_{mean} * h_{mean}, 0{keep})"
            )
            return
        if self.op in ("argmax", "argmin"):
            self._finish_arg(program, names, kind, keep, depth)
            return
        name, wide = names[0], self.allocs[0].dtype
        if self.op == "sum":
            # In the lanes' own type: a block of doubles would not fit the registers.
            text = f"tl.sum({name}, 0{keep}).to({TYPES[wide]})"
        elif self.op == "prod":
            text = f"tl.reduce({name}.to({TYPES[wide]}), 0, _product{keep})"
        elif kind == "b1":
            text = f"(tl.{'max' if self.op in ('any', 'amax') else 'min'}({name}, 0{keep}) != 0)"
        else:
            text = f"tl.{'max' if self.op == 'amax' else 'min'}({name}, 0{keep})"
            if kind[0] == "f":
                bad = f"tl.max(({name} != {name}).to(tl.int32), 0{keep}) > 0"
                text = f'tl.where({bad}, float("nan"), {text})'
        program.emit(depth, f"g_{name} = {text}")

    def _finish_arg(self, program: Program, names: list[str], kind: str, keep: str, depth: int) -> None:
        """Emit the choice of the first lane that holds nan, else of the first that holds the extreme."""
        best, place = names
        start = constant(self._start(kind), kind)
        if kind == "b1":
            start = "1" if start == "True" else "0"
        extreme = "max" if self.op == "argmax" else "min"
        program.emit(depth, f"v_{best} = tl.{extreme}(tl.where({place} >= 0, {best}, {start}), 0{keep})")
        program.emit(depth, f"q_{best} = ({best} == v_{best}) & ({place} >= 0)")
        program.emit(depth, f"g_{best} = v_{best}")
        if kind[0] == "f":
            program.emit(depth, f"b_{best} = ({best} != {best}) & ({place} >= 0)")
            program.emit(depth, f"z_{best} = tl.max(b_{best}.to(tl.int32), 0{keep}) > 0")
            program.emit(depth, f"q_{best} = (z_{best} & b_{best}) | ((z_{best} == 0) & q_{best})")
            program.emit(depth, f'g_{best} = tl.where(z_{best}, float("nan"), v_{best})')
        joined = f"tl.min(tl.where(q_{best}, {place}, {self._places(program)[1]}), 0{keep})"
        program.emit(depth, f"g_{place} = {joined}.to(tl.int64)")

    def final(self, program: Program, name: str) -> str:  # noqa: ARG002
        """Return the name of a joined value."""
        return f"g_{name}"
