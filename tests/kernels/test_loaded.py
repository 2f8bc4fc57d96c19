"""Loaded kernels: the weights of a module in memory, and gradients that nobody can compute."""

import pytest
import torch
from torch import nn

from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.task import Task

CODE = """
import torch
import torch.nn as nn


class ModelNew(nn.Module):
    def __init__(self, *args):
        super().__init__()
        self.weight = nn.Parameter(torch.full([3], float("nan")))
        self.register_buffer("table", torch.zeros(3), persistent=False)

    @torch.no_grad()
    def forward(self, x, factor=1.0):
        return RESULT
"""


class Scaled(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width))
        self.register_buffer("table", torch.randn(width), persistent=False)

    def forward(self, x):
        return x * self.weight + self.table


def inputs():
    return [torch.randn(4, 3)]


def load(task=None, result="factor * x * self.weight + self.table"):
    return Kernel(CODE.replace("RESULT", result), "cpp", "cpu", task).load()


def test_the_kernel_of_an_instance_answers_as_the_instance():
    module = Scaled(3).eval()
    kind = load(Task.from_module(module, inputs))
    (x,) = inputs()
    with torch.no_grad():
        ours = kind()
        assert torch.equal(ours(x), module(x))
        assert not ours.training
        # A copy: what either of them learns later is its own, and a new object has what is there then.
        module.weight.mul_(2)
        assert not torch.equal(ours(x), module(x))
        assert torch.equal(kind()(x), module(x))
    with pytest.raises(RuntimeError, match="weight"):
        load(Task.from_module(nn.PReLU(7), inputs))()


def test_the_kernel_of_a_class_starts_as_an_object_of_it():
    kind = load(Task.from_module(Scaled, inputs, lambda: [3]))
    torch.manual_seed(3)
    ours = kind(3)
    torch.manual_seed(3)
    theirs = Scaled(3)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.table, theirs.table)
    assert load()().weight.isnan().all()


@pytest.mark.parametrize("result", ["x * factor", "[x + 1, x.argmax(-1)]", "(x + 1, x)"], ids=str)
def test_gradients_through_a_kernel_are_refused(result):
    kernel = load(result=result)()
    kernel.requires_grad_(False)
    first = nn.Linear(3, 3)
    (x,) = inputs()
    plain = kernel(x)
    answer = kernel(first(x), factor=1.0)
    assert type(answer) is type(plain)
    outputs = list(answer) if isinstance(answer, list | tuple) else [answer]
    assert [out.requires_grad for out in outputs] == [out.is_floating_point() for out in outputs]
    with pytest.raises(RuntimeError, match=r"torch\.no_grad\(\)"):
        outputs[0].sum().backward()
    assert first.weight.grad is None
    with torch.no_grad():
        again = kernel(first(x))
    assert not any(out.requires_grad for out in (again if isinstance(again, list | tuple) else [again]))
    # Neither the argument nor a parameter asks for gradients here.
    assert not any(out.requires_grad for out in (plain if isinstance(plain, list | tuple) else [plain]))
    assert not x.requires_grad


def test_parameters_of_a_kernel_ask_for_gradients_too():
    kernel = load(Task.from_module(Scaled(3), inputs))()
    (x,) = inputs()
    with pytest.raises(RuntimeError, match="no backward pass"):
        kernel(x).sum().backward()
    assert kernel(x).detach().equal(kernel.requires_grad_(False)(x))
