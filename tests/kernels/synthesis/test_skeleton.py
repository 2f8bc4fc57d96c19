"""Modules in memory as text: the same tree, the same ties, and what state_dict does not hold."""

import pytest
import torch
from torch import nn

from mlpapers.kernels.synthesis.skeleton import skeleton
from mlpapers.kernels.task import Task


def made(module, n_inputs=1):
    """Return an object of the skeleton of a module, and the length of its text."""
    names = [f"x_{k}" for k in range(n_inputs)]
    text, arguments = skeleton(Task.from_module(module, lambda: [torch.ones(2)] * n_inputs), names)
    assert len(arguments) == n_inputs
    namespace = {}
    exec(f"{text}\n        return [{', '.join(arguments)}]\n", namespace)
    return namespace["ModelNew"](), len(text)


class Tables(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.full((300, 300), -torch.inf).triu(1), persistent=False)
        self.register_buffer("angles", torch.randn(4, 5).bfloat16(), persistent=False)
        self.register_buffer("odd", torch.tensor([torch.nan, -0.0, 0.0, 1e-42]), persistent=False)
        self.register_buffer("none", torch.zeros(0, 3), persistent=False)
        self.register_buffer("kept", torch.ones(3))
        self.register_buffer("count", torch.tensor(7))
        self.scale = torch.tensor(2.5, dtype=torch.float64)
        self.lists = nn.ParameterList([nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))])
        self.frozen = nn.Parameter(torch.arange(3), requires_grad=False)

    def forward(self, x):
        return x


def test_what_a_state_does_not_hold_is_in_the_text_to_the_last_bit():
    module = Tables()
    ours, length = made(module)
    for name in ("mask", "angles", "odd", "none", "scale"):
        want, found = getattr(module, name), getattr(ours, name)
        assert (found.shape, found.dtype) == (want.shape, want.dtype)
        assert torch.equal(found.reshape(-1).view(torch.uint8), want.reshape(-1).view(torch.uint8))
    # 90 000 numbers of two values, in runs.
    assert length < 40_000
    assert list(ours.state_dict()) == list(module.state_dict())
    assert ours.kept.isnan().all()
    assert ours.lists.get_parameter("0").isnan().all()
    assert not ours.frozen.requires_grad
    ours.load_state_dict(module.state_dict())
    assert ours.count == 7


def test_what_is_tied_stays_tied():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, bias=False), nn.Sequential(nn.Linear(3, 3)))
    module[1].weight = module[0].weight
    module.register_module("again", module[2])
    module.register_module("last", module[2][0])
    ours, _ = made(module)
    assert list(ours.state_dict()) == list(module.state_dict())
    assert ours.get_submodule("1").weight is ours.get_submodule("0").weight
    assert ours.again is ours.get_submodule("2")
    assert ours.last is ours.get_submodule("2.0")
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in module.parameters())


def test_arguments_without_a_name_of_their_own():
    class Rest(nn.Module):
        def forward(self, first, *rest, scale=2.0, **options):
            return first

    ours, _ = made(Rest(), 3)
    assert ours.forward(1, 2, 3) == [1, 2, 3]
    with pytest.raises(TypeError):
        ours.forward(1, 2, 3, 4)
    with pytest.raises(TypeError):
        ours.forward(1, 2, 3, scale=3.0)
