# ruff: noqa: INP001
"""The smallest kernel in this form; ``_dense``, ``_fresh`` and ``_call`` come from the loader.

ops: relu
category: elementwise
shapes: (4096, 4096)
backends: cpu
"""

import torch

_FLAGS = ("-O3", "-march=native", "-fopenmp")
_CPP = r"""
extern "C" void kernel_0(const float* __restrict x, float* __restrict y, long n, int threads) {
  #pragma omp parallel for simd schedule(static) num_threads(threads) if(n > 16384)
  for (long i = 0; i < n; ++i) y[i] = x[i] > 0 || x[i] != x[i] ? x[i] : 0;
}
"""


class ModelNew(torch.nn.Module):
    """Rectified linear unit."""

    def forward(self, x):
        """Return max(x, 0); nan stays nan."""
        x = _dense(x, "f32")  # noqa: F821
        y = _fresh(x.shape, "f32")  # noqa: F821
        _call(_CPP, _FLAGS, "kernel_0", x, y, x.numel())  # noqa: F821
        return y
