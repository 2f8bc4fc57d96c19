"""The Python around CUDA functions."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.dsl.cuda.loader import LOADER
from mlpapers.kernels.dsl.cuda.maths import PRELUDE
from mlpapers.kernels.dsl.cuda.render import Function
from mlpapers.kernels.dsl.cuda.window import window_function
from mlpapers.kernels.dsl.host import DeviceHost
from mlpapers.kernels.dsl.launches import Launch, Sizes
from mlpapers.kernels.sketch import Call, Sketch

# What NVRTC and nvcc both take. Fused multiply-adds are on by default; fast mathematics stays off.
FLAGS = ("--std=c++17",)
DEFAULT_THREADS = 256


class CudaHost(DeviceHost):
    """Writes the Python source of a sketch with CUDA kernels.

    Parameters
    ----------
    sketch : Sketch
    params : dict
    """

    def __init__(self, sketch: Sketch, params: dict[str, Any]) -> None:
        super().__init__(sketch, params)
        self.threads = int(params.get("THREADS", DEFAULT_THREADS))

    def launch(self, step: Launch) -> None:
        """Add a function and its launch."""
        function = Function(self.sketch, step, self.threads)
        self.functions.append(function.render())
        for name in function.pointers:
            self.make(name)
        arguments = [*function.pointers, *(self.number(size) for size in function.sizes.arguments)]
        self._run(step.name, self.programs(step, function.widths), function.threads, arguments)

    def window(self, call: Call, spec: dict[str, Any]) -> None:
        """Add a pooling function and its launch."""
        name = f"window_{len(self.functions)}"
        sizes = Sizes(self.constants, "m_min({0}, {1})")
        dtype = self.sketch.tensor(call.dst[0]).dtype
        self.functions.append(window_function(name, dtype, spec, sizes, self.threads))
        count = " * ".join(f"({self.number(size)})" for size in (spec["planes"], *spec["outs"]))
        arguments = [*call.args, *call.dst, *map(self.number, sizes.arguments)]
        self._run(name, f"({count} + {self.threads - 1}) // {self.threads}", self.threads, arguments)

    def _run(self, name: str, programs: str, threads: int, arguments: list[str]) -> None:
        self.lines.append(f"_run(_CUDA, _FLAGS, {name!r}, {programs}, {threads}, {', '.join(arguments)})")

    def source(self, forward: str, head: str, signature: str) -> str:
        """Return the module's text."""
        text = PRELUDE + "\n" + "\n\n".join(self.functions) + "\n" if self.functions else ""
        return (
            f'{LOADER}\n_FLAGS = {FLAGS!r}\n_CUDA = r"""{text}"""\n\n\n{head}\n    @_without_gradients\n'
            f"    def forward{signature}\n{forward}\n"
        )
