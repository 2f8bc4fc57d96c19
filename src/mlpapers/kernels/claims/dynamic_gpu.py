"""The claim about dynamic shapes on a GPU: one source, checked at sizes for which it was not made."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.core.parallel import parallel_map
from mlpapers.kernels.backends import cache_folder
from mlpapers.kernels.bench_tasks import category, mini_bench
from mlpapers.kernels.claims.generation import QUICK_DYNAMIC
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.papers import AKG_KERNEL_AGENT as PAPER
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.task import Task
from mlpapers.kernels.verify.inputs import draw_trials
from mlpapers.kernels.verify.oracle import compare
from mlpapers.kernels.verify.reference import Reference, flatten

# Processes that compile side by side; the checks themselves hardly use the device.
_MOST_JOBS = 8


def right_at_unseen_sizes(
    task: Task, *, dsl: str = "triton", backend: str = "cuda", device: str = "cuda:0", seed: int = 0
) -> dict[str, Any]:
    """Make a kernel of dynamic shape and compare it, in this process, at its own and at other sizes.

    The trials and the judgement are the verifier's: every free dimension at one, at an odd size and at twice
    its size, against the reference on the same device and in float64.

    Parameters
    ----------
    task : Task
    dsl, backend, device : str
    seed : int

    Returns
    -------
    row : dict
        ``name``, ``category``, ``ok``, ``sizes`` (how many of the trials had other sizes) and ``error``.
    """
    import torch

    from mlpapers.kernels.dsl.base import get_dsl

    row = {"name": task.name, "category": category(task), "ok": False, "sizes": 0, "error": ""}
    try:
        reference = Reference(task, seed, device)
        trials = draw_trials(
            task, reference, n_correct=3, shape_policy="dynamic", rng=np.random.default_rng(seed)
        )
        design = synthesise(task, dsl=dsl, backend=backend, shape_policy="dynamic")[0]
        code = candidate(design, dsl, backend).code
        get_dsl(dsl).build(code, cache_folder(), backend)
        model = Kernel(code, dsl, backend, task).load()(*task.init_inputs()).to(device)
        row["sizes"] = sum(trial.label.startswith("size") for trial in trials)
        for trial in trials:
            model.load_state_dict(trial.state)
            given = [x.to(device) if isinstance(x, torch.Tensor) else x for x in trial.inputs]
            torch.manual_seed(trial.call_seed)
            with torch.no_grad():
                found = [x.cpu() if isinstance(x, torch.Tensor) else x for x in flatten(model(*given))]
            judged = compare(trial.eager, trial.oracle, found, inputs=trial.inputs)
            if not judged.ok:
                row["error"] = f"{trial.label}: {judged.error or judged.max_abs_err}"
                return row
        row["ok"] = True
    except Exception as error:  # noqa: BLE001 - a task that fails is a row of the table
        row["error"] = "".join(traceback.format_exception_only(type(error), error))[-500:]
    return row


def table_of(tasks: Sequence[Task], *, dsl: str = "triton", seed: int = 0, n_jobs: int = 1) -> pd.DataFrame:
    """Return one row per task, by several processes on one GPU."""
    rows = parallel_map(_Check(dsl, seed), tasks, n_jobs=n_jobs, prefer="processes")
    return pd.DataFrame(rows)


class _Check:
    """Calls :func:`right_at_unseen_sizes` in a worker."""

    def __init__(self, dsl: str, seed: int) -> None:
        self.dsl, self.seed = dsl, seed

    def __call__(self, task: Task) -> dict[str, Any]:
        return right_at_unseen_sizes(task, dsl=self.dsl, seed=self.seed)


@PAPER.claim(
    "k11b",
    "Kernels of dynamic shape on a GPU: written in Triton at one size, the same source is right at sizes 1, "
    "odd and twice as large of every free dimension.",
    source="evaluation on the authors' own benchmark (dynamic shapes)",
    requires=("cuda",),
)
def dynamic_shapes_on_gpu(scale: Scale, seed: int) -> Evidence:
    tasks = [task for task in mini_bench() if scale == "full" or task.name in QUICK_DYNAMIC]
    table = table_of(tasks, seed=seed, n_jobs=min(_MOST_JOBS, os.cpu_count() or 1))
    fused = table[table["category"] == "fused"]
    return Evidence(
        measurements=[
            Measurement(
                "share of tasks right at unseen sizes", float(table["ok"].mean()), ">=", 0.909,
                paper="Triton on CUDA 0.909 (own benchmark, pass@4)",
            ),
            Measurement(
                "share of fused tasks right at unseen sizes", float(fused["ok"].mean()), ">=", 0.714,
                paper="Triton on CUDA 0.714",
            ),
        ],
        table=table,
        notes="Compared in this process by the verifier's trials and rule, without its isolation.",
    )  # fmt: skip
