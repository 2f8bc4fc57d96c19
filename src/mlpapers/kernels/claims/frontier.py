"""Claims about the paper's motivation: quantised, sparse and gated operators."""

from __future__ import annotations

import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.claims._timing import load_module, measure
from mlpapers.kernels.claims.speed import vector_flags
from mlpapers.kernels.papers import AKG_KERNEL_AGENT as PAPER
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.task import Task
from mlpapers.kernels.verify.oracle import compare

_HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\nn_out, n_in = 4096, 2048\n"


def frontier_tasks() -> list[Task]:
    """Return the three tasks: int8 weights, 2:4 sparsity by a mask, top-2 gating."""
    quantised = (
        "self.register_buffer('weight', torch.randint(-127, 128, (n_out, n_in), dtype=torch.int8))\n"
        "self.register_buffer('scale', torch.rand(n_out, 1) / 127)"
    )
    masked = (
        "self.weight = nn.Parameter(torch.randn(n_out, n_in) / n_in ** 0.5)\n"
        "order = torch.rand(n_out, n_in // 4, 4).argsort(-1)\n"
        "self.register_buffer('mask', (order < 2).reshape(n_out, n_in))"
    )
    gating = (
        "p = torch.softmax(x, dim=-1)\n"
        "first = p.amax(-1, keepdim=True)\n"
        "second = torch.where(p >= first, torch.zeros_like(p), p).amax(-1, keepdim=True)\n"
        "gate = torch.where(p >= second, p, torch.zeros_like(p))\n"
        "return gate / gate.sum(-1, keepdim=True)"
    )
    rows = ("torch.randn(16, n_in)",)
    return [
        make_task(
            "int8_linear", quantised, "return F.linear(x, self.weight.float() * self.scale)", rows, _HEAD
        ),
        make_task("masked_linear", masked, "return F.linear(x, self.weight * self.mask)", rows, _HEAD),
        make_task("top2_gating", "", gating, ("torch.randn(16384, 256)",), _HEAD),
    ]


def is_right(task: Task, seed: int) -> bool:
    """Whether the first design's kernel passes the rule against eager and float64."""
    import torch

    module, inputs = task.build(seed)
    ours = load_module(candidate(synthesise(task)[0]).code, task, module)
    with torch.no_grad():
        out, eager = ours(*inputs), module(*inputs)
        oracle = module.double()(*[x.double() for x in inputs])
    return compare([eager], [oracle], [out]).ok


@PAPER.claim(
    "k9",
    "Operators that models move to get kernels too: int8 weights, 2:4 sparse weights and top-2 gating are "
    "right, and at least two of the three are as fast as eager.",
    source="introduction (sparsity, quantization, new hardware)",
    requires=("cxx",),
    timed=True,
)
def frontier_operators(scale: Scale, seed: int) -> Evidence:
    tasks = frontier_tasks()
    right = [is_right(task, seed) for task in tasks]
    rows = [measure(task, 21 if scale == "full" else 9, seed=seed) for task in tasks]
    table = pd.DataFrame(rows).assign(right=right)
    return Evidence(
        measurements=[
            Measurement("right kernels of three", sum(right), ">=", 3),
            Measurement("kernels at least as fast as eager", int((table["speedup"] >= 1).sum()), ">=", 2),
        ],
        table=table,
        notes=vector_flags(),
    )
