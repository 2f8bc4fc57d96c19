# ruff: noqa: D101, D102, F821, INP001
# mypy: ignore-errors
"""GELU in one pass over memory.

ops: gelu, mul, tanh
category: elementwise
shapes: (8192, 8192)
backends: cuda
"""

import torch

_FLAGS = ("--std=c++17",)
_CUDA = r"""
extern "C" __global__ void __launch_bounds__(256)
gelu(const float* __restrict__ x, float* __restrict__ y, long long n) {
  const long long base = blockIdx.x * 1024ll;
  #pragma unroll 4
  for (int u = threadIdx.x; u < 1024; u += 256) {
    if (base + u >= n) break;
    const float v = x[base + u];
    y[base + u] = v * 0.5f * (1.0f + tanhf(0.7978845608f * (v + 0.044715f * v * v * v)));
  }
}
"""


class ModelNew(torch.nn.Module):
    @torch.no_grad()
    def forward(self, x):
        x = x.contiguous()
        y = torch.empty_like(x)
        _run(_CUDA, _FLAGS, "gelu", (x.numel() + 1023) // 1024, 256, x, y, x.numel())
        return y
