"""Tiles that are transposed on the way, as Triton's interpreter runs them: convolutions and what follows."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import get_dsl
from mlpapers.kernels.dsl.launches import Launch, launches
from mlpapers.kernels.dsl.triton.turned import turned
from mlpapers.kernels.graph import nest
from mlpapers.kernels.graph.capture import capture
from mlpapers.kernels.graph.channels import with_convolutions
from mlpapers.kernels.synthesis.assemble import assemble

IMAGE = "torch.randn(2, 3, 7, 6)"
HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
# constructor, forward, input: sides that no tile divides, one image, channels that are no multiple of 4.
CASES = {
    "chain": ("self.c = nn.Conv2d(5, 66, 3)", "return F.mish(self.c(x)) * 2", "torch.randn(1, 5, 9, 11)"),
    "transposed": ("self.c = nn.ConvTranspose2d(3, 7, 4, stride=2)", "return self.c(x)", IMAGE),
    "volume": (
        "self.c = nn.Conv3d(3, 10, 3, bias=False)",
        "y = self.c(x)\nreturn y * torch.sigmoid(y)",
        "torch.randn(1, 3, 4, 3, 5)",
    ),
    "softmax": ("self.c = nn.Conv2d(3, 37, 3)", "return torch.softmax(self.c(x), 1) + 1", IMAGE),
    "least": (
        "self.c = nn.Conv2d(1, 3, 1)",
        "return self.c(x).min(1, keepdim=True)[0]",
        "torch.randn(1, 1, 64, 65)",
    ),
    "layer_norm": (
        "self.c = nn.Conv2d(1, 33, 1); self.g = nn.LayerNorm(9)",
        "return self.g(self.c(x))",
        "torch.randn(2, 1, 64, 9)",
    ),
    "group_norm": (
        "self.c = nn.Conv2d(3, 8, 3); self.g = nn.GroupNorm(2, 8)",
        "return self.g(torch.sigmoid(self.c(x) * 2 + 1))",
        IMAGE,
    ),
    "batch_norm": (
        "self.c = nn.Conv2d(3, 5, 3); self.g = nn.BatchNorm2d(5)",
        "return self.g(torch.relu(self.c(x))), self.g.running_mean, self.g.running_var",
        IMAGE,
    ),
    "residual": (
        "self.c = nn.Conv2d(3, 3, 3, padding=1)",
        "y = self.c(x)\nreturn y + x, y.mean((2, 3))",
        IMAGE,
    ),
}
_RUN = """
import sys, torch
from mlpapers.kernels.kernel import Kernel
found = {}
for name, (code, state, inputs) in torch.load(sys.argv[1], weights_only=False).items():
    model = Kernel(code, "triton", "cpu", None).load()()
    model.load_state_dict(state)
    out = model(*inputs)
    found[name] = [out] if isinstance(out, torch.Tensor) else list(out)
torch.save(found, sys.argv[2])
"""


def sketch_of(constructor, forward, inputs):
    graph = capture(make_task("t", constructor, forward, (inputs,), HEAD))
    host = f"{HEAD}\nclass ModelNew(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    host += f"        {constructor}\n\n    def forward(self, x):"
    with nest.for_device(True):
        return assemble(with_convolutions(graph, "channels_last"), "t", host, ["x"], side_by_side=True)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_values_and_layout_in_the_interpreter(tmp_path, monkeypatch):
    monkeypatch.setattr(nest, "DEVICE_SLAB", 16)
    language = get_dsl("triton")
    given, wanted = {}, {}
    for name, (constructor, forward, inputs) in CASES.items():
        module, values = make_task(name, constructor, forward, (inputs,), HEAD).build(0)
        state = {key: value.clone() for key, value in module.state_dict().items()}
        sketch = sketch_of(constructor, forward, inputs)
        chunks = {knob: 40 for knob, _ in sketch.constexprs if knob.startswith("CHUNK")}
        code = language.render(sketch, chunks, "cpu")
        given[name] = (code, state, values)
        with torch.no_grad():
            out = module(*values)
        wanted[name] = [out] if isinstance(out, torch.Tensor) else list(out)
    torch.save(given, tmp_path / "in.pt")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUN, tmp_path / "in.pt", tmp_path / "out.pt"],
        env={**os.environ, **language.environment("cpu"), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    found = torch.load(tmp_path / "out.pt")
    for name, outputs in wanted.items():
        for ours, theirs in zip(found[name], outputs, strict=True):
            # Sums of some hundred products, and functions that are accurate to some units of float32.
            torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5, msg=lambda m, name=name: name + m)
            assert ours.is_contiguous()


def test_both_sides_of_a_transposition_are_tiled():
    sketch = sketch_of(*CASES["chain"])
    steps = [turned(sketch, step) for step in launches(sketch) if isinstance(step, Launch)]
    assert [bool(step.across) for step in steps] == [True, True]
    code = get_dsl("triton").render(sketch, {}, "cuda")
    first, second = (code.split(f"def kernel_{k}")[1].split("@triton.jit")[0] for k in (0, 2))
    # 5 channels are padded to a side of 8, 66 are cut into tiles of 64.
    assert "tl.arange(0, 8)[None, :]" in first
    assert "tl.arange(0, 64)[:, None]" in second


def test_what_is_read_as_it_is_written_has_one_lane():
    graph = capture(make_task("t", "", "return torch.relu(x) * 2", ("torch.randn(7, 5, 3)",), HEAD))
    (step,) = launches(assemble(graph, "t", "", ["x"]))
    assert turned(assemble(graph, "t", "", ["x"]), step).across == ""
