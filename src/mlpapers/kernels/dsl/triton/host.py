"""The Python around Triton functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.dsl.host import DeviceHost
from mlpapers.kernels.dsl.launches import Launch, Sizes
from mlpapers.kernels.dsl.triton.convolution import plan_of
from mlpapers.kernels.dsl.triton.convolve import convolution_text, suits
from mlpapers.kernels.dsl.triton.loader import LOADER
from mlpapers.kernels.dsl.triton.maths import helpers
from mlpapers.kernels.dsl.triton.pooling import near, near_function, near_programs, near_warps
from mlpapers.kernels.dsl.triton.product import PRECISIONS, product_line, product_source
from mlpapers.kernels.dsl.triton.render import Program
from mlpapers.kernels.dsl.triton.window import block_of, window_function
from mlpapers.kernels.sketch import Call, For, Sketch, walk

# Elements of a program's blocks per warp: 32 lanes with 8 elements (two 16-byte loads of float) each.
PER_WARP = 256
# Without a loop nothing is kept between loads: one of 16 bytes per lane, and more warps to wait side by side.
PER_WARP_POINTWISE = 128
# Of two-lane tiles: the columns' sums go through shared memory, the fewer warps the better.
PER_WARP_OF_TILES = 1024
MOST_WARPS = 32


class TritonHost(DeviceHost):
    """Writes the Python source of a sketch with Triton kernels.

    Parameters
    ----------
    sketch : Sketch
    params : dict
    """

    def __init__(self, sketch: Sketch, params: dict[str, Any]) -> None:
        super().__init__(sketch, params)
        self.product = ""

    def warps(self, elements: int, per_warp: int = PER_WARP) -> int:
        """Return the warps of a program: the knob, else so many that a thread has about eight elements."""
        wanted = int(self.params.get("WARPS", 0))
        if wanted:
            return wanted
        count = 1
        while count * per_warp < elements and count < MOST_WARPS:
            count *= 2
        return max(count, 4) if elements >= 4 * PER_WARP else count

    def launch(self, step: Launch) -> None:
        """Add a function and its launch."""
        program = Program(self.sketch, step)
        self.functions.append(program.render())
        for name in program.pointers:
            self.make(name)
        arguments = [*program.pointers, *(f"{self.number(size)}" for size in program.sizes.arguments)]
        per_warp = PER_WARP if program.rank == 1 else PER_WARP_OF_TILES // (2 if program.places else 1)
        if program.rank == 1 and not any(isinstance(s, For) for s in walk(step.body)):
            per_warp = PER_WARP_POINTWISE
        warps = self.warps(program.largest, per_warp)
        self.lines.append(
            f"_run({step.name}, {self.programs(step, program.widths)}, {', '.join(arguments)}"
            f"{', ' if arguments else ''}num_warps={warps})"
        )

    def window(self, call: Call, spec: dict[str, Any]) -> None:
        """Add a pooling function and its launch."""
        name = f"window_{len(self.functions)}"
        sizes = Sizes(self.constants, "tl.minimum({0}, {1})")
        dtype = self.sketch.tensor(call.dst[0]).dtype
        if near(spec):
            self.functions.append(near_function(name, dtype, spec, sizes))
            programs, warps = near_programs(spec, sizes, self.number), near_warps(spec, sizes)
        else:
            self.functions.append(window_function(name, dtype, spec, sizes))
            area = " * ".join(f"({self.number(size)})" for size in spec["outs"])
            block = block_of(spec)[0]
            programs = f"({self.number(spec['planes'])}) * (({area} + {block - 1}) // {block})"
            warps = 4
        arguments = [*call.args, *call.dst, *map(self.number, sizes.arguments)]
        self.lines.append(f"_run({name}, {programs}, {', '.join(arguments)}, num_warps={warps})")

    def fused(self, call: Call, rest: Sequence[Any]) -> bool:  # noqa: ARG002
        """Write a convolution as ours, and a product where the precision asked for is not the library's."""
        if self._convolution(call):
            return True
        how = PRECISIONS.get(int(self.params.get("PRECISION", 0)))
        if how is None:
            return False
        line = product_line(self.sketch, call, [self.tensor(name) for name in call.args], how)
        if line is None:
            return False
        self.lines.append(line)
        self.made.update(call.dst)
        self.product = product_source(how)
        return True

    def _convolution(self, call: Call) -> bool:
        """Write a convolution as ours where the knob allows it; it has then added the lines."""
        plan = plan_of(self.sketch, call)
        choice = int(self.params.get("CONVOLUTION", 0))
        if plan is None or choice == 0 or (choice == 1 and not suits(plan)):
            return False
        name = f"convolution_{len(self.functions)}"
        bias = f"{name}_b" if len(call.args) == 3 else ""
        x = self.tensor(call.args[0])
        self.make(call.dst[0])
        images = self.number(self.sketch.tensor(call.args[0]).dims[0])
        for given, part in zip(call.args[1:], (f"{name}_w", bias)):
            # Library calls take states as they are; a kernel's must be dense.
            t = self.sketch.tensor(given)
            self.lines.append(
                f"{part} = _dense({self.tensor(given)}, {t.dtype!r}, device, {self.shape(t.dims)}, {given!r})"
            )
        exact = PRECISIONS.get(int(self.params.get("PRECISION", 0)), "ieee")
        functions, lines = convolution_text(
            name, plan, x, f"{name}_w", bias, call.dst[0], images=images, exact=exact
        )
        self.functions += functions
        self.lines += lines
        return True

    def source(self, forward: str, head: str, signature: str) -> str:
        """Return the module's text."""
        text = self.product + "\n\n\n".join(self.functions)
        return (
            f"{LOADER}\n\n{helpers(text)}{text}\n\n\n{head}\n    @_without_gradients\n"
            f"    def forward{signature}\n{forward}\n"
        )
