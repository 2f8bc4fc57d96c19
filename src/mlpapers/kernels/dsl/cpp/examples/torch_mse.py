# ruff: noqa: INP001
"""Mean squared error: a whole reduction, chunks in parallel, partial sums merged in double.

ops: sub, pow, square, mean, mse_loss
category: loss
shapes: (4096, 4096), (4096, 4096)
backends: cpu
"""

import torch

_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math")
_CPP = r"""
extern "C" void kernel_0(const float* __restrict a, const float* __restrict b, float* __restrict out, long n,
                         int threads) {
  double total = 0;
  #pragma omp parallel for schedule(static) reduction(+:total) num_threads(threads) if(n > 16384)
  for (long block = 0; block < n; block += 4096) {
    const long end = block + 4096 < n ? block + 4096 : n;
    float part = 0;
    #pragma omp simd reduction(+:part)
    for (long i = block; i < end; ++i) part += (a[i] - b[i]) * (a[i] - b[i]);
    total += part;
  }
  out[0] = (float)(total / (double)n);
}
"""


class ModelNew(torch.nn.Module):
    """Mean of squared differences."""

    def forward(self, a, b):
        """Return mean((a - b)^2) for inputs of one shape."""
        a = _dense(a, "f32")  # noqa: F821
        b = _dense(b, "f32")  # noqa: F821
        out = _fresh((), "f32")  # noqa: F821
        _call(_CPP, _FLAGS, "kernel_0", a, b, out, a.numel())  # noqa: F821
        return out
