"""
From PyTorch to Triton and CUDA
===============================

One PyTorch module becomes one sketch, and the sketch becomes source in four languages. The C++ kernel runs
here; the Triton kernel runs in Triton's interpreter, and the CUDA kernel is emulated on the processor, so
that all of them can be compared with PyTorch on a machine without a GPU.
"""

# %%
# A task
# ------
# Root-mean-square normalisation with a gate, in KernelBench's format.

import importlib.util
import shutil
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from mlpapers.kernels import KernelAgent, Task, capture, migrate
from mlpapers.kernels.dsl.cuda.emulate import emulated
from mlpapers.kernels.verify.settings import Settings

task = Task.from_source(
    """
import torch

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.rand(200))

    def forward(self, x, gate):
        x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)
        return x * self.scale * torch.sigmoid(gate)

def get_inputs():
    return [torch.randn(6, 200), torch.randn(6, 200)]
""",
    "gated_norm",
)
graph = capture(task)
print(graph.ops)

# %%
# C++, verified
# -------------
# The agent captures the graph, writes a sketch and renders it. Its verifier compares with float64 on inputs
# that the kernel has never seen. Without a C++ compiler there is nothing to run, and this page says so.

kernel = None
if shutil.which("g++"):
    result = KernelAgent(dsl="cpp", backend="cpu", search="none", n_correct=2, time_budget=1e-6,
                         store=":memory:", random_state=0).generate(task)  # fmt: skip
    kernel = result.kernel
    print("right:", result.success, "| largest relative error:", f"{result.report.max_rel_err:.1e}")
    print(kernel.sketch.partition("\nhost |")[0].partition("template ")[2])
else:
    print("no C++ compiler: the kernel is rendered, not run")

# %%
# Triton
# ------
# The same sketch as blocks with masks. In the interpreter its values count, its time does not:
# ``timing_mode`` is "interpreted" and the speed-up is nan.

start = kernel if kernel is not None else "class ModelNew: pass"
if importlib.util.find_spec("triton") is None:
    print("Triton is not installed: the source is rendered, not run")
triton = migrate(start, "triton", "cpu", task=task, settings=Settings(n_correct=1), random_state=0)
print("right:", triton.success, triton.timing_mode, triton.speedup)
print(triton.code.partition("# -- end of the loader\n")[2].partition("\n\n\nimport torch")[0].strip())

# %%
# CUDA C++
# --------
# Header-free text for NVRTC or nvcc. Where there is no GPU it is built, if there is a compiler, and the
# report says that it did not run.

cuda = migrate(start, "cuda", task=task, timing=False)
print(cuda.report.error or "right on this GPU")
function = 'extern "C" __global__' + cuda.code.partition('extern "C" __global__')[2].partition('"""')[0]
print(function.strip())

# %%
# What they compute
# -----------------
# All against PyTorch in float64. The CUDA kernel runs emulated, a thread of the processor per CUDA thread.

module, inputs = task.build(0)
exact = module.double()(*(x.double() for x in inputs)).detach().numpy()
module = module.float()
errors = {"PyTorch float32": module(*inputs).detach().numpy()}
if kernel is not None:
    ours = kernel.load()()
    ours.load_state_dict(module.state_dict())
    errors["C++"] = ours(*inputs).detach().numpy()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model = emulated(cuda.code, Path(folder))()
        model.load_state_dict(module.state_dict())
        errors["CUDA, emulated"] = model(*inputs).numpy()

fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for name, values in errors.items():
    gaps = np.sort(np.abs(values - exact).ravel() / np.abs(exact).max())
    axes[0].plot(gaps, np.linspace(0, 1, gaps.size), label=name)
axes[0].set(xscale="log", xlim=(1e-10, None), xlabel="error relative to the largest value",
            ylabel="share of elements")  # fmt: skip
axes[0].legend()
sources = {"sketch": kernel.sketch if kernel is not None else "", "Triton": triton.code, "CUDA": cuda.code}
tilelang = migrate(start, "tilelang", "cuda", task=task, timing=False)
sources["TileLang"] = tilelang.code
if kernel is not None:
    sources["C++"] = kernel.code
lengths = {name: len(text.partition("end of the loader")[2] or text) for name, text in sources.items()}
axes[1].barh(list(lengths), list(lengths.values()))
axes[1].set(xlabel="characters without the loader", title="One sketch, four languages")
plt.show()
