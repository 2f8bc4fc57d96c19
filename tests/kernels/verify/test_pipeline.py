"""``verify`` on its own: anybody's kernel, all stages, and what the verdict says."""

import importlib
import math
import os
import threading

import numpy as np
import pytest
import torch
from kernel_support import HEAD, MATMUL, RELU, SCALE, model

from mlpapers.kernels.task import Task, TaskError
from mlpapers.kernels.verify import verify
from mlpapers.kernels.verify._prepared import Prepared
from mlpapers.kernels.verify.report import STAGES, CorrectnessReport, Verdict, headline
from mlpapers.kernels.verify.settings import Settings

CHAIN = Task.from_source(
    HEAD
    + """
class Model(nn.Module):
    def forward(self, x):
        for _ in range(40):
            x = x * 1.0
        return x + 1.0
def get_inputs():
    return [torch.rand(512, 256)]
""",
    "chain",
)
OPTIONS = {"dsl": "plain", "library_ops": "any", "random_state": 0, "n_correct": 2, "max_seconds": 1.0}


def test_swapped_arguments_are_named():
    with pytest.raises(TypeError, match="task must be a Task and code its kernel's text; got str and Task"):
        verify(model("return x + 1.0"), CHAIN, **OPTIONS)


def test_a_faster_kernel_is_measured():
    verdict = verify(CHAIN, model("return x + 1.0"), **OPTIONS)
    assert verdict.ok, verdict
    assert verdict.stage == "time"
    assert verdict.timing_mode == "measured"
    # 41 passes over the data against one.
    assert verdict.speedup > 4
    low, high = verdict.speedup_ci
    assert low <= verdict.speedup <= high
    # Medians of the same calls, one by one.
    assert verdict.eager_ms > verdict.kernel_ms > 0
    report = verdict.report
    assert report.tol_ok
    assert report.kernelbench_ok
    assert report.n_trials == len(report.trials) == 4
    assert "library: aten.add" in report.disclosures
    assert "speed-up" in str(verdict)


def test_a_verdict_shows_the_exception_of_a_traceback():
    broken = (
        model("return self.one(x)")
        + """
    def one(self, x):
        return self.two(x)

    def two(self, x):
        return self.three(x)

    def three(self, x):
        return unheard_of
"""
    )
    verdict = verify(RELU, broken, timing=False, **OPTIONS)
    assert "NameError: name 'unheard_of' is not defined" in str(verdict)
    assert headline(verdict.report.error) == "NameError: name 'unheard_of' is not defined"
    # A compiler says at the start what is wrong.
    report = CorrectnessReport(error="\n".join(["no such thing", *map(str, range(50))]))
    assert str(Verdict(False, "build", report)).splitlines()[1] == "  no such thing"
    assert headline(report.error) == "no such thing"


def test_no_timing():
    verdict = verify(RELU, model("return x.clamp(min=0)"), timing=False, **OPTIONS)
    assert verdict.ok
    assert math.isnan(verdict.speedup)
    assert verdict.timing_mode is None


@pytest.mark.parametrize(
    ("code", "stage", "kind"),
    [
        ("", "static", "syntax"),
        ("def f(:", "static", "syntax"),
        ("import torch", "static", "static_policy"),
        (model("return eval('x')"), "static", "static_policy"),
        (model("return nothing"), "correct", "launch"),
        (model("return x", before="raise ValueError('while importing')"), "correct", "import"),
        (model("return x", before="from math import nothing"), "correct", "import"),
        (model("return x", init="raise ValueError('in the constructor')"), "correct", "launch"),
        (model("return x + 1"), "correct", "wrong_result"),
        (model("return x[:, :1]"), "correct", "wrong_result"),
        (model("return x.double()"), "correct", "wrong_result"),
        (model("return x.clamp(min=0), x"), "correct", "wrong_result"),
        (model("return 'text'"), "correct", "wrong_result"),
        (model("return None"), "correct", "wrong_result"),
        (model("raise SystemExit(0)"), "correct", "launch"),
    ],
)
def test_error_classes(code, stage, kind):
    verdict = verify(RELU, code, timing=False, **OPTIONS)
    assert not verdict.ok
    assert (verdict.stage, verdict.report.error_class) == (stage, kind), verdict
    assert verdict.stage in STAGES
    assert verdict.report.error
    assert str(verdict).startswith("failed")


def test_errors_never_show_what_was_expected():
    verdict = verify(RELU, model("return x + 1"), timing=False, **OPTIONS)
    error = verdict.report.error
    assert "first at (0, 0)" in error
    assert "float32" in error
    assert "largest difference" in error


def test_several_inputs_and_weights():
    assert verify(MATMUL, model("return inputs[0] @ inputs[1]"), timing=False, **OPTIONS).ok
    scale = model("return x * self.weight", init="self.weight = nn.Parameter(torch.randn(*args))")
    verdict = verify(SCALE, scale, **OPTIONS)
    assert verdict.ok, verdict


def test_random_tasks_are_compared_at_the_same_state():
    task = Task.from_source(RELU.source.replace("torch.relu(x)", "nn.functional.dropout(x, 0.5)"))
    dropout = model("return nn.functional.dropout(x, 0.5)")
    verdict = verify(task, dropout, timing=False, **OPTIONS)
    assert verdict.ok, verdict
    assert any("nondeterministic" in text for text in verdict.report.disclosures)


def test_degenerate_tasks_are_marked():
    task = Task.from_source(RELU.source.replace("torch.relu(x)", "(x - x.amax(1, True)).clamp(min=0)"))
    verdict = verify(task, model("return torch.zeros_like(x)"), timing=False, **OPTIONS)
    assert verdict.degenerate


def test_inputs_that_alias_and_strides():
    task = Task.from_source(
        HEAD
        + "class Model(nn.Module):\n    def forward(self, a, b, c):\n        return a + b * c\n"
        + "def get_inputs():\n    x = torch.randn(12, 9)\n"
        + "    return [x.t(), x.t(), torch.randn(1, 12).expand(9, 12)]"
    )
    assert verify(task, model("return inputs[0] + inputs[1] * inputs[2]"), timing=False, **OPTIONS).ok
    # Raw memory is in another order.
    flat = model(
        "a, b = (torch.as_strided(v, (9, 12), (12, 1)) for v in inputs[:2])\nreturn a + b * inputs[2]"
    )
    assert not verify(task, flat, timing=False, **OPTIONS).ok


def test_tuple_and_scalar_outputs():
    task = Task.from_source(RELU.source.replace("torch.relu(x)", "(x.sum(), x.max(1))"))
    verdict = verify(task, model("return x.sum(), tuple(x.max(1))"), timing=False, **OPTIONS)
    assert verdict.ok, verdict


def test_modules_in_memory():
    task = Task.from_module(torch.nn.Softplus(), lambda: [torch.randn(8, 4)])
    verdict = verify(task, model("return nn.functional.softplus(x)"), **OPTIONS)
    assert verdict.ok, verdict
    assert np.isfinite(verdict.speedup)


def test_modules_whose_class_only_this_process_knows(tmp_path, monkeypatch):
    class Here(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x)

    (tmp_path / "beside_the_script.py").write_text(
        "import torch\nclass There(torch.nn.Module):\n    def forward(self, x): return torch.relu(x)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    there = importlib.import_module("beside_the_script").There
    for kind in (Here, there):
        task = Task.from_module(kind(), lambda: [torch.randn(8, 4)])
        few = {"n_correct": 1, "shape_policy": "static", "n_pairs": 3, "max_seconds": 0.05}
        verdict = verify(task, model("return x.clamp(min=0)"), **{**OPTIONS, **few})
        assert verdict.ok, verdict
        assert np.isfinite(verdict.speedup)


def test_a_module_that_no_other_process_can_make_is_the_tasks_fault(tmp_path):
    class Stays(torch.nn.Module):
        def forward(self, x):
            return torch.relu(x)

        def __getstate__(self):
            return {**self.__dict__, "home": os.getpid()}

        def __setstate__(self, state):
            if os.getpid() != state["home"]:
                raise RuntimeError("not at home")
            super().__setstate__(state)

    task = Task.from_module(Stays(), lambda: [torch.randn(8, 4)])
    with pytest.raises(TaskError, match=r"(?s)cannot be made in another process.*not at home"):
        verify(task, model("return x.clamp(min=0)"), **OPTIONS)
    prepared = Prepared(task, Settings())
    prepared.reference.module.lock = threading.Lock()
    with pytest.raises(TaskError, match="cannot be sent"):
        prepared.write_reference(tmp_path)
    prepared.close()


def test_arguments():
    code = model("return x")
    for wrong in (
        {"n_correct": 0}, {"rtol": 0.0}, {"rtol": math.nan}, {"timeout": -1.0}, {"library_ops": "all"},
        {"shape_policy": "free"}, {"sandbox": "chroot"}, {"n_pairs": 0}, {"max_seconds": 0.0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            verify(RELU, code, **{**OPTIONS, **wrong})
    with pytest.raises(TypeError, match="cold"):
        verify(RELU, code, cold=1, **OPTIONS)
    with pytest.raises(ValueError, match="nonsense"):
        verify(RELU, code, **{**OPTIONS, "dsl": "nonsense"})
    broken = Task.from_source(RELU.source.replace("torch.rand(n, 50)", "undefined"))
    with pytest.raises(TaskError, match="undefined"):
        verify(broken, code, **OPTIONS)


def test_numbers_may_be_drawn_where_the_task_draws_them_though_no_output_shows_it():
    source = RELU.source.replace("torch.relu(x)", "nn.functional.dropout(x.abs().clamp(max=0), 0.5)")
    code = model("return nn.functional.dropout(x.abs().clamp(max=0), 0.5)")
    verdict = verify(Task.from_source(source), code, timing=False, **OPTIONS)
    assert verdict.ok, verdict
