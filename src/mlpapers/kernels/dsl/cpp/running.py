"""A running sum over a row in vectors: operands, sums of a block in registers, and what follows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlpapers.kernels.dsl.cpp.maths import TYPES
from mlpapers.kernels.sketch import Compute, Store

if TYPE_CHECKING:
    from mlpapers.kernels.dsl.cpp.vector import Run

_BLOCK = 256

# Three shifted additions give the sums within eight elements; the next eight wait for one addition.
HELPER = """\
typedef double m_eight __attribute__((vector_size(64)));
static inline double m_running(double* __restrict t, long n, double carry) {
  const m_eight zero = {0, 0, 0, 0, 0, 0, 0, 0};
  long j = 0;
  for (; j + 8 <= n; j += 8) {
    m_eight v;
    __builtin_memcpy(&v, t + j, sizeof(v));
    v += __builtin_shufflevector(zero, v, 0, 8, 9, 10, 11, 12, 13, 14);
    v += __builtin_shufflevector(zero, v, 0, 1, 8, 9, 10, 11, 12, 13);
    v += __builtin_shufflevector(zero, v, 0, 1, 2, 3, 8, 9, 10, 11);
    const m_eight out = v + carry;
    __builtin_memcpy(t + j, &out, sizeof(out));
    carry += v[7];
  }
  for (; j < n; ++j) t[j] = carry += t[j];
  return carry;
}
"""


def find_running_sum(run: Run) -> Compute | None:
    """Return the running sum of a run's row; None where it has none, or something else that carries over.

    Parameters
    ----------
    run : Run

    Returns
    -------
    scan : Compute or None
    """
    carried = [
        s
        for s in run.statements
        if isinstance(s, Compute) and s.op.startswith(("scan_", "reduce_", "merge_"))
    ]
    if len(carried) != 1 or carried[0].op != "scan_cumsum":
        return None
    carry = carried[0].dst[1]
    return carried[0] if not run.f.ranks[carry] and run.f.types[carry] == "f64" else None


def write_running_sum(run: Run, scan: Compute, depth: int) -> None:
    """Emit a run's loop in blocks of a running sum.

    Parameters
    ----------
    run : Run
        Its statements are translated already.
    scan : Compute
    depth : int
    """
    assert run.tile is not None
    if HELPER not in run.f.helpers:
        run.f.helpers.append(HELPER)
    f, size, carry = run.f, f"n_{run.tile[0]}", scan.dst[1]
    place = next(k for k, (s, _) in enumerate(run.spans) if s is scan)
    before = [line for _, lines in run.spans[:place] for line in lines]
    again = [line for s, lines in run.spans[:place] if not isinstance(s, Store) for line in lines]
    after = [line for _, lines in run.spans[place + 1 :] for line in lines]
    result = run.assignment(scan.dst[0], f"({TYPES[f.types[scan.dst[0]]]})sums[j - g]")

    f.emit(depth, f"alignas(64) double sums[{_BLOCK}];")
    f.emit(depth, f"for (long g = 0; g < {size}; g += {_BLOCK}) {{")
    f.emit(depth + 1, f"const long h = m_min(g + {_BLOCK}, {size});")
    f.emit_block(depth + 1, [*before, f"sums[j - g] = {run.value(scan.args[0], 'f64')};"], run.reductions)
    f.emit(depth + 1, f"{carry} = m_running(sums, h - g, {carry});")
    f.emit_block(depth + 1, [*again, result, *after], run.reductions)
    f.emit(depth, "}")
