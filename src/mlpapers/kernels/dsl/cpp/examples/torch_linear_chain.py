# ruff: noqa: INP001
"""A product by the library, and one pass over its fresh result for all that follows.

ops: linear, addmm, sigmoid, mul, sub
category: fused
shapes: (1024, 1024)
backends: cpu
"""

import torch

_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
_CPP = r"""
extern "C" float expf(float) noexcept;

extern "C" void kernel_0(float* __restrict y, long n, int threads) {
  #pragma omp parallel for simd schedule(static) num_threads(threads) if(n > 16384)
  for (long i = 0; i < n; ++i) y[i] = 1.0f / (1.0f + expf(1.0f - 0.5f * y[i]));
}
"""


class ModelNew(torch.nn.Module):
    """sigmoid(linear(x) / 2 - 1) with the parameters of ``self.linear``."""

    def __init__(self, inside, outside):
        super().__init__()
        self.linear = torch.nn.Linear(inside, outside)

    @torch.no_grad()
    def forward(self, x):
        """Return the chain; the product is left to the library."""
        y = torch.ops.aten.linear(x, self.linear.weight, self.linear.bias).contiguous()
        _call(_CPP, _FLAGS, "kernel_0", y, y.numel())  # noqa: F821
        return y
