"""Convolutions in channels-last layout: what the graph becomes, and that its sketches mean the same."""

import functools
import json

import numpy as np
import pytest
import torch

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.graph import channels, nest
from mlpapers.kernels.graph.capture import capture
from mlpapers.kernels.graph.channels import memory_order, with_convolutions
from mlpapers.kernels.sketch import Call, walk
from mlpapers.kernels.synthesis.assemble import assemble
from mlpapers.kernels.synthesis.synthesise import layouts, synthesise

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
IMAGE = "torch.randn(2, 3, 7, 6)"
# constructor, forward, input
CASES = {
    "chain": ("self.c = nn.Conv2d(3, 5, 3)", "return F.mish(self.c(x)) * 2", IMAGE),
    "no_bias": ("self.c = nn.Conv2d(3, 5, 3, bias=False)", "return torch.relu(self.c(x))", IMAGE),
    "one_image": (
        "self.c = nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1)",
        "return torch.tanh(self.c(x)) - 1",
        "torch.randn(1, 3, 4, 3)",
    ),
    "volume": ("self.c = nn.Conv3d(3, 4, 3)", "return F.gelu(self.c(x))", "torch.randn(2, 3, 4, 3, 5)"),
    "volume_transposed": (
        "self.c = nn.ConvTranspose3d(3, 4, 3, stride=2)",
        "y = self.c(x)\nreturn (y + 1) * y + y",
        "torch.randn(2, 3, 2, 1, 3)",
    ),
    "one_channel": ("self.c = nn.Conv2d(1, 1, 3)", "return torch.relu(self.c(x))", "torch.randn(2, 1, 6, 5)"),
    "softmax": ("self.c = nn.Conv2d(3, 9, 3)", "return torch.softmax(self.c(x), 1) + 1", IMAGE),
    "least": (
        "self.c = nn.Conv2d(1, 3, 1)",
        "return torch.tanh(self.c(x).min(1, keepdim=True)[0])",
        "torch.randn(1, 1, 64, 64)",
    ),
    "group_norm": (
        "self.c = nn.Conv2d(3, 8, 3); self.g = nn.GroupNorm(2, 8)",
        "return torch.clamp(self.g(torch.sigmoid(self.c(x) * 2 + 1)), 0, 0.5)",
        IMAGE,
    ),
    "group_norm_mean": (
        "self.c = nn.Conv2d(3, 8, 3); self.g = nn.GroupNorm(2, 8)",
        "return self.g(F.hardswish(self.c(x))).mean((1, 2, 3))",
        IMAGE,
    ),
    "group_norm_residual": (
        "self.c = nn.Conv2d(3, 8, 3); self.g = nn.GroupNorm(2, 8)",
        "y = self.c(x)\nreturn torch.logsumexp(torch.tanh(self.g(y)) + y, 1)",
        IMAGE,
    ),
    "instance_norm": (
        "self.c = nn.Conv2d(3, 5, 3); self.g = nn.InstanceNorm2d(5)",
        "return self.g(self.c(x)) / 2",
        IMAGE,
    ),
    "batch_norm": (
        "self.c = nn.Conv2d(3, 5, 3); self.g = nn.BatchNorm2d(5)",
        "return self.g(torch.relu(self.c(x))) - 1",
        IMAGE,
    ),
    "layer_norm": (
        "self.c = nn.Conv2d(1, 33, 1); self.g = nn.LayerNorm(9)",
        "return F.gelu(self.g(self.c(x)))",
        "torch.randn(2, 1, 64, 9)",
    ),
    "pooled": ("self.c = nn.Conv2d(3, 5, 3)", "return torch.tanh(F.max_pool2d(self.c(x), 2))", IMAGE),
    "mean": ("self.c = nn.Conv2d(3, 5, 3)", "return self.c(x).mean((2, 3), keepdim=True) * 2", IMAGE),
    "two": (
        "self.c = nn.Conv2d(3, 4, 3); self.d = nn.Conv2d(4, 5, 1)",
        "return torch.sigmoid(self.d(torch.relu(self.c(x))))",
        IMAGE,
    ),
}
# Cases with reductions over space, which are taken in chunks.
SPLIT = ("group_norm", "group_norm_mean", "group_norm_residual", "instance_norm", "batch_norm", "mean")


def task_of(name):
    constructor, forward, inputs = CASES[name]
    return make_task(name, constructor, forward, (inputs,), HEAD)


@functools.cache
def graph_of(name):
    return capture(task_of(name))


def calls(sketch):
    return [s for s in walk(sketch.body) if isinstance(s, Call) and "convolution" in s.target]


@pytest.mark.parametrize("name", CASES)
def test_sketches_compute_what_the_module_does(monkeypatch, name):
    # What is a long slab on a device is short here, so that statistics are split.
    monkeypatch.setattr(nest, "DEVICE_SLAB", 16)
    module, inputs = task_of(name).build(0)
    state = {key: value.clone().numpy() for key, value in module.state_dict().items()}
    with torch.no_grad():
        wanted = module(*inputs).numpy()
    with nest.for_device(True):
        plan = with_convolutions(graph_of(name), "channels_last")
        sketch = assemble(plan, "t", "", ["x"], side_by_side=True)
    chunks = {knob: 20 for knob, _ in sketch.constexprs if knob.startswith("CHUNK")}
    (found,) = sketch.with_constexprs(**chunks).validate().interpret([x.numpy() for x in inputs], state)
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    laid_out = [json.loads(call.spec).get("memory") for call in calls(sketch)]
    assert laid_out == [list(memory_order(inputs[0].dim()))] * len(laid_out)
    assert bool(chunks) == (name in SPLIT)


def test_the_bias_is_added_by_what_follows():
    for name in ("chain", "one_image"):
        for design in synthesise(task_of(name), dsl="triton", backend="cuda"):
            (call,) = calls(design.sketch)
            assert json.loads(call.spec)["args"][2] is None
            assert len(call.args) == 2


def layout_of(constructor, forward, layout="by_use", size=(3, 16, 9, 9)):
    graph = capture(
        make_task("t", f"self.c = nn.{constructor}", f"return {forward}", (f"torch.randn{size}",), HEAD)
    )
    found = with_convolutions(graph, layout)
    if found is graph:
        return None
    (call,) = (node for node in found.nodes if node.op == "library")
    return "channels_last" if "memory" in call.attrs else "library"


@pytest.mark.parametrize(
    ("constructor", "forward", "wanted"),
    [
        ("Conv2d(16, 4, 3, bias=False)", "self.c(x)", None),
        ("Conv2d(16, 4, 1)", "self.c(x)", None),
        ("Conv2d(16, 4, 3)", "self.c(x).transpose(1, 2)", "channels_last"),
        ("ConvTranspose2d(16, 4, 3, bias=False)", "self.c(x)", "channels_last"),
        ("Conv2d(16, 4, 3)", "torch.relu(self.c(x))", "channels_last"),
        ("Conv2d(16, 4, 3)", "F.max_pool2d(self.c(x), 2)", "channels_last"),
        ("Conv2d(16, 4, 3)", "torch.softmax(self.c(x), 1)", "channels_last"),
        ("Conv2d(16, 4, 3)", "torch.tanh(self.c(x)).mean((2, 3))", "library"),
        ("Conv2d(16, 4, 3)", "F.group_norm(self.c(x), 2)", "library"),
        ("Conv2d(16, 4, 3)", "F.layer_norm(self.c(x), (7,))", "library"),
    ],
)
def test_the_layout_follows_from_the_use(monkeypatch, constructor, forward, wanted):
    monkeypatch.setattr(channels, "ELEMENTS", 100)
    assert layout_of(constructor, forward) == wanted


def test_the_layout_keeps_the_precision(monkeypatch):
    """Few channels, or small results, are multiplied in float32 unless the layout asks for TF32 kernels."""
    assert layout_of("Conv2d(16, 4, 3)", "torch.relu(self.c(x))") == "library"
    monkeypatch.setattr(channels, "ELEMENTS", 100)
    assert layout_of("Conv2d(8, 4, 3)", "torch.relu(self.c(x))", size=(3, 8, 9, 9)) == "library"
    assert layout_of("Conv2d(18, 4, 3)", "torch.relu(self.c(x))", size=(3, 18, 9, 9)) == "library"


def test_what_stays_as_it_is():
    for layout in ("library", "channels_last", "by_use", None):
        assert layout_of("Conv2d(16, 4, 3, groups=2)", "torch.relu(self.c(x))", layout) is None
    assert layout_of("Conv2d(16, 4, 3)", "self.c(x)", "library") is None
    assert layout_of("Conv2d(16, 4, 3)", "torch.relu(self.c(x))", None) is None


def test_other_targets_call_the_library_with_its_bias():
    assert layouts("cpp", "cpu") == layouts("triton", "cpu") == layouts("triton", "ascend") == (None,)
    for dsl in ("cpp", "triton"):
        for design in synthesise(task_of("chain"), dsl=dsl, backend="cpu"):
            (call,) = calls(design.sketch)
            assert "memory" not in json.loads(call.spec)
            assert len(call.args) == 3


def test_one_dimension_has_no_channels_last_layout_but_its_bias_goes_along():
    graph = capture(
        make_task(
            "t",
            "self.c = nn.Conv1d(4, 4, 3)",
            "return torch.relu(self.c(x))",
            ("torch.randn(2, 4, 9)",),
            HEAD,
        )
    )
    (call,) = (node for node in with_convolutions(graph, "channels_last").nodes if node.op == "library")
    assert "memory" not in call.attrs
    assert call.attrs["args"][2] is None
