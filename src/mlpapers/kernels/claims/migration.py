"""Claims about one sketch in several kernel languages."""

from __future__ import annotations

import ast
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.kernels.claims._inputs import tasks_named
from mlpapers.kernels.dsl.base import BuildError, get_dsl, list_dsls
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.migration import migrate
from mlpapers.kernels.papers import AKG_KERNEL_AGENT as PAPER
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.task import Task
from mlpapers.kernels.verify.settings import Settings
from mlpapers.kernels.verify.static import static_check

_TASKS = (
    "fused_silu_and_mul", "norm_rms", "loss_mse", "conv_relu_hardswish", "norm_batch_train", "scan_cumprod",
)  # fmt: skip
_ROUND = (("triton", "cpu"), ("cpp", "cpu"))
_DEVICE = (("triton", "cuda"), ("cuda", "cuda"), ("tilelang", "cuda"))
# One per way of working: row, pointwise, reduction, product with an epilogue.
_SKETCHES = {
    "row": "norm_log_softmax",
    "pointwise": "elementwise_swish",
    "reduce": "reduction_max_middle",
    "gemm": "fused_linear_chain",
}
_LANGUAGES = ("triton", "tilelang", "cpp", "cuda")


def hop(kernel: Kernel, dsl: str, backend: str, task: Task, seed: int) -> tuple[dict[str, Any], Kernel]:
    """Migrate and return a row of the table, and the kernel that the next hop starts from."""
    result = migrate(
        kernel, dsl, backend, task=task, settings=Settings(n_correct=2), timing=False, random_state=seed
    )
    sketch = kernel.sketch
    where = "run" if result.success else result.report.stage
    built = result.report.stage == "build" and result.report.error_class == "launch"
    row = {
        "task": task.name,
        "to": f"{dsl} on {backend}",
        "ok": result.success or built,
        "checked by": where,
        "detail": "" if result.success else result.report.error.splitlines()[0],
    }
    return row, result.kernel or Kernel(result.code, dsl, backend, task, sketch=sketch, origin="rules")


@PAPER.claim(
    "k2",
    "Kernels migrate between languages: from C++ to Triton and back every kernel stays right, and on to "
    "Triton, CUDA and TileLang for a GPU every source is right, or builds where there is none.",
    source="abstract (automates kernel migration)",
    requires=("cxx",),
)
def migration(scale: Scale, seed: int) -> Evidence:
    names = _TASKS if scale == "full" else _TASKS[:2]
    hops = (*_ROUND, *_DEVICE) if scale == "full" else _ROUND
    known = set(list_dsls()["name"])
    rows = []
    for task in tasks_named(names):
        design = synthesise(task)[0]
        made = candidate(design)
        kernel = Kernel(made.code, "cpp", "cpu", task, made.params, design.sketch.to_text(), "rules")
        for dsl, backend in hops:
            if dsl in known:
                row, kernel = hop(kernel, dsl, backend, task, seed)
                rows.append(row)
    table = pd.DataFrame(rows)
    ran = table[table["checked by"] != "build"]
    return Evidence(
        measurements=[
            Measurement("share of hops that are right, or built", float(table["ok"].mean()), ">=", 1.0),
            Measurement("hops whose kernel ran", len(ran), ">=", 2),
        ],
        table=table,
    )


@PAPER.claim(
    "k4",
    "Four languages, Triton, TileLang, C++ and CUDA C, render a row, a pointwise, a reduction and a "
    "product-with-epilogue sketch: 16 sources that the static policy and the language's own check accept; "
    "what can be compiled here compiles.",
    source="abstract (Triton, TileLang, CPP, CUDA-C)",
)
def four_languages(scale: Scale, seed: int) -> Evidence:
    listed = list_dsls()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for template, name in _SKETCHES.items():
            build = scale == "full" or template == "row"
            design = synthesise(tasks_named((name,))[0])[0]
            for dsl in _LANGUAGES:
                backend = "cpu" if dsl == "cpp" else "cuda"
                rows.append(
                    {
                        "template": template,
                        "language": dsl,
                        **_source(design, dsl, backend, Path(scratch), build=build),
                    }
                )
    table = pd.DataFrame(rows)
    return Evidence(
        measurements=[
            Measurement("languages", len(set(_LANGUAGES) & set(listed["name"])), ">=", 4),
            Measurement("sources that pass", int(table["ok"].sum()), ">=", 16),
            Measurement("sources that a compiler refuses", int(table["refused"].sum()), "<=", 0),
        ],
        table=table,
        notes=f"seed {seed}: the same sources; scale {scale}",
    )


def _source(design: Any, dsl: str, backend: str, folder: Path, *, build: bool) -> dict[str, Any]:
    language = get_dsl(dsl)
    code = candidate(design, dsl, backend).code
    issues = [str(issue) for issue in static_check(code, dsl=dsl)]
    issues += [message for _, _, message in language.check(code)]
    ast.parse(code)
    refused, said = False, ""
    available, reason = language.available(backend)
    if not build:
        said = "parsed; compiled in the full run"
    elif not available and "not installed" in reason:
        said = f"not built: {reason}"
    else:
        try:
            path = language.build(code, folder, backend)
            said = "compiled" if path is not None else "parsed"
        except BuildError as error:
            refused = "does not compile" in str(error)
            said = str(error).splitlines()[0]
    return {
        "ok": not issues and "class ModelNew" in code,
        "refused": refused,
        "built": said,
        "characters": len(code),
        "issues": "; ".join(issues) or np.nan,
    }
