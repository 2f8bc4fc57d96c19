"""Claims about sketches that mean the same in every kernel language."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.claims._timing import load_module
from mlpapers.kernels.dsl.base import get_dsl, list_dsls
from mlpapers.kernels.dsl.cuda.emulate import emulated
from mlpapers.kernels.papers import AKG_KERNEL_AGENT as PAPER
from mlpapers.kernels.sketch import Sketch
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.task import Task

# One per template: name -> (constructor, forward, inputs).
_TEMPLATES = {
    "pointwise": ("", "return torch.tanh(x) * 2 + y", ("torch.randn(37, 65)", "torch.randn(65)")),
    "row": ("", "return torch.softmax(x, -1)", ("torch.randn(19, 130)",)),
    "column_row": (
        "",
        "return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)",
        ("torch.randn(3, 9, 70)",),
    ),
    "reduce": ("", "return x.sum(-1)", ("torch.randn(19, 130)",)),
    "column_reduce": ("", "return torch.max(x, 1)", ("torch.randn(3, 9, 70)",)),
    "whole_reduce": ("", "return torch.mean((x - y) ** 2)", ("torch.randn(99, 130)", "torch.randn(99, 130)")),
    "scan": ("", "return torch.cumsum(x, 1)", ("torch.randn(19, 130)",)),
    "window": ("", "return F.max_pool2d(x, 3, 2, 1)", ("torch.randn(2, 3, 17, 15)",)),
    "contraction": ("self.fc = nn.Linear(40, 24)", "return torch.relu(self.fc(x))", ("torch.randn(11, 40)",)),
}


# Beside C++. A language that somebody registered has its own authors to speak for it.
_OTHERS = ("cuda", "tilelang", "triton")

# In the quick run the CUDA text is emulated for these; compiling each takes a second or two.
_EMULATED = ("row",)


def disagreement(task: Task, seed: int, n_designs: int) -> float:
    """Return the largest |kernel - interpreter| over results and designs, in units of 1e-5 (1 + |value|)."""
    import torch

    worst = 0.0
    module, inputs = task.build(seed)
    for design in synthesise(task)[:n_designs]:
        wanted = design.sketch.interpret(inputs, module.state_dict())
        ours = load_module(candidate(design).code, task, module)
        with torch.no_grad():
            out = ours(*inputs)
        found = [out] if isinstance(out, torch.Tensor) else list(out)
        for a, b in zip(found, wanted):
            gap = np.abs(a.numpy().astype(float) - b.astype(float))
            worst = max(worst, float((gap / (1e-5 + 1e-5 * np.abs(b))).max()))
    return worst


def emulated_disagreement(task: Task, sketch: Sketch, seed: int) -> float:
    """Return the same of the CUDA kernel of a sketch, emulated on the processor."""
    import torch

    module, inputs = task.build(seed)
    code = get_dsl("cuda").render(sketch, {"THREADS": 32}, "cuda")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        ours = emulated(code, Path(folder))(*task.init_inputs())
        ours.load_state_dict(module.state_dict())
        out = ours(*inputs)
    found = [out] if isinstance(out, torch.Tensor) else list(out)
    worst = 0.0
    for a, b in zip(found, sketch.interpret(inputs, module.state_dict())):
        gap = np.abs(a.numpy().astype(float) - b.astype(float))
        worst = max(worst, float((gap / (1e-5 + 1e-5 * np.abs(b))).max()))
    return worst


@PAPER.claim(
    "k5",
    "A sketch has one meaning: for every template the kernel of each backend that is here gives the values "
    "that the sketch's own interpreter gives; a language or device that is not here is listed with its "
    "reason.",
    source="abstract (different backends, correct and portable)",
    requires=("cxx",),
)
def one_meaning(scale: Scale, seed: int) -> Evidence:
    languages = list_dsls()
    rows = []
    for name, (constructor, forward, inputs) in _TEMPLATES.items():
        head = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
        task = make_task(name, constructor, forward, inputs, head)
        sketch = synthesise(task)[0].sketch
        worst = disagreement(task, seed, 3 if scale == "full" else 1)
        rows.append(
            {"template": name, "language": "cpp", "backend": "cpu", "disagreement": worst, "reason": ""}
        )
        if scale == "full" or name in _EMULATED:
            rows.append({**rows[-1], "language": "cuda", "backend": "cpu, emulated",
                         "disagreement": emulated_disagreement(task, sketch, seed)})  # fmt: skip
        for _, other in languages[languages["name"].isin(_OTHERS)].iterrows():
            text = get_dsl(other["name"]).render(sketch, {}, other["backend"])
            said = f"rendered, {len(text)} characters"
            said += "" if other["available"] else f"; not run: {other['reason']}"
            rows.append({**rows[-1], "language": other["name"], "backend": other["backend"],
                         "disagreement": np.nan, "reason": said})  # fmt: skip
    table = pd.DataFrame(rows)
    return Evidence(
        measurements=[
            Measurement("templates", table["template"].replace("", np.nan).nunique(), ">=", 9),
            Measurement(
                "largest disagreement in units of 1e-5 (1 + |value|)", table["disagreement"].max(), "<=", 1.0
            ),
        ],
        table=table,
    )
