"""The UnifiedSketch: a kernel written down before it is written in any language.

A sketch is a tuple (D, O, C, H): declarations (symbols, constexprs, tensors, views), operations on tiles
(alloc,
load, store, compute; the destination last), control flow (counted loops) and hints (parallel, vectorize,
...).
It has a text form, can be validated, and can be run by a reference interpreter in NumPy.

An excerpt::

    symbol n0 = size(x, 0)
    constexpr TILE = 4096
    tensor x[n0, 512]: f32 input 0
    tensor out0[n0]: f32 output
    view v0[n0, 512] = x strides [512, 1] offset 0
    @llm_hint(parallel, coreidx)
    for p0 in range(0, n0, 1):
        s = alloc([], f64, accumulator, fastest, init=0.0)
        @llm_hint(vectorize, simd)
        for r0 in range(0, 512, TILE):
            load(v0[p0, r0:r0+TILE] -> a)
            reduce_sum(a -> s)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mlpapers.kernels.ops import COMPUTE, DTYPE_BYTES, POINTWISE

ROLES = ("input", "state", "const", "temp", "output", "index")
HINTS = ("parallel", "pipeline", "vectorize", "unroll")
WHERE = ("grididx", "threadidx", "coreidx", "warp", "simd")
STORAGE = ("fastest", "fast", "medium", "slow")
USES = ("accumulator", "input_cache", "output_buffer", "temp_workspace")
REDUCE_OPS = {
    "reduce_sum": 1, "reduce_prod": 1, "reduce_amax": 1, "reduce_amin": 1, "reduce_any": 1, "reduce_all": 1,
    "reduce_argmax": 2, "reduce_argmin": 2, "reduce_moments": 3, "merge_moments": 3,
}  # fmt: skip
# What the text of a size may call.
SIZE_FUNCTIONS = {"min": min, "max": max}
SCAN_OPS = ("scan_cumsum", "scan_cumprod", "scan_cummax", "scan_cummin")


class SketchError(ValueError):
    """A sketch does not parse or is not valid.

    Parameters
    ----------
    message : str
    line, col : int
        Where, both from 1.
    """

    def __init__(self, message: str, line: int = 0, col: int = 0) -> None:
        super().__init__(f"line {line}, column {col}: {message}")
        self.message, self.line, self.col = message, line, col

    def __reduce__(self) -> Any:
        return SketchError, (self.message, self.line, self.col)


@dataclass(frozen=True)
class Symbol:
    """A free size: dim `dim` of tensor `tensor`."""

    name: str
    tensor: str
    dim: int


@dataclass(frozen=True)
class Tensor:
    """A tensor in memory; `key` is the argument's position, the state's key, or a constant's values."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    role: str
    key: str = ""


@dataclass(frozen=True)
class View:
    """Strided access to a tensor: element (i, ..) lies at offset + i stride + .. of its buffer."""

    name: str
    base: str
    dims: tuple[str, ...]
    strides: tuple[str, ...]
    offset: str = "0"


@dataclass(frozen=True)
class Alloc:
    """A tile that lives as long as the loop body in which it stands; `init` fills it."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    hints: tuple[str, ...] = ()
    init: str = ""
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Load:
    """Tile <- view or alloc[index]; an index is a variable, a number, var:var+TILE, or @tile (indirect)."""

    source: str
    index: tuple[str, ...]
    dst: str
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Store:
    """View or alloc[index] <- tile."""

    src: str
    target: str
    index: tuple[str, ...]
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class Compute:
    """An elementwise operation, cast, reduction into accumulators, or scan; arguments may be literals."""

    op: str
    args: tuple[str, ...]
    dst: tuple[str, ...]
    dtype: str = ""
    line: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True)
class For:
    """for var in range(lo, hi, step), with hints (kind, where)."""

    var: str
    lo: str
    hi: str
    step: str
    hints: tuple[tuple[str, str], ...]
    body: tuple[Any, ...]
    line: int = field(default=0, compare=False, repr=False)

    def has(self, kind: str) -> bool:
        """Whether the loop carries a hint of that kind."""
        return any(name == kind for name, _ in self.hints)


@dataclass(frozen=True)
class Call:
    """A call on whole tensors: an aten operation of the library, or `window` (pooling); `spec` is JSON."""

    target: str
    spec: str
    args: tuple[str, ...]
    dst: tuple[str, ...]
    line: int = field(default=0, compare=False, repr=False)


Statement = Alloc | Load | Store | Compute | For | Call


@dataclass(frozen=True)
class Sketch:
    """A whole program: declarations, statements, results.

    Parameters
    ----------
    name : str
    symbols : tuple of Symbol
    constexprs : tuple of (str, int)
        Tile sizes and counts that a kernel language may set.
    tensors : tuple of Tensor
    views : tuple of View
    body : tuple of statements
    results : tuple of str
        Tensors or views that are returned.
    structure : {"tensor", "tuple", "list"}
    updates : tuple of (str, str)
        State key and the tensor that replaces it after the call.
    templates : tuple of str
        Families the regions come from, in order.
    host : str
        Python text of the module around the kernel (its constructor).
    requires : tuple of str
        Conditions on symbols, such as ``n0 != 1``: at other sizes the program is wrong.
    """

    name: str
    symbols: tuple[Symbol, ...] = ()
    constexprs: tuple[tuple[str, int], ...] = ()
    tensors: tuple[Tensor, ...] = ()
    views: tuple[View, ...] = ()
    body: tuple[Any, ...] = ()
    results: tuple[str, ...] = ()
    structure: str = "tensor"
    updates: tuple[tuple[str, str], ...] = ()
    templates: tuple[str, ...] = ()
    host: str = ""
    requires: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Sketch:
        """Read a sketch from its text form.

        Parameters
        ----------
        text : str

        Returns
        -------
        sketch : Sketch

        Raises
        ------
        SketchError
            With line and column, where a line is none of the grammar.
        """
        from mlpapers.kernels._sketch_text import parse_sketch

        return parse_sketch(text)

    def to_text(self) -> str:
        """Return the text form; ``parse`` gives the same sketch back."""
        from mlpapers.kernels._sketch_text import write_sketch

        return write_sketch(self)

    def validate(self) -> Sketch:
        """Check the sketch and return it.

        Raises
        ------
        SketchError
            For an undeclared tensor or tile, an index of the wrong rank, an unknown operation, hint or type,
            a
            wrong number of operands; with line and column of the text form.
        """
        from mlpapers.kernels._sketch_check import check_sketch

        check_sketch(Sketch.parse(self.to_text()), self.to_text())
        return self

    def interpret(
        self, inputs: Sequence[Any] | Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> tuple[np.ndarray, ...]:
        """Run the sketch in NumPy and return its results.

        Parameters
        ----------
        inputs : sequence or mapping of array_like
            In the order of ``forward``, or by tensor name.
        state : mapping of str to array_like, optional
            Parameters and buffers by their ``state_dict`` key.

        Returns
        -------
        results : tuple of ndarray
        """
        from mlpapers.kernels._sketch_interpret import Interpreter

        return Interpreter(self, inputs, state or {}).run()

    @property
    def library(self) -> tuple[str, ...]:
        """The aten operations that are called, in order of first use."""
        calls = (statement.target for statement in walk(self.body) if isinstance(statement, Call))
        return tuple(
            dict.fromkeys(target for target in calls if target != "window" and not target.startswith("own."))
        )

    def tensor(self, name: str) -> Tensor:
        """Return a declared tensor."""
        return next(tensor for tensor in self.tensors if tensor.name == name)

    def view(self, name: str) -> View | None:
        """Return a declared view, or None for another name."""
        return next((view for view in self.views if view.name == name), None)

    def with_constexprs(self, **values: int) -> Sketch:
        """Return the sketch with other values of its constexprs; unknown names are ignored."""
        return replace(
            self, constexprs=tuple((name, int(values.get(name, value))) for name, value in self.constexprs)
        )


def walk(body: Sequence[Any]) -> Iterator[Any]:
    """Yield all statements, a loop before its body."""
    for statement in body:
        yield statement
        if isinstance(statement, For):
            yield from walk(statement.body)


def operand_count(op: str) -> int | None:
    """Return how many operands a compute operation takes, or None where it is unknown."""
    if op in POINTWISE:
        return POINTWISE[op].arity
    if op == "cast":
        return 1
    if op in SCAN_OPS:
        return 1
    if op in REDUCE_OPS:
        return {"reduce_argmax": 2, "reduce_argmin": 2, "merge_moments": 3}.get(op, 1)
    return None


def known_dtype(dtype: str) -> bool:
    """Whether a type name is one of the language's."""
    return dtype in COMPUTE and dtype in DTYPE_BYTES
