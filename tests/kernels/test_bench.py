"""Benchmarks: a clone of KernelBench, our own tasks, and the figures of a table."""

import math
import sys

import numpy as np
import pandas as pd
import pytest

from mlpapers.core.requirements import missing_requirement
from mlpapers.datasets import DataUnavailableError
from mlpapers.kernels import BenchmarkResult, KernelAgent, KernelBench, Task, mini_bench
from mlpapers.kernels.bench import evaluate
from mlpapers.kernels.bench_tasks import CATEGORIES, category

needs_compiler = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")

PROBLEM = """
import torch
import torch.nn as nn
batch = 1000000
class Model(nn.Module):
    def forward(self, x):
        return {expression}
def get_inputs():
    return [torch.rand(batch, 8)]
def get_init_inputs():
    return []
"""


@pytest.fixture
def clone(tmp_path):
    """A folder that looks like a clone of KernelBench with three problems."""
    folder = tmp_path / "KernelBench" / "level1"
    folder.mkdir(parents=True)
    expressions = {3: "torch.relu(x)", 12: "(x - x.amax(1, True)).clamp(min=0)", 7: "torch.linalg.svdvals(x)"}
    for number, expression in expressions.items():
        (folder / f"{number}_problem.py").write_text(PROBLEM.format(expression=expression))
    (folder / "README.md").write_text("no problem")
    return tmp_path


def test_problems_by_number(clone):
    bench = KernelBench(clone, level=1)
    assert len(bench) == 3
    assert [task.problem_id for task in bench] == [3, 7, 12]
    assert bench[3].name == "3_problem"
    assert bench[3].level == 1
    assert KernelBench(clone / "KernelBench", level=1)[7].source == bench[7].source
    assert [task.problem_id for task in KernelBench(clone, problems=[12, 3])] == [3, 12]
    with pytest.raises(KeyError, match="problem 4"):
        bench[4]
    with pytest.raises(ValueError, match="problems"):
        KernelBench(clone, problems=[4])
    with pytest.raises(ValueError, match="level"):
        KernelBench(clone, level=5)


def test_where_problems_come_from(clone, monkeypatch):
    with pytest.raises(DataUnavailableError, match="path="):
        KernelBench(clone, level=2)
    with pytest.raises(FileNotFoundError, match="path="):
        KernelBench(source="clone")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataUnavailableError, match="pip install datasets"):
        KernelBench(level=1)

    class Hub:
        @staticmethod
        def load_dataset(name, split):
            assert (name, split) == ("ScalingIntelligence/KernelBench", "level_2")
            return [{"problem_id": 5, "name": "5_x", "code": PROBLEM.format(expression="x")}]

    monkeypatch.setitem(sys.modules, "datasets", Hub)
    assert KernelBench(level=2)[5].name == "5_x"


@needs_compiler
def test_evaluate(clone):
    agent = KernelAgent(
        dsl="cpp",
        search="none",
        time_budget=3600,
        n_correct=1,
        store=":memory:",
        library_ops="none",
        random_state=0,
    )
    sizes = {number: {"batch": 512} for number in (3, 7, 12)}
    result = KernelBench(clone).evaluate(agent, overrides=sizes, baseline=("eager",))
    table = result.table.set_index("id")
    assert table.loc[3, "ok"]
    assert table.loc[3, "speedup"] > 0
    assert table["degenerate"].tolist() == [False, False, True]
    # One that has no template is a row, and no more.
    assert not table.loc[7, "ok"]
    assert table.loc[7, "error"]
    assert result.correctness == pytest.approx(2 / 3)
    assert result.gm == pytest.approx(table.loc[3, "speedup"])
    assert "degenerate: 12_problem" in result.summary()
    with pytest.raises(ValueError, match="baseline"):
        evaluate(agent, [], baseline=("numpy",))


def made(**columns):
    n = len(columns["ok"])
    base = {
        "level": 1, "id": range(n), "name": [f"t{k}" for k in range(n)], "ci_low": 1.0, "ci_high": 2.0,
        "eager_ms": 2.0, "kernel_ms": 1.0, "compile_ms": math.nan, "roofline": 0.5, "disclosures": "",
        "degenerate": False, "stage": "time", "error": "",
    }  # fmt: skip
    return BenchmarkResult(table=pd.DataFrame(base | columns))


def test_figures_by_hand(tmp_path):
    result = made(ok=[True, True, False, True], speedup=[4.0, 1.0, math.nan, 9.0], degenerate=[0, 0, 0, 1])
    result = BenchmarkResult(table=result.table.astype({"degenerate": bool}))
    assert result.correctness == 0.75
    assert result.gm == pytest.approx(2.0)
    assert result.am == pytest.approx(2.5)
    # Who has no kernel keeps eager.
    assert result.gm_all == pytest.approx(4 ** (1 / 3))
    assert result.fast(1.0) == 0.25
    assert result.fast(1.0, strict=False) == 0.5
    assert result.fast(0.0) == 0.75
    assert result.pass_at(1) == 0.75
    back = BenchmarkResult.load(result.save(tmp_path / "bench"))
    pd.testing.assert_frame_equal(back.table, result.table)
    heights = result.plot().lines[0].get_ydata()
    assert heights.tolist() == [1.0, 4.0]


def test_figures_per_class():
    result = made(ok=[True, True, True], speedup=[2.0, 8.0, 3.0], compile_ms=[1.0, 0.5, math.nan])
    table = result.by_class({"t0": "norm", "t1": "norm", "t2": "loss"})
    assert table.loc["norm", ["n", "correct", "fast_1", "gm"]].tolist() == pytest.approx([2, 2, 1.0, 4.0])
    # torch.compile: 2 and 4 times.
    assert table.loc["norm", "gm_compile"] == pytest.approx(math.sqrt(8))
    assert math.isnan(table.loc["loss", "gm_compile"])


def test_mini_bench():
    tasks = mini_bench()
    assert len(tasks) >= 40
    assert len({task.name for task in tasks}) == len(tasks)
    assert len({task.fingerprint for task in tasks}) == len(tasks)
    assert {category(task) for task in tasks} == set(CATEGORIES)
    with pytest.raises(ValueError, match="mini_bench"):
        category(tasks[0].with_overrides(rows=3).__class__("other", tasks[0].source))


@pytest.mark.parametrize("task", mini_bench(), ids=lambda task: task.name)
def test_tasks_run_and_are_not_degenerate(task):
    import torch

    module, inputs = task.build(0)
    other = task.draw_inputs(1)
    with torch.no_grad():
        first, second = module(*inputs), module(*other)
    leaf = first[0] if isinstance(first, tuple) else first
    again = second[0] if isinstance(second, tuple) else second
    assert not torch.equal(leaf, again)
    assert np.isfinite(leaf.numpy()).all()
    assert task.constants()


@needs_compiler
def test_modules_with_weights_are_timed_beside_torch_compile():
    source = PROBLEM.replace("    def forward", "    def __init__(self):\n        super().__init__()\n"
        "        self.weight = nn.Parameter(torch.rand(8))\n    def forward")  # fmt: skip
    task = Task.from_source(source.format(expression="x * self.weight"), overrides={"batch": 64})
    agent = KernelAgent(search="none", time_budget=5, store=":memory:", n_correct=1)
    (row,) = evaluate(agent, [task], baseline=("eager", "compile")).to_frame().to_dict("records")
    assert row["ok"]
    # In units of the eager time of the same row.
    assert 0 < row["compile_ms"] / row["eager_ms"] < math.inf
