"""Sketches are tested before any code exists, in a process of their own."""

from dataclasses import replace

import pytest

from mlpapers.kernels import Sketch, Task, mini_bench
from mlpapers.kernels import design as designed
from mlpapers.kernels.agents import sketches
from mlpapers.kernels.agents.sketches import judge_sketch

TASK = {task.name: task for task in mini_bench()}["elementwise_relu"].with_overrides(rows=5, columns=7)


@pytest.fixture(scope="module")
def sketch():
    return designed(TASK)


def test_the_rules_sketch_is_right(sketch):
    assert judge_sketch(sketch, TASK).outcome == "right"


def test_another_function_is_wrong(sketch):
    text = sketch.to_text()
    assert "relu(" in text
    found = judge_sketch(Sketch.parse(text.replace("relu(", "abs(")), TASK)
    assert found.outcome == "wrong"
    assert "entries differ" in found.detail


def test_what_the_interpreter_refuses(sketch):
    found = judge_sketch(replace(sketch, results=("nothing",)), TASK)
    assert found.outcome == "wrong"
    assert "undeclared" in found.detail


def test_a_sketch_that_never_ends(sketch, monkeypatch):
    monkeypatch.setattr(sketches, "_SECONDS", 3.0)
    text = sketch.to_text()
    loop = next(line for line in text.splitlines() if line.lstrip().startswith("for "))
    head = loop[: len(loop) - len(loop.lstrip())]
    endless = text.replace(
        loop, f"{head}for z in range(0, 10000000000000, 1):\n{head}    q = alloc([], f64)\n{loop}", 1
    )
    found = judge_sketch(Sketch.parse(endless), TASK)
    assert found.outcome == "unchecked"
    assert "3 s" in found.detail


def test_what_is_not_checked(sketch):
    large = {task.name: task for task in mini_bench()}["elementwise_relu"].with_overrides(
        rows=4096, columns=4096
    )
    assert "too large" in judge_sketch(sketch, large).detail
    dropout = Task.from_source(
        "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n"
        "        return torch.nn.functional.dropout(x)\ndef get_inputs():\n    return [torch.rand(5, 7)]\n"
    )
    assert judge_sketch(sketch, dropout).detail == "the module draws random numbers"
    half = Task.from_source(TASK.resolved_source.replace("columns)]", "columns).bfloat16()]"))
    assert "torch.bfloat16" in judge_sketch(sketch, half).detail
