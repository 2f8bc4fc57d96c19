"""The reference's answers, and what they say about its task."""

import contextlib
import math

import numpy as np
import pytest
import torch
from kernel_support import HEAD, RELU

from mlpapers.kernels.task import Task
from mlpapers.kernels.verify._prepared import Prepared
from mlpapers.kernels.verify.reference import Reference, flatten, is_degenerate, same_bits, varies
from mlpapers.kernels.verify.settings import Settings


def test_flatten():
    a, b = torch.ones(1), torch.zeros(1)
    assert flatten({"x": (a, [b, 3])}) == [a, b, 3]
    with pytest.raises(TypeError, match="str"):
        flatten(["text"])


def test_same_bits_tells_signed_zeros_apart():
    assert same_bits(torch.tensor([math.nan]), torch.tensor([math.nan]))
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not same_bits(torch.zeros(2), torch.zeros(3))
    assert same_bits(3, 3)


def test_reference_leaves_inputs_and_weights_alone():
    task = Task.from_source(
        HEAD
        + "class Model(nn.Module):\n    def forward(self, x):\n        return x.mul_(2)\n"
        + "def get_inputs():\n    return [torch.ones(3)]"
    )
    reference = Reference(task)
    inputs = task.draw_inputs(0)
    outputs, _ = reference.run(inputs, {}, 0)
    assert outputs[0].tolist() == [2.0, 2.0, 2.0]
    assert inputs[0].tolist() == [1.0, 1.0, 1.0]
    assert reference.mutates(inputs, {}, 0)
    assert not Reference(RELU).mutates(RELU.draw_inputs(0), {}, 0)


CONSTANT = """
class Model(nn.Module):
    def forward(self, x):
        return %s
def get_inputs():
    return [torch.rand(8, 16)]
"""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("(x - x.amax(1, keepdim=True)).clamp(min=0)", True),
        ("x.softmax(1).sum(1)", True),
        ("x.mean(1)", False),
        ("1e-6 * x", False),
        ("torch.ones(4)", True),
        ("x.argmax(1)", False),
    ],
)
def test_degenerate_tasks(expression, expected):
    task = Task.from_source(HEAD + CONSTANT % expression)
    assert is_degenerate(task) == expected
    with contextlib.closing(Prepared(task, Settings(n_correct=1), 0)) as prepared:
        assert prepared.degenerate == expected


def test_one_output_that_differs_is_enough():
    def outputs():
        yield [torch.zeros(2)]
        yield [torch.ones(2)]
        raise AssertionError("not asked for")

    assert varies(outputs())
    assert not varies(iter([[torch.zeros(2), 1], [torch.zeros(2), 1]]))
    assert varies(iter([[torch.zeros(2), 1], [torch.zeros(2), 1], [torch.zeros(2), 2]]))


def test_one_call_tells_output_state_and_writes():
    task = Task.from_source(
        HEAD
        + "class Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        + "        self.norm = nn.BatchNorm1d(3)\n"
        + "    def forward(self, x):\n        return self.norm(x.add_(1))\n"
        + "def get_inputs():\n    return [torch.rand(5, 3)]"
    )
    reference = Reference(task)
    state, inputs = reference.state(), task.draw_inputs(0)
    outputs, after, mutates = reference.run_watched(inputs, state, 0)
    assert mutates
    assert int(after["norm.num_batches_tracked"]) == int(state["norm.num_batches_tracked"]) + 1
    assert same_bits(outputs[0], reference.run(inputs, state, 0)[0][0])
    exact = reference.answer(inputs, state, 0)[0]
    assert exact.dtype == torch.float64
    np.testing.assert_allclose(outputs[0], exact, rtol=1e-4, atol=1e-5)
