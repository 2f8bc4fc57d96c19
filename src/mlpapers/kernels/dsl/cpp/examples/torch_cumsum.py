# ruff: noqa: INP001
"""A running sum along rows: rows in parallel, the carry in double.

ops: cumsum
category: scan
shapes: (4096, 4096)
backends: cpu
"""

import torch

_FLAGS = ("-O3", "-march=native", "-fopenmp")
_CPP = r"""
extern "C" void kernel_0(const float* __restrict x, float* __restrict y, long rows, long n, int threads) {
  #pragma omp parallel for schedule(static) num_threads(threads) if(rows * n > 16384)
  for (long i = 0; i < rows; ++i) {
    double carry = 0;
    for (long j = 0; j < n; ++j) {
      carry += x[i * n + j];
      y[i * n + j] = (float)carry;
    }
  }
}
"""


class ModelNew(torch.nn.Module):
    """Cumulative sum over the last dim."""

    def forward(self, x):
        """Return the running sums of the rows."""
        x = _dense(x, "f32")  # noqa: F821
        y = _fresh(x.shape, "f32")  # noqa: F821
        n = x.shape[-1]
        _call(_CPP, _FLAGS, "kernel_0", x, y, x.numel() // max(n, 1), n)  # noqa: F821
        return y
