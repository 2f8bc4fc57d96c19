"""From one kernel language to another."""

import importlib.util
import shutil

import pytest

from mlpapers.kernels import Kernel, KernelAgent, Task, migrate
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import get_dsl
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.verify.settings import Settings

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
TASK = make_task("rows", "", "return torch.softmax(x, -1)", ("torch.randn(6, 130)",), HEAD)
ONE = Settings(n_correct=1)
triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
compiled = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@triton
@compiled
def test_there_and_back_keeps_the_sketch_and_the_values():
    design = synthesise(TASK)[0]
    made = candidate(design)
    start = Kernel(made.code, "cpp", "cpu", TASK, made.params, design.sketch.to_text(), "rules")
    there = migrate(start, "triton", "cpu", settings=ONE, random_state=0)
    assert there.success, there.report.error
    assert there.timing_mode == "interpreted"
    assert "tl.load" in there.kernel.code
    back = migrate(there.kernel, "cpp", settings=ONE, timing=False, random_state=0)
    assert back.success, back.report.error
    assert back.kernel.sketch == start.sketch
    assert back.kernel.code == start.code


def test_without_the_device_the_source_is_rendered_and_the_reason_given():
    if get_dsl("cuda").available("cuda")[0]:
        pytest.skip("there is a GPU")
    result = migrate("class ModelNew: pass", "cuda", task=TASK)
    assert not result.success
    assert result.kernel is None
    assert result.report.stage == "build"
    assert "not run" in result.report.error
    assert ("was built" in result.report.error) == bool(get_dsl("cuda").compiler())
    assert "__global__" in result.code


def test_mistakes_are_named():
    kernel = Kernel("class ModelNew: pass", "cpp", "cpu", None)
    with pytest.raises(ValueError, match="task must be given"):
        migrate(kernel, "cpp")
    with pytest.raises(ValueError, match="'cpp', 'triton'"):
        migrate(kernel, "fortran", task=TASK)
    with pytest.raises(ValueError, match="serves the backends cpu"):
        migrate(kernel, "cpp", "cuda", task=TASK)
    with pytest.raises(ValueError, match="task must be given"):
        KernelAgent().migrate(kernel, "cpp")
    with pytest.raises(TypeError, match="kernel must be a Kernel"):
        KernelAgent().migrate(None, "cpp", task=TASK)
    with pytest.raises(TypeError, match="task must be a Task"):
        migrate(kernel, "cpp", task="relu")


def test_an_agent_migrates_with_its_own_settings():
    class Recorder(KernelAgent):
        pass

    agent = Recorder(n_correct=1, shape_policy="static", random_state=0)
    result = agent.migrate(Kernel("class ModelNew: pass", "cpp", "cpu", TASK), "cuda")
    assert "__global__" in result.code


def test_the_task_may_be_somebody_elses():
    other = Task.from_source(TASK.source.replace("130", "70"), "other")
    result = migrate(Kernel("class ModelNew: pass", "cpp", "cpu", TASK), "triton", "cuda", task=other)
    assert "70" in result.code
