"""A kernel language in sixty lines: what a new one takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from mlpapers.kernels.dsl.base import DSL
from mlpapers.kernels.sketch import Alloc, Compute, For, Load, Sketch, Store

_NAMES = {"sub": "subtract", "mul": "multiply", "div": "divide"}
_REDUCE = {"reduce_sum": "add", "reduce_amax": "maximum", "reduce_amin": "minimum"}
_KINDS = {"f32": "float32", "f64": "float64", "i64": "int64", "b1": "bool"}


class NumpyDSL(DSL):
    """Sketches as NumPy statements."""

    name: ClassVar[str] = "numpy"
    backends: ClassVar[tuple[str, ...]] = ("cpu",)
    docs: ClassVar[Path] = Path(__file__).parent
    modules: ClassVar[tuple[str, ...]] = ("numpy",)

    def available(self, backend: str) -> tuple[bool, str]:
        """Return True on the processor."""
        return backend == "cpu", "" if backend == "cpu" else "numpy runs on the processor"

    def space(self, sketch: Sketch, backend: str) -> dict[str, tuple[Any, ...]]:  # noqa: ARG002
        """Return no knobs."""
        return {}

    def render(self, sketch: Sketch, params: dict[str, Any], backend: str) -> str:  # noqa: ARG002
        """Return the statements as ``ModelNew``."""
        lines = [f"{name} = {value}" for name, value in sketch.constexprs]
        named = {t.name: t.key.split(" ", 1)[-1] for t in sketch.tensors if t.role == "input"}
        lines += [f"{s.name} = {named[s.tensor]}.shape[{s.dim}]" for s in sketch.symbols]
        for t in sketch.tensors:
            shape = "(" + "".join(f"{dim}, " for dim in t.dims) + ")"
            made = f"numpy.empty({shape}, numpy.{_KINDS[t.dtype]})"
            lines.append(f"{t.name} = {f'{named[t.name]}.contiguous().numpy()' if t.name in named else made}")
        for v in sketch.views:
            bytes_ = "".join(f"({s}) * {v.base}.itemsize, " for s in v.strides)
            dims = "".join(f"{dim}, " for dim in v.dims)
            lines.append(f"{v.name} = numpy.lib.stride_tricks.as_strided("
                         f"{v.base}.reshape(-1)[{v.offset}:], ({dims}), ({bytes_}))")  # fmt: skip
        lines += self._body(sketch.body, 0)
        lines.append(f"return torch.from_numpy({sketch.results[0]})")
        text = "\n".join("        " + line for line in lines)
        return f"import numpy\n{sketch.host}\n{text}\n"

    def _body(self, body: tuple[Any, ...], depth: int) -> list[str]:
        lines: list[str] = []
        for s in body:
            if isinstance(s, For):
                lines += [f"for {s.var} in range({s.lo}, {s.hi}, {s.step}):", *self._body(s.body, 1)]
            elif isinstance(s, Alloc):
                lines.append(
                    f"{s.name} = numpy.full(({', '.join(s.dims)}), {s.init.replace('inf', 'numpy.inf')})"
                )
            elif isinstance(s, Load):
                lines.append(f"{s.dst} = {s.source}[{', '.join(s.index) or '()'}]")
            elif isinstance(s, Store):
                lines.append(f"{s.target}[{', '.join(s.index) or '()'}] = {s.src}")
            elif isinstance(s, Compute) and s.op in _REDUCE:
                ufunc = f"numpy.{_REDUCE[s.op]}"
                lines.append(f"{s.dst[0]} = {ufunc}({s.dst[0]}, {ufunc}.reduce({s.args[0]}, axis=None))")
            elif s.op == "cast":
                lines.append(f"{s.dst[0]} = numpy.asarray({s.args[0]}).astype(numpy.{_KINDS[s.dtype]})")
            else:
                lines.append(f"{s.dst[0]} = numpy.{_NAMES.get(s.op, s.op)}({', '.join(s.args)})")
        return [("    " * depth) + line for line in lines]
