"""What tests of kernels share: small tasks, and a language whose kernels are plain Python."""

from pathlib import Path

from mlpapers.kernels.dsl import DSL, register_dsl
from mlpapers.kernels.task import Task


class Plain(DSL):
    """Kernels are Python with numpy: nothing is compiled, so the verifier itself is what is tested."""

    name = "plain"
    backends = ("cpu",)
    docs = Path()
    modules = ("numpy", "ctypes", "threading", "time", "os", "socket", "subprocess", "random", "sys")

    def render(self, sketch, params, backend):
        raise NotImplementedError

    def space(self, sketch, backend):
        return {}

    def defaults(self, sketch, backend):
        return {}

    def check(self, code):
        return []

    def build(self, code, workdir, backend):
        return Path(workdir)

    def environment(self, backend):
        return {}

    def available(self, backend):
        return False, "it cannot write kernels"


register_dsl("plain", Plain)

HEAD = """
import numpy as np
import torch
from torch import nn
"""

RELU = Task.from_source(
    HEAD
    + """
n = 48
class Model(nn.Module):
    def forward(self, x):
        return torch.relu(x)
def get_inputs():
    return [torch.rand(n, 50)]
""",
    "relu",
)

MATMUL = Task.from_source(
    HEAD
    + """
n = 64
class Model(nn.Module):
    def forward(self, a, b):
        return a @ b
def get_inputs():
    return [torch.rand(n, 96), torch.rand(96, 40)]
""",
    "matmul",
)

SCALE = Task.from_source(
    HEAD
    + """
class Model(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
    def forward(self, x):
        return x * self.weight
def get_inputs():
    return [torch.randn(24, 30)]
def get_init_inputs():
    return [30]
""",
    "scale",
)

BATCH_NORM = Task.from_source(
    HEAD
    + """
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
    def forward(self, x):
        return self.norm(x)
def get_inputs():
    return [torch.randn(32, 6)]
""",
    "batch_norm",
)


def model(body, *, init="", before=""):
    """Return the text of a candidate with this body of ``forward(self, x)``."""
    lines = [f"        {line}" for line in body.strip("\n").splitlines()]
    constructor = []
    if init:
        constructor = ["    def __init__(self, *args):", "        super().__init__()"]
        constructor += [f"        {line}" for line in init.strip("\n").splitlines()]
    return "\n".join(
        [
            HEAD,
            before,
            "class ModelNew(nn.Module):",
            *constructor,
            "    def forward(self, *inputs):",
            "        x = inputs[0]",
            *lines,
            "",
        ]
    )
