"""The Python around TileLang functions."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.dsl.host import DeviceHost
from mlpapers.kernels.dsl.launches import Launch, Sizes
from mlpapers.kernels.dsl.tilelang.loader import LOADER
from mlpapers.kernels.dsl.tilelang.render import Function
from mlpapers.kernels.dsl.tilelang.window import window_function
from mlpapers.kernels.sketch import Call, Sketch


class TileLangHost(DeviceHost):
    """Writes the Python source of a sketch with TileLang functions.

    Parameters
    ----------
    sketch : Sketch
    params : dict
    backend : str
    """

    def __init__(self, sketch: Sketch, params: dict[str, Any], backend: str) -> None:
        super().__init__(sketch, params)
        self.backend = backend

    def launch(self, step: Launch) -> None:
        """Add a factory and its launch."""
        function = Function(self.sketch, step, self.backend)
        self.functions.append(function.render())
        for name in function.pointers:
            self.make(name)
        self._run(step.name, function.programs(self.number), function.sizes, function.pointers)

    def window(self, call: Call, spec: dict[str, Any]) -> None:
        """Add a pooling factory and its launch."""
        name = f"window_{len(self.functions)}"
        sizes = Sizes(self.constants, "T.min({0}, {1})")
        dtype = self.sketch.tensor(call.dst[0]).dtype
        self.functions.append(window_function(name, dtype, spec, sizes, self.backend))
        count = " * ".join(f"({self.number(size)})" for size in (spec["planes"], *spec["outs"]))
        self._run(name, count, sizes, [*call.args, *call.dst])

    def _run(self, name: str, programs: str, sizes: Sizes, tensors: list[str]) -> None:
        numbers = "(" + "".join(f"{self.number(size)}, " for size in sizes.arguments) + ")"
        self.lines.append(f"_run({name}, {self.backend!r}, {programs}, {numbers}, {', '.join(tensors)})")

    def source(self, forward: str, head: str, signature: str) -> str:
        """Return the module's text."""
        text = "\n\n\n".join(self.functions)
        return (
            f"{LOADER}\n\n{text}\n\n\n{head}\n    @_without_gradients\n"
            f"    def forward{signature}\n{forward}\n"
        )
