"""The Python around Triton functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.dsl.host import DeviceHost
from mlpapers.kernels.dsl.launches import Launch, Sizes
from mlpapers.kernels.dsl.triton.loader import LOADER
from mlpapers.kernels.dsl.triton.maths import helpers
from mlpapers.kernels.dsl.triton.product import PRECISIONS, PRODUCT, product_line
from mlpapers.kernels.dsl.triton.render import Program
from mlpapers.kernels.dsl.triton.window import block_of, window_function
from mlpapers.kernels.sketch import Call, Sketch

# Elements of a program's blocks per warp: 32 lanes with 8 elements (two 16-byte loads of float) each.
PER_WARP = 256
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
        self.products = False

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
        warps = self.warps(program.largest, PER_WARP if program.rank == 1 else PER_WARP_OF_TILES)
        self.lines.append(
            f"_run({step.name}, {self.programs(step, program.widths)}, {', '.join(arguments)}"
            f"{', ' if arguments else ''}num_warps={warps})"
        )

    def window(self, call: Call, spec: dict[str, Any]) -> None:
        """Add a pooling function and its launch."""
        name = f"window_{len(self.functions)}"
        sizes = Sizes(self.constants, "tl.minimum({0}, {1})")
        self.functions.append(window_function(name, self.sketch.tensor(call.dst[0]).dtype, spec, sizes))
        area = " * ".join(f"({self.number(size)})" for size in spec["outs"])
        block = block_of(spec)[0]
        programs = f"({self.number(spec['planes'])}) * (({area} + {block - 1}) // {block})"
        arguments = [*call.args, *call.dst, *map(self.number, sizes.arguments)]
        self.lines.append(f"_run({name}, {programs}, {', '.join(arguments)}, num_warps=4)")

    def fused(self, call: Call, rest: Sequence[Any]) -> bool:  # noqa: ARG002
        """Write a matrix product as ours where the sketch asks for a precision that the library lacks."""
        how = PRECISIONS.get(int(self.params.get("PRECISION", 0)))
        if how is None:
            return False
        line = product_line(self.sketch, call, [self.tensor(name) for name in call.args], how)
        if line is None:
            return False
        self.lines.append(line)
        self.made.update(call.dst)
        self.products = True
        return True

    def source(self, forward: str, head: str, signature: str) -> str:
        """Return the module's text."""
        text = "\n\n\n".join(self.functions)
        product = PRODUCT if self.products else ""
        return (
            f"{LOADER}\n\n{helpers(text)}{product}{text}\n\n\n{head}\n    @torch.no_grad()\n"
            f"    def forward{signature}\n{forward}\n"
        )
