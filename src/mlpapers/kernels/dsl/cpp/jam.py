"""Several rows at a time into a tile of accumulators: each is loaded and stored once for all of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlpapers.kernels.dsl.cpp.vector import Run
from mlpapers.kernels.sketch import Compute, For, Load

if TYPE_CHECKING:
    from mlpapers.kernels.dsl.cpp.render import Function

_JOINS = ("reduce_sum", "reduce_prod", "reduce_amax", "reduce_amin", "reduce_any", "reduce_all")
# Vectors of so many rows' operands fit the registers beside the arithmetic of an elementwise chain.
_ROWS = 8
_STREAMS = 16


def rows_together(function: Function, loop: For) -> int:
    """Return how many rows of a loop are taken at once; 1 where its body is no plain reduction by columns.

    Parameters
    ----------
    function : Function
    loop : For

    Returns
    -------
    rows : int
    """
    if function.number(loop.step) != "1" or loop.hints or not function.tiles:
        return 1
    if not all(isinstance(s, Load | Compute) for s in loop.body):
        return 1
    tiles = [s for s in loop.body if function.rank_of(s)]
    numbers = [s for s in loop.body if not function.rank_of(s)]
    joins = [s for s in tiles if isinstance(s, Compute) and s.op.startswith(("reduce_", "scan_"))]
    if numbers or not joins or any(s.op not in _JOINS or not function.ranks[s.dst[0]] for s in joins):
        return 1
    if any(item.startswith("@") for s in tiles if isinstance(s, Load) for item in s.index):
        return 1
    made = {s.dst if isinstance(s, Load) else s.dst[0] for s in tiles if s not in joins}
    if made & function.arrays:
        return 1
    loads = sum(isinstance(s, Load) for s in tiles)
    return max(1, min(_ROWS, _STREAMS // max(loads, 1)))


def write_rows(function: Function, loop: For, rows: int, depth: int) -> None:
    """Emit the loop over groups of rows, and open the one over those that are left.

    Parameters
    ----------
    function : Function
    loop : For
    rows : int
        Of a group, at least 2.
    depth : int
    """
    var, low, high = loop.var, function.number(loop.lo), function.number(loop.hi)
    function.emit(depth, f"long {var} = {low};")
    function.emit(depth, f"for (; {var} + {rows} <= {high}; {var} += {rows}) {{")
    inside: list[str] = []
    for k in range(rows):
        run = Run(function, loop.body, function.tiles[-1])
        run.collect()

        def shifted(line: str, k: int = k) -> str:
            line = re.sub(rf"\b{var}\b", f"({var} + {k})", line)
            return re.sub(r"\bq(\d+)\b", rf"q\1_{k}", line)

        for line in run.before:
            function.emit(depth + 1, shifted(line))
        inside += ["{", *(f"  {shifted(line)}" for line in run.inside), "}"]
    function.emit(depth + 1, "#pragma omp simd")
    function.emit(depth + 1, f"for (long j = 0; j < n_{function.tiles[-1][0]}; ++j) {{")
    for line in inside:
        function.emit(depth + 2, line)
    function.emit(depth + 1, "}")
    function.emit(depth, "}")
    function.emit(depth, f"for (; {var} < {high}; ++{var}) {{")
