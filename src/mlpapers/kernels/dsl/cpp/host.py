"""The Python around the C++ functions: ``class ModelNew`` with its constructor and ``forward``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.dsl.cpp.gemm import gemm_function, own_helpers
from mlpapers.kernels.dsl.cpp.loader import LOADER
from mlpapers.kernels.dsl.cpp.maths import PRELUDE
from mlpapers.kernels.dsl.cpp.render import Function
from mlpapers.kernels.dsl.cpp.window import window_function
from mlpapers.kernels.dsl.host import GIVEN, Host, argument_of
from mlpapers.kernels.sketch import Call, Sketch

FLAGS = (
    "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-fno-math-errno", "-fno-trapping-math",
    "-fno-signed-zeros", "-fassociative-math", "-ffp-contract=fast", "-funroll-loops",
)  # fmt: skip


# The same functions by bindings that take several microseconds less per call than the operators' objects.
_IN_TORCH = ("convolution", "mm", "bmm", "addmm", "baddbmm", "matmul", "mv", "dot")
_DIRECT = {
    **{name: f"torch.{name}" for name in _IN_TORCH},
    **{name: f"torch.nn.functional.{name}" for name in ("linear", "scaled_dot_product_attention")},
}


class CppHost(Host):
    """Writes the whole Python source of a sketch.

    Parameters
    ----------
    sketch : Sketch
    params : dict
    """

    def __init__(self, sketch: Sketch, params: dict[str, Any]) -> None:
        values = {name: value for name, value in params.items() if isinstance(value, int)}
        super().__init__(sketch.with_constexprs(**values), params)
        self.helpers: list[str] = []
        self.tables: list[tuple[str, str]] = []

    def render(self) -> str:
        """Return the source."""
        self.symbols()
        for tensor in self.sketch.tensors:
            if tensor.role == "input":
                argument, shape = argument_of(tensor.key), self.shape(tensor.dims)
                self.lines.append(
                    f"{tensor.name} = _dense({argument}, {tensor.dtype!r}, {shape}, {argument!r})"
                )
            elif tensor.role == "state":
                self.lines.append(f"{tensor.name} = _dense(_state(self, {tensor.key!r}), {tensor.dtype!r})")
            elif tensor.role == "const":
                self.lines.append(
                    f"{tensor.name} = torch.tensor({tensor.key}, dtype=_DTYPES[{tensor.dtype!r}])"
                    f".reshape({self.shape(tensor.dims)})"
                )
            if tensor.role in GIVEN:
                self.made.add(tensor.name)
        segment: list[Any] = []
        for statement in self.sketch.body:
            if isinstance(statement, Call):
                self._flush(segment)
                segment = []
                self._call(statement)
            else:
                segment.append(statement)
        self._flush(segment)
        self._look_up()
        self.finish()
        body = "\n".join("        " + line for line in self.lines)
        cpp = PRELUDE + "\n" + "\n\n".join(self.functions) + "\n"
        head, _, signature = self.sketch.host.rpartition("\n    def forward")
        # Entering the context costs as much as a small kernel, and only PyTorch's own operations need it.
        recorded = self.sketch.updates or any(isinstance(s, Call) for s in self.sketch.body)
        quiet = "\n    @torch.no_grad()" if recorded else ""
        return (
            f'{LOADER}\n_FLAGS = {FLAGS!r}\n_CPP = r"""{cpp}"""\n\n\n{head}{quiet}\n'
            f"    def forward{signature.rstrip()}\n{body}\n"
        )

    def callee(self, target: str) -> str:
        """Return the function of the library: the binding in ``torch`` where it takes the same arguments."""
        space, name, overload = target.split(".")
        direct = _DIRECT.get(name) if (space, overload) == ("aten", "default") else None
        return direct or super().callee(target)

    def allocation(self, name: str) -> str:
        """Return the expression of a new tensor, on huge pages where it is large and they are wanted."""
        tensor = self.sketch.tensor(name)
        huge = "" if self.constants.get("HUGE", 1) else ", False"
        return f"_fresh({self.shape(tensor.dims)}, {tensor.dtype!r}{huge})"

    def _flush(self, segment: Sequence[Any]) -> None:
        if not segment:
            return
        name = f"kernel_{len(self.functions)}"
        function = Function(self.sketch, self.constants, name, self.tables)
        self._add(function.render(segment), function.helpers)
        for tensor in function.pointers:
            self.make(tensor)
        arguments = [*function.pointers, *(self.number(size) for size in function.sizes)]
        arguments += ["_outside"] * function.looks_up
        self.lines.append(f"_call(_CPP, _FLAGS, {name!r}, {', '.join(arguments)})")

    def _look_up(self) -> None:
        """Refuse indices outside of their tables, once every kernel has run; none has read there."""
        if not self.tables:
            return
        self.lines.insert(0, "_outside = torch.zeros(1, dtype=torch.int64)")
        tables = []
        for name, size in self.tables:
            tensor = self.sketch.tensor(name)
            called = argument_of(tensor.key) if tensor.role == "input" else tensor.key
            tables.append(f"({called or 'an intermediate result'!r}, {self.number(size)})")
        self.lines.append(f"_look_up(_outside, {', '.join(tables)})")

    def _add(self, text: str, helpers: Sequence[str]) -> None:
        """Add a function; what it calls comes once, before the first function that needs it."""
        needed = [helper for helper in helpers if helper not in self.helpers]
        self.helpers += needed
        self.functions.append("\n".join([*needed, text]))

    def _own(self, call: Call) -> None:
        """Call a product or convolution of our own."""
        name = f"kernel_{len(self.functions)}"
        text, tensors, sizes = gemm_function(name, self.sketch, call)
        self._add(text, own_helpers(call))
        for tensor in tensors:
            self.make(tensor)
        arguments = [*tensors, *(self.number(size) for size in sizes)]
        self.lines.append(f"_call(_CPP, _FLAGS, {name!r}, {', '.join(arguments)})")

    def _call(self, call: Call) -> None:
        if call.target == "window":
            name = f"kernel_{len(self.functions)}"
            for tensor in call.dst:
                self.make(tensor)
            text, sizes = window_function(name, self.sketch, call, json.loads(call.spec))
            self.functions.append(text)
            arguments = [*call.args, *call.dst, *(self.number(size) for size in sizes)]
            self.lines.append(f"_call(_CPP, _FLAGS, {name!r}, {', '.join(arguments)})")
            return
        if call.target.startswith("own."):
            self._own(call)
        else:
            self.library(call)
