"""C++ text of convolutions of our own, plain and transposed, in one to three dims.

Along each dim, output ``first + q * apart`` takes in, for every tap t, input ``q * every + off[t]``. A plain
convolution has ``apart = 1`` and ``every = stride``. A transposed one is a plain convolution with
``every = 1`` for each remainder of the output's position by the stride (``apart = stride``), with those taps
that meet an input there.

A thread copies the inputs of some output rows, padded, and parted by remainders of their positions by
``every``: then the inputs of one tap at consecutive outputs are consecutive numbers, which the kernel in
registers reads where they are, at the tap's distance from the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpapers.kernels.dsl.cpp.gemm import Operand

CONVOLUTION = r"""
static const long G_PATCH = 1 << 16, G_COLUMNS = 512, G_LINE = 2048;
// a[k * R + i] times the G_NR numbers from b[at[k]] on, added up over k.
template <int R>
static void g_taps(
    const float* __restrict a, const float* b, const long* at, long depth, float* __restrict out) {
  g_vec c[R][2] = {};
  #pragma GCC unroll 2
  for (long k = 0; k < depth; ++k) {
    const g_vec b0 = *(const g_any*)(b + at[k]), b1 = *(const g_any*)(b + at[k] + G_VL);
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
typedef void (*g_taps_of)(const float*, const float*, const long*, long, float*);
template <int R> static g_taps_of g_pick_taps(long rows) {
  if constexpr (R == 1) return g_taps<1>;
  else return rows == R ? g_taps<R> : g_pick_taps<R - 1>(rows);
}
// One dim: T bounds the number of taps. An input is at low + phase + (q + step) * every for a tap.
template <int T> struct g_dim {
  long in, out, count, first, apart, every, taps, low, phases, reach, tap[T], phase[T], step[T];
  long position(long q) const { return first + q * apart; }
};
template <int T>
static g_dim<T> g_dimension(
    long in, long out, long kernel, long stride, long pad, long dilation, bool transposed, long part) {
  g_dim<T> d = {};
  long off[T];
  d.in = in; d.out = out; d.phases = 1;
  d.first = part; d.apart = transposed ? stride : 1; d.every = transposed ? 1 : stride;
  d.count = out > part ? (out - part + d.apart - 1) / d.apart : 0;
  for (long k = 0; k < kernel; ++k) {
    const long at = transposed ? part + pad - k * dilation : k * dilation - pad;
    if (transposed && at % stride) continue;
    off[d.taps] = transposed ? at / stride : at;
    d.tap[d.taps++] = k;
  }
  for (long t = 0; t < d.taps; ++t) d.low = t == 0 || off[t] < d.low ? off[t] : d.low;
  for (long t = 0; t < d.taps; ++t) {
    d.phase[t] = (off[t] - d.low) % d.every;
    d.step[t] = (off[t] - d.low) / d.every;
    if (d.phase[t] >= d.phases) d.phases = d.phase[t] + 1;
    if (d.step[t] > d.reach) d.reach = d.step[t];
  }
  return d;
}
// Inputs of some channels for a block of outputs, as [channel][tap of dim 0][phase 1][phase 2][row][column].
template <int T>
static void g_patch(
    const float* x, const g_dim<T>* d, long plane, long row, long column, long channels, long rows,
    long width, float* to) {
  for (long c = 0; c < channels; ++c) for (long t = 0; t < d[0].taps; ++t) {
    const long at0 = (plane + d[0].step[t]) * d[0].every + d[0].low + d[0].phase[t];
    for (long f = 0; f < d[1].phases; ++f) for (long g = 0; g < d[2].phases; ++g)
      for (long r = 0; r < rows; ++r, to += width) {
        const long at1 = (row + r) * d[1].every + d[1].low + f;
        const bool outside = at0 < 0 || at0 >= d[0].in || at1 < 0 || at1 >= d[1].in;
        const float* line = x + ((c * d[0].in + at0) * d[1].in + at1) * d[2].in;
        const long gap = d[2].every, at2 = column * gap + d[2].low + g;
        long low = at2 < 0 ? (-at2 + gap - 1) / gap : 0, high = (d[2].in - at2 + gap - 1) / gap;
        low = outside ? width : m_min(low, width);
        high = d[2].in <= at2 ? low : m_min(high, width);
        for (long j = 0; j < low; ++j) to[j] = 0;
        if (gap == 1) for (long j = low; j < high; ++j) to[j] = line[at2 + j];
        else for (long j = low; j < high; ++j) to[j] = line[at2 + j * gap];
        for (long j = high < low ? low : high; j < width; ++j) to[j] = 0;
      }
  }
}
struct g_shape {
  long images, groups, channels, rows, in[3], out[3], kernel[3], stride[3], pad[3], dilation[3];
  bool transposed;
};
// Outputs whose remainders by the stride are `part` (all of them where the convolution is not transposed).
template <int T>
static void g_part(
    const g_shape& s, const long* part, const float* x, const float* w, const float* bias, float* y,
    int threads) {
  g_dim<T> d[3];
  for (int k = 0; k < 3; ++k)
    d[k] = g_dimension<T>(
        s.in[k], s.out[k], s.kernel[k], s.stride[k], s.pad[k], s.dilation[k], s.transposed, part[k]);
  const long taps = d[0].taps * d[1].taps * d[2].taps, all = s.kernel[0] * s.kernel[1] * s.kernel[2];
  const long wm = s.transposed ? all : s.channels * all, wc = s.transposed ? s.rows * all : all;
  const long mr = g_height(s.rows), panels = (s.rows + mr - 1) / mr, deep = s.channels * taps;
  long few = taps ? G_KC / taps : s.channels;
  few = few < 1 ? 1 : m_min(few, s.channels);
  const long columns = m_min(d[2].count, G_LINE), width = columns + d[2].reach;
  const long layers = few * d[0].taps * d[1].phases * d[2].phases;
  long rows = m_min(d[1].count, (G_COLUMNS + width - 1) / width);
  while (rows > 1 && layers * (rows + d[1].reach) * width > G_PATCH) rows = (rows + 1) / 2;
  const long across = columns ? (d[2].count + columns - 1) / columns : 0;
  const long others = s.images * s.groups * d[0].count * across;
  while (threads > 1 && rows > 1 && others * ((d[1].count + rows - 1) / rows) < 2 * threads)
    rows = (rows + 1) / 2;
  const long down = rows ? (d[1].count + rows - 1) / rows : 0, tasks = others * down;
  const long plane = s.out[0] * s.out[1] * s.out[2];
  if (!tasks) return;
  float* packed = (float*)aligned_alloc(64, (s.groups * panels * deep * mr + 16) * 4 / 64 * 64 + 64);
  #pragma omp parallel num_threads(threads) if((double)tasks * rows * columns * s.rows * deep > 65536.0)
  {
    #pragma omp for schedule(static)
    for (long p = 0; p < s.groups * panels; ++p) {
      const long group = p / panels, m0 = p % panels * mr, high = m_min(mr, s.rows - m0);
      float* to = packed + p * deep * mr;
      for (long c = 0; c < s.channels; ++c) for (long t0 = 0; t0 < d[0].taps; ++t0)
        for (long t1 = 0; t1 < d[1].taps; ++t1) for (long t2 = 0; t2 < d[2].taps; ++t2, to += mr) {
          const long tap = (d[0].tap[t0] * s.kernel[1] + d[1].tap[t1]) * s.kernel[2] + d[2].tap[t2];
          const float* q = w + group * s.rows * s.channels * all + m0 * wm + c * wc + tap;
          for (long i = 0; i < mr; ++i) to[i] = i < high ? q[i * wm] : 0;
        }
    }
    const long span = rows + d[1].reach, size = layers * span * width + width + G_NR;
    float* patch = (float*)aligned_alloc(64, (size * 4 + 63) / 64 * 64);
    long* at = (long*)aligned_alloc(64, (few * taps * 8 + 63) / 64 * 64 + 64);
    for (long j = 0; j < size; ++j) patch[j] = 0;
    long k = 0;
    for (long c = 0; c < few; ++c) for (long t0 = 0; t0 < d[0].taps; ++t0)
      for (long t1 = 0; t1 < d[1].taps; ++t1) for (long t2 = 0; t2 < d[2].taps; ++t2) {
        const long layer = (c * d[0].taps + t0) * d[1].phases + d[1].phase[t1];
        at[k++] = ((layer * d[2].phases + d[2].phase[t2]) * span + d[1].step[t1]) * width + d[2].step[t2];
      }
    alignas(64) float tile[G_MR * G_NR];
    const g_taps_of kernel = g_pick_taps<G_MR>(mr);
    #pragma omp for schedule(dynamic)
    for (long task = 0; task < tasks; ++task) {
      const long column = task % across * columns, row = task / across % down * rows;
      const long q0 = task / across / down % d[0].count, unit = task / across / down / d[0].count;
      const long group = unit % s.groups, wide = m_min(columns, d[2].count - column);
      const long end = (m_min(rows, d[1].count - row) - 1) * width + wide, apart = d[2].apart;
      const float* image = x + unit * s.channels * s.in[0] * s.in[1] * s.in[2];
      for (long c0 = 0; c0 < s.channels; c0 += few) {
        const long channels = m_min(few, s.channels - c0);
        g_patch(
            image + c0 * s.in[0] * s.in[1] * s.in[2], d, q0, row, column, channels, span, width, patch);
        for (long v = 0; v < end; v += G_NR) {
          // Where the numbers of the tile belong: runs (start in the tile, length, place of the output).
          long run[G_NR][3], runs = 0;
          for (long j = v; j < v + G_NR && j < end;) {
            const long r = j / width, c = j % width;
            if (c >= wide) { j += width - c; continue; }
            const long n = m_min(wide - c, m_min(v + G_NR, end) - j);
            run[runs][0] = j - v; run[runs][1] = n;
            run[runs++][2] = (d[0].position(q0) * d[1].out + d[1].position(row + r)) * d[2].out
                + d[2].position(column + c);
            j += n;
          }
          for (long p = 0; p < panels; ++p) {
            const float* panel = packed + ((group * panels + p) * deep + c0 * taps) * mr;
            kernel(panel, patch + v, at, channels * taps, tile);
            for (long i = 0; i < m_min(mr, s.rows - p * mr); ++i) {
              const long m = p * mr + i;
              const float start = bias && !c0 ? bias[group * s.rows + m] : 0;
              for (long k = 0; k < runs; ++k) {
                const float* t = tile + i * G_NR + run[k][0];
                float* q = y + (unit * s.rows + m) * plane + run[k][2];
                const long n = run[k][1];
                if (c0) for (long j = 0; j < n; ++j) q[j * apart] += t[j];
                else if (n == G_NR && apart == 1) for (long j = 0; j < G_NR; ++j) q[j] = t[j] + start;
                else if (apart == 1) for (long j = 0; j < n; ++j) q[j] = t[j] + start;
                else for (long j = 0; j < n; ++j) q[j * apart] = t[j] + start;
              }
            }
          }
        }
      }
    }
    free(patch);
    free(at);
  }
  free(packed);
}
template <int T>
static void g_convolve(
    const g_shape& s, const float* x, const float* w, const float* bias, float* y, int threads) {
  long parts = 1;
  if (s.transposed) for (int k = 0; k < 3; ++k) parts *= s.stride[k];
  for (long p = 0; p < parts; ++p) {
    const long part[3] = {p / s.stride[2] / s.stride[1], p / s.stride[2] % s.stride[1], p % s.stride[2]};
    g_part<T>(s, part, x, w, bias, y, threads);
  }
}
"""


def convolution_body(spec: dict[str, Any], operands: Sequence[Operand]) -> tuple[str, list[str]]:
    """Return the body of a convolution's function and the sizes that it takes.

    Parameters
    ----------
    spec : dict
        The plan of :mod:`mlpapers.kernels.synthesis.own`.
    operands : sequence of Operand
        Input, weight and, where there is one, bias.

    Returns
    -------
    body : str
    sizes : list of str
    """
    sizes: list[str] = []

    def size(text: str) -> str:
        sizes.append(text)
        return f"e{len(sizes) - 1}"

    images, _, *inside = (size(text) for text in spec["input"])
    outs = [size(text) for text in spec["output"][2:]]

    def three(values: Sequence[Any], fill: int) -> str:
        return "{" + ", ".join(map(str, [*[fill] * (3 - len(values)), *values])) + "}"

    at = [f"p{slot} + {size(operand.offset)}" for slot, operand in enumerate(operands)]
    shape = [
        images, spec["groups"], spec["channels"], spec["rows"], three(inside, 1), three(outs, 1),
        three(spec["kernel"], 1), three(spec["stride"], 1), three(spec["padding"], 0),
        three(spec["dilation"], 1), str(bool(spec["transposed"])).lower(),
    ]  # fmt: skip
    bias = at[2] if len(at) > 2 else "nullptr"
    body = (
        f"  const g_shape s = {{{', '.join(map(str, shape))}}};\n"
        f"  g_convolve<{max(spec['kernel'])}>(s, {at[0]}, {at[1]}, {bias}, y, threads);"
    )
    return body, sizes
