"""Operations, category and shapes of tasks."""

import importlib

import pytest

from mlpapers.kernels import Task, TaskError, mini_bench
from mlpapers.kernels.retrieval import features as module
from mlpapers.kernels.retrieval.features import CATEGORIES, base_name, features

BENCH = {task.name: task for task in mini_bench()}


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("elementwise_relu", "elementwise"),
        ("reduction_sum_middle", "reduction"),
        ("norm_softmax", "norm"),
        ("loss_mse", "loss"),
        ("scan_masked", "scan"),
        ("pool_max2d", "pool"),
        ("matmul_plain", "matmul"),
        ("fused_linear_chain", "fused"),
        ("move_transpose", "elementwise"),
    ],
)
def test_categories(name, category):
    assert category in CATEGORIES
    assert features(BENCH[name]).category == category


def test_operations_and_shapes():
    found = features(BENCH["loss_mse"])
    assert found.shapes[0] == found.shapes[1]
    assert len(found.shapes) == 2
    assert {"sub", "mean"} <= set(found.ops)
    assert found.text.split().count("sub") == found.ops["sub"]
    assert base_name("aten::add.Tensor") == base_name("torch.ops.aten.add") == "add"


def test_a_task_that_cannot_be_captured(monkeypatch):
    def refuse(*_, **__):
        raise TaskError("no")

    # The function hides the module of its name.
    monkeypatch.setattr(importlib.import_module("mlpapers.kernels.graph.capture"), "capture", refuse)
    found = features(BENCH["norm_softmax"])
    assert found.category == "norm"
    assert found.ops["softmax"] == 1
    assert len(found.shapes) == 1
    broken = Task.from_source(BENCH["norm_softmax"].source.replace("torch.randn(", "torch.missing("), "b")
    assert module.features(broken).shapes == ()
