"""Convolutions in Triton: the plan against PyTorch's sizes, and values in the interpreter."""

import functools
import importlib.util
import os
import subprocess
import sys
import textwrap
from itertools import pairwise

import pytest

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import get_dsl
from mlpapers.kernels.dsl.triton.convolution import convolution, plan_of
from mlpapers.kernels.dsl.triton.depthwise import is_depthwise
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.verify.static import static_check

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
interpreted = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

# Odd sizes, strides, dilations, paddings, groups; outputs that no tap reaches; one image; nan and infinity.
_CASES = {
    "plain": ("nn.Conv2d(16, 8, 3, padding=1)", "torch.randn(1, 16, 4, 11)"),
    "strided": ("nn.Conv2d(5, 7, (3, 5), stride=(2, 3), padding=(0, 2))", "torch.randn(1, 5, 7, 17)"),
    "dilated": ("nn.Conv1d(8, 4, 3, stride=3, dilation=4, bias=False)", "torch.randn(3, 8, 41)"),
    "grouped": ("nn.Conv3d(6, 4, (2, 3, 1), groups=2, padding=(1, 0, 2))", "torch.randn(1, 6, 3, 4, 6)"),
    "volume": ("nn.Conv3d(3, 20, (1, 3, 5))", "torch.randn(1, 3, 2, 4, 12)"),
    "pointwise": ("nn.Conv2d(20, 18, 1)", "torch.randn(2, 20, 2, 7)"),
    "infinite": (
        "nn.Conv2d(16, 4, 3)",
        "torch.where(torch.rand(1, 16, 5, 12) > 0.995, float('inf'), torch.randn(1, 16, 5, 12))",
    ),
    "transposed": ("nn.ConvTranspose2d(20, 8, 3, padding=1)", "torch.randn(1, 20, 3, 9)"),
    "cropped": ("nn.ConvTranspose1d(4, 6, 2, padding=3)", "torch.randn(2, 4, 19)"),
    "apart": (
        "nn.ConvTranspose3d(8, 4, (3, 4, 3), stride=2, padding=(1, 2, 1), output_padding=1, groups=4)",
        "torch.randn(1, 8, 2, 2, 5)",
    ),
    "apart_dilated": (
        "nn.ConvTranspose2d(3, 5, (3, 5), stride=(2, 3), padding=(1, 2), dilation=(2, 1))",
        "torch.randn(2, 3, 3, 5)",
    ),
    "unreached": (
        "nn.ConvTranspose2d(3, 17, 3, stride=5, padding=1, dilation=2)", "torch.randn(1, 3, 2, 6)"
    ),
    "planes": ("nn.Conv2d(3, 3, (3, 7), groups=3, bias=False)", "torch.randn(1, 3, 11, 19)"),
    "planes_strided": (
        "nn.Conv2d(2, 4, 3, stride=(2, 1), padding=(2, 1), dilation=(1, 3), groups=2)",
        "torch.randn(1, 2, 19, 23)",
    ),
    "planes_1d": ("nn.Conv1d(3, 3, 5, padding=2, groups=3)", "torch.randn(2, 3, 37)"),
}  # fmt: skip

_RUN = """
import sys
import torch
from mlpapers.kernels.kernel import Kernel
rows = {}
for name, (code, state, inputs) in torch.load(sys.argv[1], weights_only=False).items():
    with torch.no_grad():
        model = Kernel(code, "triton", "cpu", None).load()()
        model.load_state_dict(state)
        torch.backends.cudnn.allow_tf32 = False
        exact = model(*inputs)
        torch.backends.cudnn.allow_tf32 = True
        rows[name] = exact, model(*inputs) if name in ("plain", "infinite", "transposed") else exact
torch.save(rows, sys.argv[2])
"""


def task_of(name):
    constructor, x = _CASES[name]
    return make_task(name, f"self.c = {constructor}", "return self.c(x)", (x,), HEAD)


@functools.cache
def design_of(name):
    return synthesise(task_of(name))[0]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Module, inputs, and what the interpreter returns without and with rounding to TF32."""
    import torch

    folder = tmp_path_factory.mktemp("convolutions")
    given, built = {}, {}
    for name in _CASES:
        task = task_of(name)
        made = candidate(design_of(name), "triton", "cpu", {"CONVOLUTION": 2})
        module, inputs = built[name] = task.build(0)
        given[name] = (made.code, module.state_dict(), inputs)
    torch.save(given, folder / "in.pt")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(_RUN), folder / "in.pt", folder / "out.pt"],
        env={**os.environ, **get_dsl("triton").environment("cpu"), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return built, torch.load(folder / "out.pt")


@interpreted
@pytest.mark.parametrize("name", _CASES)
def test_values_in_the_interpreter(outputs, name):
    import torch

    built, found = outputs
    module, inputs = built[name]
    with torch.no_grad():
        wanted = module.double()(*(x.double() for x in inputs)).float()
    exact, rounded = found[name]
    torch.testing.assert_close(exact, wanted, rtol=1e-5, atol=1e-5, equal_nan=True)
    # TF32 keeps 11 bits with the leading one: each of two factors is off by 2^-11 at most.
    torch.testing.assert_close(rounded, wanted, rtol=2**-9, atol=2**-8, equal_nan=True)


@pytest.mark.parametrize("name", _CASES)
def test_the_plan_has_the_sizes_of_the_library(name):
    sketch = design_of(name).sketch
    (call,) = sketch.body
    plan = plan_of(sketch, call)
    dims = sketch.tensor(call.dst[0]).dims
    outs = [axis.out for axis in plan.axes]
    assert [str(plan.outputs), *map(str, outs[3 - len(dims) + 2 :])] == list(dims[1:])
    assert is_depthwise(plan) == name.startswith("planes")
    assert plan.chunks * plan.depth >= plan.run


def test_every_tap_of_a_transposed_convolution_is_met_by_one_remainder():
    """sum over remainders of the taps that they meet = all taps; and no tap leaves the padded input."""
    for kernel in range(1, 6):
        for stride in range(2, 6):
            for dilation in (1, 2, 3):
                for padding in range(4):
                    plan = convolution((1, 9), (1, 1, kernel), [stride], [padding], [dilation], True, [0], 1)
                    axis = plan.axes[2]
                    met = 0
                    for rest in range(stride):
                        taps = [k for k in range(kernel) if (rest + padding - k * dilation) % stride == 0]
                        met += len(taps)
                        assert all(b - a == axis.cycle for a, b in pairwise(taps))
                        for k in taps:
                            place = (rest + padding - k * dilation) // stride + axis.front
                            assert 0 <= place <= axis.padded - axis.count
                    assert met == kernel


def sketch_of(layer, x):
    task = make_task("t", f"self.c = {layer}", "return self.c(x)", (x,), HEAD)
    return synthesise(task, dsl="triton", backend="cuda")[0]


def test_what_the_library_keeps():
    language = get_dsl("triton")
    design = sketch_of("nn.Conv2d(64, 64, 3, bias=False)", "torch.rand(2, 64, 9, 9)")
    assert language.defaults(design.sketch, "cuda")["CONVOLUTION"] == 1
    assert "CONVOLUTION" not in language.defaults(design.sketch, "cpu")
    for choice, ours in ((0, False), (1, False), (2, True)):
        code = candidate(design, "triton", "cuda", {"CONVOLUTION": choice}).code
        assert ("torch.convolution(" in code) != ours
    double = sketch_of("nn.Conv1d(4, 4, 3, dtype=torch.float64)", "torch.rand(2, 4, 9).double()")
    assert "CONVOLUTION" not in language.defaults(double.sketch, "cuda")


@pytest.mark.parametrize(
    ("layer", "x", "ours", "tf32"),
    [
        ("nn.Conv2d(64, 64, 3, groups=64, bias=False)", "torch.rand(16, 64, 512, 512)", True, True),
        ("nn.ConvTranspose3d(48, 24, 3, bias=False)", "torch.rand(8, 48, 96, 96, 96)", True, True),
        ("nn.ConvTranspose1d(32, 64, 3, 2, 1, dilation=2, bias=False)", "torch.rand(16, 32, 131072)",
         True, True),
        # The library's kernels for groups, or for three channels, do not use TF32.
        ("nn.ConvTranspose2d(32, 64, (3, 5), (2, 3), groups=4, bias=False)", "torch.rand(16, 32, 128, 256)",
         True, False),
        ("nn.Conv3d(3, 64, 3, bias=False)", "torch.rand(16, 3, 64, 64, 64)", True, False),
        ("nn.Conv3d(3, 64, (3, 3, 1), bias=False)", "torch.rand(16, 3, 256, 256, 10)", False, False),
        ("nn.Conv2d(64, 128, 1, bias=False)", "torch.rand(16, 64, 1024, 1024)", False, True),
        ("nn.Conv1d(8, 8, 3, bias=False)", "torch.rand(2, 8, 64)", False, False),
    ],
)  # fmt: skip
def test_the_guess_for_the_shapes_that_were_measured(layer, x, ours, tf32):
    """And the precision is that of the library: TF32 only where that uses it."""
    code = candidate(sketch_of(layer, x), "triton", "cuda").code
    assert not static_check(code, dsl="triton")
    assert ("torch.convolution(" not in code) == ours
    if ours and "groups=64" not in layer:
        assert ("tf32 = torch.backends.cudnn.allow_tf32" in code) == tf32
