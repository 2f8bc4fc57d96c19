"""The Python around the C++ functions: ``class ModelNew`` with its constructor and ``forward``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.dsl.cpp.gemm import GEMM, gemm_function
from mlpapers.kernels.dsl.cpp.loader import LOADER
from mlpapers.kernels.dsl.cpp.maths import PRELUDE
from mlpapers.kernels.dsl.cpp.render import Function
from mlpapers.kernels.dsl.cpp.window import window_function
from mlpapers.kernels.sketch import Call, Sketch

FLAGS = (
    "-O3", "-march=native", "-mprefer-vector-width=512", "-fopenmp", "-fno-math-errno", "-fno-trapping-math",
    "-fno-signed-zeros", "-fassociative-math", "-ffp-contract=fast", "-funroll-loops",
)  # fmt: skip
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


class Host:
    """Writes the whole Python source of a sketch.

    Parameters
    ----------
    sketch : Sketch
    params : dict
    """

    def __init__(self, sketch: Sketch, params: dict[str, Any]) -> None:
        self.sketch = sketch.with_constexprs(**{k: v for k, v in params.items() if isinstance(v, int)})
        self.constants = dict(self.sketch.constexprs)
        self.params = params
        self.functions: list[str] = []
        self.lines: list[str] = []
        self.views = {view.name: view for view in sketch.views}
        self.made: set[str] = set()
        self.products = 0

    def render(self) -> str:
        """Return the source."""
        for symbol in self.sketch.symbols:
            argument = self._argument(self.sketch.tensor(symbol.tensor).key)
            self.lines.append(f"{symbol.name} = {argument}.shape[{symbol.dim}]")
        for tensor in self.sketch.tensors:
            if tensor.role == "input":
                argument, shape = self._argument(tensor.key), self._shape(tensor.dims)
                self.lines.append(
                    f"{tensor.name} = _dense({argument}, {tensor.dtype!r}, {shape}, {argument!r})"
                )
            elif tensor.role == "state":
                self.lines.append(f"{tensor.name} = _dense(_state(self, {tensor.key!r}), {tensor.dtype!r})")
            elif tensor.role == "const":
                self.lines.append(
                    f"{tensor.name} = torch.tensor({tensor.key}, dtype=_DTYPES[{tensor.dtype!r}])"
                    f".reshape({self._shape(tensor.dims)})"
                )
            if tensor.role in ("input", "state", "const"):
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
        results = [self._tensor_or_view(name) for name in self.sketch.results]
        for key, name in self.sketch.updates:
            self.lines.append(f"_state(self, {key!r}).copy_({self._tensor_or_view(name)})")
        if self.sketch.structure == "tensor":
            self.lines.append(f"return {results[0]}")
        elif self.sketch.structure == "tuple":
            self.lines.append(f"return ({', '.join(results)},)")
        else:
            self.lines.append(f"return [{', '.join(results)}]")
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

    def _argument(self, key: str) -> str:
        return key.split(" ", 1)[1]

    def _number(self, text: str) -> str:
        return _IDENTIFIER.sub(lambda match: str(self.constants.get(match[0], match[0])), text)

    def _shape(self, dims: Sequence[str]) -> str:
        return "(" + "".join(f"{self._number(dim)}, " for dim in dims) + ")"

    def _make(self, name: str) -> None:
        if name not in self.made:
            tensor = self.sketch.tensor(name)
            huge = "" if self.constants.get("HUGE", 1) else ", False"
            self.lines.append(f"{name} = _fresh({self._shape(tensor.dims)}, {tensor.dtype!r}{huge})")
            self.made.add(name)

    def _flush(self, segment: Sequence[Any]) -> None:
        if not segment:
            return
        name = f"kernel_{len(self.functions)}"
        function = Function(self.sketch, self.constants, name)
        self.functions.append(function.render(segment))
        for tensor in function.pointers:
            self._make(tensor)
        arguments = [*function.pointers, *(self._number(size) for size in function.sizes)]
        self.lines.append(f"_call(_CPP, _FLAGS, {name!r}, {', '.join(arguments)})")

    def _tensor_or_view(self, name: str) -> str:
        view = self.views.get(name)
        if view is None:
            self._make(name)
            return name
        self._make(view.base)
        return (
            f"torch.as_strided({view.base}, {self._shape(view.dims)}, {self._shape(view.strides)}, "
            f"{self._number(view.offset)})"
        )

    def _own(self, call: Call) -> None:
        """Call a product or convolution of our own."""
        name = f"kernel_{len(self.functions)}"
        text, tensors, sizes = gemm_function(name, self.sketch, call)
        # The helpers come once, before the first function that needs them.
        self.functions.append(text if self.products else GEMM + "\n" + text)
        self.products += 1
        for tensor in tensors:
            self._make(tensor)
        arguments = [*tensors, *(self._number(size) for size in sizes)]
        self.lines.append(f"_call(_CPP, _FLAGS, {name!r}, {', '.join(arguments)})")

    def _call(self, call: Call) -> None:
        spec = json.loads(call.spec)
        if call.target == "window":
            name = f"kernel_{len(self.functions)}"
            for tensor in call.dst:
                self._make(tensor)
            text, sizes = window_function(name, self.sketch, call, spec)
            self.functions.append(text)
            arguments = [*call.args, *call.dst, *(self._number(size) for size in sizes)]
            self.lines.append(f"_call(_CPP, _FLAGS, {name!r}, {', '.join(arguments)})")
            return
        if call.target.startswith("own."):
            self._own(call)
            return
        tensors = [self._tensor_or_view(name) for name in call.args]

        def decode(value: Any) -> str:
            if isinstance(value, str) and value.startswith("%"):
                return tensors[int(value[1:])]
            if isinstance(value, str) and value.startswith("="):
                return f"({self._number(value[1:])})"
            if isinstance(value, str) and value.startswith("torch."):
                return value
            if isinstance(value, list):
                return "[" + ", ".join(map(decode, value)) + "]"
            return repr(value)

        arguments = [decode(value) for value in spec["args"]]
        arguments += [f"{key}={decode(value)}" for key, value in spec["kwargs"].items()]
        result = f"torch.ops.{call.target}({', '.join(arguments)})"
        if len(call.dst) == 1 and not spec.get("several"):
            self.lines.append(f"{call.dst[0]} = {result}.contiguous()")
        else:
            self.lines.append(f"{''.join(f'{name}, ' for name in call.dst)}= {result}")
            self.lines += [f"{name} = {name}.contiguous()" for name in call.dst]
        self.made.update(call.dst)
