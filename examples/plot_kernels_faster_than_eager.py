"""
A kernel faster than eager, with its proof
==========================================

PyTorch computes a formula operator by operator, and reads and writes memory for each. A kernel that makes one
pass is several times as fast. Here one is written by rules, without a language model, and it comes with what
makes a speed-up believable: a comparison with float64, an interval, and a list of what must be disclosed.
"""

# %%
# A task
# ------
# A task is a module, what its constructor takes, and how inputs are drawn. This is the tanh form of GELU,
# written out: eight operators, eight passes over memory.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from mlpapers.kernels import KernelAgent, Task, capture, design, verify

task = Task.from_source(
    """
import torch
import torch.nn as nn

rows, columns = 1024, 1024


class Model(nn.Module):
    def forward(self, x):
        inner = 0.7978845608 * (x + 0.044715 * torch.pow(x, 3.0))
        return 0.5 * x * (1.0 + torch.tanh(inner))


def get_inputs():
    return [torch.randn(rows, columns)]
""",
    "gelu_tanh",
)

# %%
# What the designer sees
# ----------------------
# The graph, with the least traffic that any kernel needs; and the sketch, which belongs to no language and
# can be interpreted before there is any code.
graph = capture(task)
print(f"{len(graph.nodes)} nodes, at least {graph.bytes_min / 2**20:.1f} MiB, {graph.flops / 1e6:.0f} MFLOP")
sketch = design(task)
print(sketch.to_text())

# %%
# A kernel
# --------
folder = Path(tempfile.mkdtemp())
agent = KernelAgent(n_candidates=6, time_budget=15, store=folder / "runs.sqlite", random_state=0)
result = agent.generate(task)
print(result)

# %%
# Who did what, and why:
for step in result.trace:
    print(f"{step.agent:>8}: {step.event:<8} -> {step.next}")

fig, ax = plt.subplots()
result.plot(ax)
plt.show()

# %%
# The proof
# ---------
# The verifier drew inputs from seeds that the kernel does not know, at other sizes and with other values, and
# compared with PyTorch and with float64. A ratio below 1 says that the kernel is nearer to float64 than
# PyTorch.
report = result.report
print("trials:", ", ".join(report.trials))
print(f"error against float64, in units of PyTorch's own: {report.err_ratio_to_eager:.2f}")
print("hacks:", report.hacks or "none", "- disclosed:", result.disclosures or "nothing")

# %%
# The same verifier judges anybody's kernel. This one is very fast: it remembers its answers by address.
cheat = """
import torch
from torch import nn

seen = {}


class ModelNew(nn.Module):
    def forward(self, x):
        if x.data_ptr() not in seen:
            inner = 0.7978845608 * (x + 0.044715 * x * x * x)
            seen[x.data_ptr()] = (x, 0.5 * x * (1.0 + inner.tanh()))
        return seen[x.data_ptr()][1].clone()
"""
print(verify(task, cheat, dsl="cpp", library_ops="any", timing=False, random_state=0))

# %%
# This one drops the third digit, and hopes that nobody looks.
rough = """
import torch
from torch import nn


class ModelNew(nn.Module):
    def forward(self, x):
        y = x.bfloat16()
        inner = 0.7978845608 * (y + 0.044715 * y * y * y)
        return (0.5 * y * (1.0 + inner.tanh())).float()
"""
print(verify(task, rough, dsl="cpp", library_ops="any", timing=False, random_state=0))

# %%
# To take away
# ------------
# The saved source says on top where it comes from and what was measured. It needs torch and a compiler, and
# not this library.
path = result.save(folder / "gelu_kernel.py")
print(f"{path.name}: {len(path.read_text().splitlines())} lines")
print(result.provenance())

# %%
# It is a module like any other.
module, (x,) = task.build(0)
kernel = result.kernel.load()()
print("largest difference:", float((kernel(x) - module(x)).abs().max()))
print("at another size:   ", float((kernel(x[:7]) - module(x[:7])).abs().max()))
assert torch.allclose(kernel(x), module(x), atol=1e-5)
