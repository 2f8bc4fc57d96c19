"""
A proven kernel for Selective Self-Attention
============================================

Selective Self-Attention gives each token a temperature and folds it into the queries, in front of attention's
fused kernel. The fold is a formula of ten operators, each of which reads and writes memory. The kernel agent
makes one kernel of them, compares it with float64, and hands it back to the attention.
"""

# %%
# The formula, as a task
# ----------------------
# The temperature of a token is what it says, :math:`\tanh\langle w, \mathrm{GELU}(x)\rangle`, plus what its
# place says, :math:`1 + \sigma(\alpha) \log n`; its query is multiplied by it.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from mlpapers.attention import TemperatureModule, selective_attention
from mlpapers.kernels import KernelAgent, Task, capture, design

task = Task.from_source(
    """
import torch
import torch.nn as nn
import torch.nn.functional as F

batch, heads, tokens, width = 2, 8, 1024, 64


class Model(nn.Module):
    def __init__(self, heads, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(heads, 1, width) / width**0.5)
        self.alpha = nn.Parameter(torch.randn(heads, 1))

    def forward(self, x, n):
        content = torch.tanh((F.gelu(x) * self.weight).sum(-1))
        position = 1.0 + torch.sigmoid(self.alpha) * torch.log(n)
        return x * (content + position).unsqueeze(-1)


def get_inputs():
    return [torch.randn(batch, heads, tokens, width), torch.arange(1.0, tokens + 1.0)]


def get_init_inputs():
    return [heads, width]
""",
    "temperature_fold",
)
graph = capture(task)
print(f"{len(graph.nodes)} nodes, at least {graph.bytes_min / 2**20:.1f} MiB of traffic")
print(design(task).to_text())

# %%
# A kernel, with its proof
# ------------------------
folder = Path(tempfile.mkdtemp())
agent = KernelAgent(
    shape_policy="dynamic", n_candidates=4, time_budget=8, store=folder / "runs.sqlite", random_state=0
)
result = agent.generate(task)
print(result)
print("trials:", ", ".join(result.report.trials))
print(f"error against float64, in units of PyTorch's own: {result.report.err_ratio_to_eager:.2f}")
assert result.success

# %%
# In the attention
# ----------------
# The library's own module with the same weights gives the same temperatures, and attention over the kernel's
# queries is selective attention.
heads, tokens, width = 8, 512, 64
temperature = TemperatureModule(heads, width, position="sigmoid")
fold = result.kernel.load()(heads, width)
generator = torch.Generator().manual_seed(1)
with torch.no_grad():
    temperature.weight.normal_(0.0, width**-0.5, generator=generator)
    temperature.alpha.normal_(generator=generator)
    fold.weight.copy_(temperature.weight[:, None, :])
    fold.alpha.copy_(temperature.alpha[:, None])

query, key, value = torch.randn(3, 1, heads, tokens, width, generator=generator)
n = torch.arange(1.0, tokens + 1.0)
with torch.no_grad():
    tau = temperature(query, n)
    selective = selective_attention(query, key, value, q_temperature=tau, is_causal=True)
    with_kernel = torch.nn.functional.scaled_dot_product_attention(fold(query, n), key, value, is_causal=True)
print("largest difference:", float((selective - with_kernel).abs().max()))
assert torch.allclose(selective, with_kernel, atol=1e-5)

# %%
# The temperatures that the kernel multiplies by: each head looks sharper with more keys, at its own pace, and
# tokens differ around it.
fig, ax = plt.subplots()
for head in range(3):
    ax.plot(
        n,
        tau[0, head],
        lw=0.7,
        label=f"head {head}, sigmoid(alpha) = {temperature.alpha[head].sigmoid():.2f}",
    )
ax.set(xlabel="keys that the token sees", ylabel="inverse temperature")
ax.legend()
plt.show()
