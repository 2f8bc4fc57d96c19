"""Claims about new kernel languages."""

from __future__ import annotations

import inspect

import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.kernels.claims import numpy_dsl
from mlpapers.kernels.claims._inputs import rule_agent
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl.base import get_dsl, register_dsl
from mlpapers.kernels.papers import AKG_KERNEL_AGENT as PAPER
from mlpapers.kernels.retrieval.ranking import retrieve

_TASKS = {
    "pointwise": ("return torch.tanh(x) * 2 + y", ("torch.randn(7, 65)", "torch.randn(65)")),
    "softmax": ("return torch.softmax(x, -1)", ("torch.randn(9, 50)",)),
    "rows": ("return x.sum(-1)", ("torch.randn(9, 50)",)),
}


@PAPER.claim(
    "k6",
    "A new kernel language is a class of at most 60 lines and a folder of documents, registered at run time: "
    "kernels are generated and verified in it, and the library is not touched.",
    source="abstract (rapid integration of new DSLs and hardware targets)",
)
def new_language(scale: Scale, seed: int) -> Evidence:
    register_dsl("numpy", numpy_dsl.NumpyDSL)
    rows = []
    for name, (forward, inputs) in _TASKS.items():
        task = make_task(name, "", forward, inputs, "import torch\nimport torch.nn as nn\n")
        result = rule_agent(seed, dsl="numpy", time_budget=1e-6).generate(task)
        rows.append({"task": name, "right": result.success, "error": result.report.error})
    table = pd.DataFrame(rows)
    lines = len(inspect.getsource(numpy_dsl.NumpyDSL).splitlines())
    documents = get_dsl("numpy").docs / "basic_docs.md"
    found = retrieve(task, dsl="numpy")
    return Evidence(
        measurements=[
            Measurement("lines of the language's class", lines, "<=", 60),
            Measurement("tasks with a right kernel in it", float(table["right"].mean()), ">=", 1.0),
            Measurement("documents in its folder", float(documents.is_file()), ">=", 1.0),
            Measurement(
                "of the documents retrieved for a task, share of its own",
                sum(item.path.startswith("numpy/") for item in found) / max(len(found), 1),
                ">=",
                1.0,
            ),
        ],
        table=table,
        notes=f"scale {scale}: the same tasks",
    )
