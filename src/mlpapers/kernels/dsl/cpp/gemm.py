"""C++ text of matrix products of our own: packed blocks around a register-blocked kernel.

A block of C belongs to one thread from start to end: it packs a block of A (panels of rows, column after
column) and one of B (panels of columns, row after row), and multiplies panel by panel with all of a panel's C
in registers. Panels are as high as the registers allow and share the rows evenly, so that few are empty.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.dsl.cpp.convolution import CONVOLUTION, convolution_body
from mlpapers.kernels.sketch import Call, Sketch

GEMM = r"""
#ifdef __AVX512F__
#define G_MR 14
#define G_VL 16
#else
#define G_MR 6
#define G_VL 8
#endif
#define G_NR (2 * G_VL)
typedef float g_vec __attribute__((vector_size(4 * G_VL)));
typedef float g_any __attribute__((vector_size(4 * G_VL), aligned(4), may_alias));
static const long G_KC = 256, G_PANELS = 18, G_NB = G_NR * 16;
static inline long g_height(long rows) {
  const long panels = (rows + G_MR - 1) / G_MR;
  return panels > 1 ? (rows + panels - 1) / panels : rows < 1 ? 1 : rows;
}
template <int R>
static void g_micro(const float* __restrict a, const float* __restrict b, long depth, float* __restrict out) {
  g_vec c[R][2] = {};
  #pragma GCC unroll 2
  for (long k = 0; k < depth; ++k) {
    const g_vec b0 = *(const g_vec*)(b + k * G_NR), b1 = *(const g_vec*)(b + k * G_NR + G_VL);
    #pragma GCC unroll 16
    for (int i = 0; i < R; ++i) {
      const float x = a[k * R + i];
      c[i][0] += x * b0;
      c[i][1] += x * b1;
    }
  }
  #pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    *(g_vec*)(out + i * G_NR) = c[i][0];
    *(g_vec*)(out + i * G_NR + G_VL) = c[i][1];
  }
}
typedef void (*g_micro_of)(const float*, const float*, long, float*);
template <int R> static g_micro_of g_pick(long rows) {
  if constexpr (R == 1) return g_micro<1>;
  else return rows == R ? g_micro<R> : g_pick<R - 1>(rows);
}
// The matrix a[m * sm + k * sk]; a block of it as panels of `high` rows.
struct g_rows {
  const float* a; long sm, sk, high;
  void pack(long m0, long mb, long k0, long depth, float* out) const {
    for (long p = 0; p < mb; p += high, out += depth * high) {
      const long rows = m_min(high, mb - p);
      if (rows < high) for (long j = 0; j < depth * high; ++j) out[j] = 0;
      const float* q = a + (m0 + p) * sm + k0 * sk;
      if (sm == 1) {
        for (long k = 0; k < depth; ++k) for (long i = 0; i < rows; ++i) out[k * high + i] = q[k * sk + i];
      } else {
        for (long i = 0; i < rows; ++i)
          for (long k = 0; k < depth; ++k) out[k * high + i] = q[i * sm + k * sk];
      }
    }
  }
};
// The matrix b[k * sk + n * sn]; a block of it as panels of G_NR columns.
struct g_columns {
  const float* b; long sk, sn;
  void pack(long n0, long nb, long k0, long depth, float* out) const {
    for (long p = 0; p < nb; p += G_NR, out += depth * G_NR) {
      const long wide = m_min(G_NR, nb - p);
      if (wide < G_NR) for (long j = 0; j < depth * G_NR; ++j) out[j] = 0;
      const float* q = b + k0 * sk + (n0 + p) * sn;
      if (sn == 1) {
        for (long k = 0; k < depth; ++k) for (long j = 0; j < wide; ++j) out[k * G_NR + j] = q[k * sk + j];
      } else {
        for (long j = 0; j < wide; ++j)
          for (long k = 0; k < depth; ++k) out[k * G_NR + j] = q[k * sk + j * sn];
      }
    }
  }
};
// c[m * ld + n] = alpha * sum_k a b + beta * start[m * tm + n * tn] on the block at (m0, n0).
static void g_block(
    const g_rows& a, const g_columns& b, float* c, long ld, const float* start, long tm, long tn, float alpha,
    float beta, long m0, long mb, long n0, long nb, long depth, float* __restrict pa, float* __restrict pb) {
  alignas(64) float tile[G_MR * G_NR];
  const long high = a.high;
  const g_micro_of micro = g_pick<G_MR>(high);
  for (long k0 = 0; k0 == 0 || k0 < depth; k0 += G_KC) {
    const long kc = m_min(G_KC, depth - k0);
    a.pack(m0, mb, k0, kc, pa);
    b.pack(n0, nb, k0, kc, pb);
    for (long j0 = 0; j0 < nb; j0 += G_NR) for (long i0 = 0; i0 < mb; i0 += high) {
      micro(pa + i0 * kc, pb + j0 * kc, kc, tile);
      const long rows = m_min(high, mb - i0), wide = m_min(G_NR, nb - j0);
      for (long i = 0; i < rows; ++i) {
        const long m = m0 + i0 + i, n = n0 + j0;
        float* q = c + m * ld + n;
        const float* t = tile + i * G_NR;
        if (k0) for (long j = 0; j < wide; ++j) q[j] += alpha * t[j];
        else if (start) for (long j = 0; j < wide; ++j)
          q[j] = alpha * t[j] + beta * start[m * tm + (n + j) * tn];
        else for (long j = 0; j < wide; ++j) q[j] = alpha * t[j];
      }
    }
  }
}
// Blocks are smaller where there are few of them, so that every thread has some.
static inline long g_side(long size, long unit, long most, long others, long threads) {
  long side = (size + unit - 1) / unit * unit < most ? (size + unit - 1) / unit * unit : most;
  while (threads > 1 && side > 2 * unit && ((size + side - 1) / side) * others < 2 * threads)
    side = (side / 2 + unit - 1) / unit * unit;
  return side < unit ? unit : side;
}
"""


class Operand:
    """Where a tensor or view of a sketch lies: base, dims, strides and offset as texts."""

    def __init__(self, sketch: Sketch, name: str) -> None:
        view = next((view for view in sketch.views if view.name == name), None)
        self.base = view.base if view is not None else name
        if view is not None:
            self.dims, self.strides, self.offset = list(view.dims), list(view.strides), view.offset
            return
        self.dims, self.offset = list(sketch.tensor(name).dims), "0"
        self.strides = ["1"] * len(self.dims)
        for d in range(len(self.dims) - 2, -1, -1):
            self.strides[d] = times(self.strides[d + 1], self.dims[d + 1])

    @property
    def rank(self) -> int:
        """Number of dims."""
        return len(self.dims)

    def follows(self, outer: int) -> bool:
        """Return whether dim `outer` and the next can be crossed as one."""
        return self.strides[outer] == times(self.strides[outer + 1], self.dims[outer + 1])


def times(*sizes: str) -> str:
    """Return the product of sizes as text."""
    known, rest = 1, []
    for size in sizes:
        if size.isdigit():
            known *= int(size)
        else:
            rest.append(f"({size})")
    return "*".join([*rest, str(known)] if known != 1 or not rest else rest)


def own_helpers(call: Call) -> list[str]:
    """Return the texts that a call's function needs before it, each once per kernel."""
    convolves = json.loads(call.spec)["own"]["form"] == "convolution"
    return [GEMM, CONVOLUTION] if convolves else [GEMM]


def gemm_function(name: str, sketch: Sketch, call: Call) -> tuple[str, list[str], list[str]]:
    """Return the function of a product or convolution, its tensors and its sizes.

    Parameters
    ----------
    name : str
    sketch : Sketch
    call : Call
        ``own.gemm`` or ``own.convolution``, see :mod:`mlpapers.kernels.synthesis.own`.

    Returns
    -------
    text : str
    tensors, sizes : list of str
    """
    spec = json.loads(call.spec)["own"]
    operands = [Operand(sketch, arg) for arg in call.args]
    write = convolution_body if spec["form"] == "convolution" else _product
    body, sizes = write(spec, operands)
    tensors = [*(operand.base for operand in operands), *call.dst]
    parameters = [f"const float* p{k}" for k in range(len(operands))] + ["float* __restrict y"]
    parameters += [f"long e{k}" for k in range(len(sizes))] + ["int threads"]
    return f'extern "C" void {name}({", ".join(parameters)}) {{\n{body}\n}}', tensors, sizes


def _product(spec: dict[str, Any], operands: Sequence[Operand]) -> tuple[str, list[str]]:
    """Return the body of a batched product: A (batch, M, K), B (batch, K, N), start (batch, M, N) if any."""
    sizes: list[str] = []

    def size(text: str) -> str:
        sizes.append(text)
        return f"e{len(sizes) - 1}"

    batches, m, n, k = (size(text) for text in spec["sizes"])
    matrices = []
    for slot, (operand, strides) in enumerate(zip(operands, spec["strides"])):
        sb, first, second = (size(text) for text in strides)
        matrices.append((f"p{slot} + {size(operand.offset)} + batch * {sb}", first, second))
    (a, am, ak), (b, bk, bn) = matrices[:2]
    start, tm, tn = matrices[2] if len(matrices) > 2 else ("nullptr", "0", "0")
    setup = f"const g_rows a = {{{a}, {am}, {ak}, high}}; const g_columns b = {{{b}, {bk}, {bn}}};"
    block = (
        f"g_block(a, b, y + batch * {m} * {n}, {n}, {start}, {tm}, {tn}, {float(spec['alpha'])!r}f, "
        f"{float(spec['beta'])!r}f, m0, mb, n0, nb, {k}, pa, pb);"
    )
    return _loop(batches, m, n, k, setup, block), sizes


def _loop(batches: str, m: str, n: str, k: str, setup: str, block: str) -> str:
    """Return the loop over blocks of all products, each one thread's from start to end."""
    return f"""\
  const long high = g_height({m}), others = {batches} * (({n} + G_NB - 1) / G_NB);
  const long gm = g_side({m}, high, high * G_PANELS, others, threads);
  const long gn = g_side({n}, G_NR, G_NB, {batches} * (({m} + gm - 1) / gm), threads);
  const long ms = ({m} + gm - 1) / gm, ns = ({n} + gn - 1) / gn;
  #pragma omp parallel num_threads(threads) if((double){batches} * {m} * {n} * {k} > 65536.0)
  {{
    float* pa = (float*)aligned_alloc(64, ((gm + high) * G_KC * 4 + 63) / 64 * 64);
    float* pb = (float*)aligned_alloc(64, (gn + G_NR) * G_KC * 4);
    #pragma omp for schedule(dynamic)
    for (long task = 0; task < {batches} * ms * ns; ++task) {{
      const long batch = task / (ms * ns), m0 = task / ns % ms * gm, n0 = task % ns * gn;
      const long mb = m_min(gm, {m} - m0), nb = m_min(gn, {n} - n0);
      {setup}
      {block}
    }}
    free(pa);
    free(pb);
  }}"""
