"""Regions: what fuses, and what must not."""

import pytest

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.graph import capture
from mlpapers.kernels.graph.regions import partition

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def kinds(forward, *inputs, constructor=""):
    plan = partition(capture(make_task("t", constructor, forward, inputs, HEAD)))
    return [region.nest.mode if region.nest is not None else region.kind for region in plan.regions]


@pytest.mark.parametrize(
    ("forward", "inputs", "expected"),
    [
        (
            "return torch.sigmoid(torch.tanh(x) * 2) + y",
            ("torch.rand(9, 70)", "torch.rand(70)"),
            ["pointwise"],
        ),
        ("return torch.softmax(x, 1)", ("torch.rand(9, 70)",), ["reduce"]),
        ("return torch.softmax(x, 0)", ("torch.rand(9, 70)",), ["reduce"]),
        ("return torch.mean((x - y) ** 2)", ("torch.rand(99, 700)", "torch.rand(99, 700)"), ["reduce"]),
        ("return x / x.norm()", ("torch.rand(99, 700)",), ["reduce", "pointwise"]),
        ("return torch.cumsum(x * 2, 1) + 1", ("torch.rand(9, 70)",), ["scan"]),
        ("return torch.relu(x @ y)", ("torch.rand(9, 70)", "torch.rand(70, 8)"), ["call", "pointwise"]),
        ("return (x + 1).view(9, 2, 35).transpose(1, 2) * 2", ("torch.rand(9, 70)",), ["pointwise"]),
        ("return F.max_pool2d(x, 2) * 2", ("torch.rand(2, 3, 8, 8)",), ["window", "pointwise"]),
    ],
)
def test_regions_of_common_forms(forward, inputs, expected):
    assert kinds(forward, *inputs) == expected


def test_group_norm_with_an_activation_is_one_region():
    forward = "return torch.relu(self.n(x)) * 2"
    assert kinds(forward, "torch.rand(8, 8, 6, 6)", constructor="self.n = nn.GroupNorm(4, 8)") == ["reduce"]


def test_names_and_order_do_not_matter():
    inputs = ("torch.rand(9, 70)", "torch.rand(9, 70)")
    assert kinds("return torch.mean((x - y) ** 2)", *inputs) == kinds(
        "d = y - x\nreturn (d * d).mean()", *inputs
    )


def test_without_fusion_every_operation_stands_alone():
    task = make_task("t", "", "return torch.tanh(x + 1)", ("torch.rand(9, 70)",), HEAD)
    assert len(partition(capture(task), fuse=False).regions) == 2


def test_factors_of_weights_come_before_the_rows_that_need_them():
    forward = (
        "g = (x * self.w).sum(-1)\n"
        "return x * (torch.tanh(g) + torch.sigmoid(self.a) * torch.log(y)).unsqueeze(-1)"
    )
    inputs = ("torch.rand(4, 8, 64, 32)", "torch.rand(64)")
    constructor = "self.w = nn.Parameter(torch.rand(8, 1, 32))\nself.a = nn.Parameter(torch.rand(8, 1))"
    # The reduction and the product over the same rows are one pass, the last one.
    assert kinds(forward, *inputs, constructor=constructor)[-1] == "reduce"
