"""Static rules of sketches: names, ranks, operations, types."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.sketch import (
    HINTS,
    REDUCE_OPS,
    ROLES,
    SCAN_OPS,
    SIZE_FUNCTIONS,
    STORAGE,
    USES,
    WHERE,
    Alloc,
    Call,
    Compute,
    For,
    Load,
    Sketch,
    SketchError,
    Store,
    known_dtype,
    operand_count,
)

_NAME = re.compile(r"[A-Za-z_]\w*")
_NUMBERS = ("inf", "nan")


def check_sketch(sketch: Sketch, text: str) -> None:
    """Raise SketchError at the first statement that breaks a rule.

    Parameters
    ----------
    sketch : Sketch
        Parsed from `text`, so that statements know their lines.
    text : str
    """
    _Checker(sketch, text).check()


class _Checker:
    def __init__(self, sketch: Sketch, text: str) -> None:
        self.sketch = sketch
        self.lines = text.split("\n")
        self.sizes = {symbol.name for symbol in sketch.symbols} | {name for name, _ in sketch.constexprs}
        self.ranks = {tensor.name: len(tensor.dims) for tensor in sketch.tensors}
        self.tensors = dict(self.ranks)
        self.ranks.update({view.name: len(view.dims) for view in sketch.views})

    def fail(self, line: int, message: str, near: str = "") -> SketchError:
        source = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return SketchError(message, line, source.find(near) + 1 if near and near in source else 1)

    def declared_at(self, word: str, name: str) -> int:
        for number, line in enumerate(self.lines, start=1):
            if line.startswith(f"{word} {name}"):
                return number
        return 1

    def check(self) -> None:
        for tensor in self.sketch.tensors:
            line = self.declared_at("tensor", tensor.name)
            if tensor.role not in ROLES:
                raise self.fail(line, f"unknown role {tensor.role!r}; known: {', '.join(ROLES)}", tensor.role)
            if not known_dtype(tensor.dtype):
                raise self.fail(line, f"unknown type {tensor.dtype!r}", tensor.dtype)
            for dim in tensor.dims:
                self.size(dim, line, set())
        for symbol in self.sketch.symbols:
            line = self.declared_at("symbol", symbol.name)
            if symbol.tensor not in self.tensors or symbol.dim >= self.tensors[symbol.tensor]:
                raise self.fail(line, f"size of an undeclared tensor or dim: {symbol.tensor}", symbol.tensor)
        for condition in self.sketch.requires:
            self.size(condition, self.declared_at("require", condition), set())
        for view in self.sketch.views:
            line = self.declared_at("view", view.name)
            if view.base not in self.tensors:
                raise self.fail(line, f"view of an undeclared tensor {view.base!r}", view.base)
            if len(view.strides) != len(view.dims):
                raise self.fail(line, f"{len(view.strides)} strides for {len(view.dims)} dims", "strides")
            for size in (*view.dims, *view.strides, view.offset):
                self.size(size, line, set())
        self.body(self.sketch.body, set(), {})
        for name in (*self.sketch.results, *(name for _, name in self.sketch.updates)):
            if name not in self.ranks:
                raise self.fail(len(self.lines) - 1, f"undeclared result {name!r}", name)

    def size(self, text: str, line: int, variables: set[str]) -> None:
        for name in _NAME.findall(text):
            if name not in self.sizes and name not in variables and name not in SIZE_FUNCTIONS:
                raise self.fail(line, f"unknown size {name!r}", name)

    def body(self, body: Sequence[Any], variables: set[str], tiles: dict[str, int]) -> None:
        tiles = dict(tiles)
        for s in body:
            if isinstance(s, For):
                for kind, where in s.hints:
                    if kind not in HINTS or where not in WHERE:
                        raise self.fail(s.line, f"unknown hint ({kind}, {where})", s.var)
                for bound in (s.lo, s.hi, s.step):
                    self.size(bound, s.line, variables)
                if s.var in variables:
                    raise self.fail(s.line, f"loop variable {s.var!r} is in use", s.var)
                self.body(s.body, variables | {s.var}, tiles)
            elif isinstance(s, Alloc):
                for hint in s.hints:
                    if hint not in STORAGE and hint not in USES:
                        raise self.fail(s.line, f"unknown storage hint {hint!r}", hint)
                if not known_dtype(s.dtype):
                    raise self.fail(s.line, f"unknown type {s.dtype!r}", s.dtype)
                for dim in s.dims:
                    self.size(dim, s.line, variables)
                tiles[s.name] = len(s.dims)
            elif isinstance(s, Load):
                self.access(s.source, s.index, s.line, variables, tiles)
                tiles[s.dst] = -1
            elif isinstance(s, Store):
                self.operand(s.src, s.line, tiles)
                self.access(s.target, s.index, s.line, variables, tiles)
            elif isinstance(s, Compute):
                self.compute(s, tiles)
            elif isinstance(s, Call):
                for name in s.args:
                    if name not in self.ranks:
                        raise self.fail(s.line, f"undeclared tensor {name!r}", name)
                for name in s.dst:
                    if name not in self.tensors:
                        raise self.fail(s.line, f"undeclared tensor {name!r}", name)

    def access(
        self, source: str, index: Sequence[str], line: int, variables: set[str], tiles: dict[str, int]
    ) -> None:
        local = source in tiles and tiles[source] >= 0
        if not local and source not in self.ranks:
            raise self.fail(line, f"undeclared tensor {source!r}", source)
        rank = tiles[source] if local else self.ranks[source]
        if len(index) != rank:
            raise self.fail(line, f"{len(index)} indices for {source!r} of rank {rank}", source)
        for item in index:
            if item.startswith("@"):
                self.operand(item[1:], line, tiles)
            elif item != ":":
                self.size(item, line, variables)

    def operand(self, name: str, line: int, tiles: dict[str, int]) -> None:
        plain = name.lstrip("-")
        if not _NAME.fullmatch(plain) or plain in _NUMBERS or name in tiles:
            return
        raise self.fail(line, f"unknown tile {name!r}", name)

    def compute(self, s: Compute, tiles: dict[str, int]) -> None:
        wanted = operand_count(s.op)
        if wanted is None:
            raise self.fail(s.line, f"unknown operation {s.op!r}", s.op)
        if len(s.args) != wanted:
            raise self.fail(s.line, f"{s.op} takes {wanted} operands; got {len(s.args)}", s.op)
        for name in s.args:
            if name not in self.sizes:
                self.operand(name, s.line, tiles)
        results = REDUCE_OPS.get(s.op, 2 if s.op in SCAN_OPS else 1)
        if len(s.dst) != results:
            raise self.fail(s.line, f"{s.op} has {results} results; got {len(s.dst)}", s.op)
        if s.dtype and not known_dtype(s.dtype):
            raise self.fail(s.line, f"unknown type {s.dtype!r}", s.dtype)
        if s.op in REDUCE_OPS or s.op in SCAN_OPS:
            accumulators = s.dst if s.op in REDUCE_OPS else s.dst[1:]
            for name in accumulators:
                if tiles.get(name, -1) < 0:
                    raise self.fail(s.line, f"{name!r} is no accumulator (alloc it first)", name)
        for name in s.dst:
            tiles.setdefault(name, -1)
