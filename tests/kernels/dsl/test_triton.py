"""The Triton language: what is rendered, and what the interpreter makes of it."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from mlpapers.kernels.bench_tasks import mini_bench
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import BuildError, get_dsl
from mlpapers.kernels.dsl.triton.maths import HELPERS, expression, helpers
from mlpapers.kernels.graph import nest
from mlpapers.kernels.ops import POINTWISE
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.verify import verify
from mlpapers.kernels.verify.static import static_check

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
interpreted = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def design_of(forward, inputs=("torch.randn(19, 130)",), constructor=""):
    return synthesise(make_task("t", constructor, forward, inputs, HEAD))[0]


def test_the_source_has_the_loader_once_and_launches_by_blocks():
    code = candidate(design_of("return torch.softmax(x, -1)"), "triton", "cpu").code
    assert code.count(get_dsl("triton").loader) == 1
    assert "tl.load(" in code
    assert not static_check(code, dsl="triton")


def test_a_row_that_fits_is_loaded_once_and_a_long_one_in_blocks():
    design = design_of("return torch.softmax(x, -1)", ("torch.randn(3, 1000)",))
    assert candidate(design, "triton", "cuda").code.count("tl.load(") == 1
    blocked = candidate(design, "triton", "cuda", {"TILE0": 256}).code
    assert "for r0 in range(" in blocked
    assert blocked.count("tl.load(") > 1


def test_masks_only_where_a_block_does_not_divide_the_row():
    assert (
        "mask="
        not in candidate(design_of("return x.sum(-1)", ("torch.randn(5, 512)",)), "triton", "cuda")
        .code.partition("def kernel_0")[2]
        .partition("class ModelNew")[0]
    )
    assert (
        "mask=" in candidate(design_of("return x.sum(-1)", ("torch.randn(5, 511)",)), "triton", "cuda").code
    )


def test_defaults_lie_in_the_space():
    language = get_dsl("triton")
    for forward in ("return torch.softmax(x, -1)", "return torch.softmax(x, 0)", "return (x * x).mean()"):
        sketch = design_of(forward, ("torch.randn(64, 999)",)).sketch
        for backend in language.backends:
            space = language.space(sketch, backend)
            assert all(language.defaults(sketch, backend)[name] in values for name, values in space.items())


def test_what_it_does_not_serve():
    language = get_dsl("triton")
    assert not language.available("tpu")[0]
    with pytest.raises(ValueError, match="backend"):
        language.space(design_of("return x * 2").sketch, "tpu")
    with pytest.raises(BuildError, match="no Python"):
        language.build("def", None, "cpu")


def test_every_elementwise_operation_has_an_expression():
    integers = {"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "shift_left", "shift_right"}
    for op, spec in POINTWISE.items():
        text = expression(op, ["a", "b", "c"][: spec.arity], "i64" if op in integers else "f32")
        assert "a" in text
        compile(helpers(text), "helpers", "exec")
    assert expression("pow", ["a", "3.0"], "f32") == "(a * a * a)"


def test_helpers_bring_the_helpers_that_they_call():
    for name in HELPERS:
        source = helpers(f"{name}(x)")
        defined = re.findall(r"def (\w+)", source)
        assert name in defined
        for k, function in enumerate(source.split("@triton.jit")[1:]):
            called = {other for other in HELPERS if re.search(rf"(?<!\w){other}\(", function)}
            assert called <= set(defined[: k + 1])


def test_every_task_renders_to_python():
    for task in mini_bench()[::6]:
        for design in synthesise(task):
            for backend in ("cpu", "cuda"):
                compile(candidate(design, "triton", backend).code, task.name, "exec")


# Odd sizes, several blocks per row, nan, first of equal extremes, integers, bools, zero rows.
_CASES = {
    "blocks": ("return torch.softmax(x, -1)", ("torch.randn(3, 777)",), {"TILE0": 256}),
    "moments": ("return torch.var(x, dim=1)", ("1000 + torch.randn(5, 777)",), {"TILE0": 128}),
    "columns": ("return torch.max(x, 1)", ("torch.randint(0, 3, (2, 67, 33)).float()",), {"COLS0": 32}),
    "nan": (
        "return torch.max(x, 1)",
        ("torch.where(torch.rand(9, 70) > 0.98, float('nan'), torch.rand(9, 70))",),
        {},
    ),
    "first": ("return torch.argmin(x, 1)", ("torch.randint(0, 2, (9, 70)).float()",), {"TILE0": 16}),
    "product": ("return x.prod(1)", ("1 + 0.1 * torch.randn(4, 70)",), {"TILE0": 16}),
    "any": ("return (x > 2.5).any(1), (x > -3).all(0)", ("torch.randn(9, 70)",), {}),
    "integers": ("return (x * 3 - 7).sum(-1)", ("torch.randint(-9, 9, (5, 70))",), {}),
    "reverse_scan": ("return torch.cumsum(x.flip(1), 1).flip(1)", ("torch.randn(4, 300)",), {"TILE0": 64}),
    "column_scan": ("return torch.cumsum(x, 0)", ("torch.randn(130, 40)",), {"COLS0": 32}),
    "chunks": ("return torch.argmax(x)", ("torch.randn(90, 130)",), {}),
    "functions": (
        "return torch.tanh(x) + torch.expm1(x) * torch.log1p(x.abs()) + torch.atan(x) - torch.round(x * 3)",
        ("4 * torch.randn(30, 40)",),
        {},
    ),
    "inverse": (
        "return torch.asin(x) + torch.acos(x) * torch.atanh(x * 0.9) + torch.asinh(9 * x) + torch.sinh(x)",
        ("2 * torch.rand(30, 40) - 1",),
        {},
    ),
    "power": ("return x.abs() ** y + torch.fmod(x, 0.7) + torch.remainder(x, 0.3)",
              ("torch.randn(30, 40)", "torch.randn(30, 40)"), {}),
    "half": ("return torch.softmax(x, -1)", ("torch.randn(5, 70).to(torch.bfloat16)",), {}),
    "nothing": ("return torch.relu(x)", ("torch.randn(0, 7)",), {}),
    # Windows whose taps lie side by side in a block, and some that do not.
    "pool_far": ("return F.avg_pool2d(x, 5)", ("torch.randn(2, 3, 23, 31)",), {}),
    "pool_far_padded": (
        "return F.avg_pool2d(x, (3, 6), (2, 5), (1, 3), ceil_mode=True, count_include_pad=False)",
        ("torch.randn(2, 1, 17, 29)",),
        {},
    ),
    "pool_far_divided": ("return F.avg_pool1d(x, 4, 4) + F.avg_pool1d(x, 4, 4, 1)",
                         ("torch.randn(2, 3, 64)",), {}),
    "pool_far_max": (
        "return F.max_pool2d(x, 3, 4, 1, dilation=2)",
        ("torch.where(torch.rand(2, 2, 21, 43) > 0.99, float('nan'), torch.randn(2, 2, 21, 43) - 5)",),
        {},
    ),
    "pool_far_3d": ("return F.max_pool3d(x, (2, 1, 5), 5) + F.avg_pool3d(x, (2, 1, 5), 5)",
                    ("torch.randn(1, 2, 7, 6, 33)",), {}),
    "pool_near": ("return F.avg_pool2d(x, 3, 2, 1)", ("torch.randn(2, 2, 13, 18)",), {}),
    "pool_near_max": (
        "return F.max_pool2d(x, 4, 1, 1), F.max_pool1d(x[:, 0].contiguous(), 3, 1, 1, 3)",
        ("torch.where(torch.rand(1, 2, 19, 37) > 0.98, float('nan'), torch.randn(1, 2, 19, 37))",),
        {},
    ),
    "pool_near_3d": (
        "return F.max_pool3d(x, 3, 2, 1, dilation=2), F.avg_pool3d(x, 2, 2, 1, True, False)",
        ("torch.randn(1, 1, 6, 9, 19)",),
        {},
    ),
}  # fmt: skip

# As for a GPU: what is a long row there is short here, so that rows are cut into chunks.
_DEVICE_CASES = {
    "batch_norm": (
        "y = self.b(x); return y, self.b.running_mean, self.b.running_var",
        ("3 + torch.randn(3, 4, 30, 70)",),
        "self.b = nn.BatchNorm2d(4)",
    ),
    "cross_entropy": (
        "return F.cross_entropy(x, y)",
        ("torch.randn(300, 17)", "torch.where(torch.rand(300) > 0.9, -100, torch.randint(0, 17, (300,)))"),
        "",
    ),
    "whole": ("return (x * x).mean(), x.amax()", ("torch.randn(70, 130)",), ""),
}

# Products of our own: sizes that no block divides, operands along either side, batches, infinity.
_PRODUCTS = {
    "product_linear": ("return F.linear(x, y, z)",
                       ("torch.randn(2, 65, 37)", "torch.randn(131, 37)", "torch.randn(131)")),
    "product_across": ("return torch.mm(x.t(), y), (x + 2).prod(0)",
                       ("torch.randn(35, 131)", "torch.randn(35, 129)")),
    "product_batches": ("return torch.bmm(x, y)", ("torch.randn(2, 128, 20)", "torch.randn(2, 20, 130)")),
    "product_infinite": (
        "return x @ y",
        ("torch.where(torch.rand(129, 20) > 0.999, float('inf'), torch.randn(129, 20))",
         "torch.randn(20, 128)"),
    ),
}  # fmt: skip

_RUN = """
import json, sys
import torch
from mlpapers.kernels.kernel import Kernel
rows = {}
for name, (code, inputs) in torch.load(sys.argv[1], weights_only=False).items():
    with torch.no_grad():
        out = Kernel(code, "triton", "cpu", None).load()()(*inputs)
    rows[name] = [out] if isinstance(out, torch.Tensor) else list(out)
torch.save(rows, sys.argv[2])
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What the interpreter returns for all cases; it has to be switched on before triton is imported."""
    import torch

    folder = tmp_path_factory.mktemp("triton")
    given = {}
    for name, (forward, inputs, params) in _CASES.items():
        task = make_task(name, "", forward, inputs, HEAD)
        made = candidate(synthesise(task)[0], "triton", "cpu", params)
        given[name] = (made.code, task.build(0)[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nest, "DEVICE_ROW", 64)
        patch.setattr(nest, "DEVICE_WHOLE", 64)
        for name, (forward, inputs, constructor) in _DEVICE_CASES.items():
            task = make_task(name, constructor, forward, inputs, HEAD)
            made = candidate(synthesise(task, dsl="triton", backend="cuda")[0], "triton", "cuda")
            assert "part" in made.code, "no row was cut"
            given[name] = (made.code, task.build(0)[1])
    for name, (forward, inputs) in _PRODUCTS.items():
        task = make_task(name, "", forward, inputs, HEAD)
        design = synthesise(task, dsl="triton", backend="cuda", precision="tf32x3")[0]
        made = candidate(design, "triton", "cuda")
        # Small products are not worth the cutting of their operands; here they are made to be.
        code = made.code.replace("worth=(1270, 400)", "worth=(0, 0)").replace("k < 64 or", "")
        assert code.count("_matmul(") == 2
        assert "worth=(0, 0)" in code
        given[name] = (code, task.build(0)[1])
        if name == "product_infinite":
            given["product_at_once"] = (made.code, given[name][1])
    torch.save(given, folder / "in.pt")
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(_RUN), folder / "in.pt", folder / "out.pt"],
        env={**os.environ, **get_dsl("triton").environment("cpu"), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return {name: inputs for name, (_, inputs) in given.items()}, torch.load(folder / "out.pt")


@interpreted
@pytest.mark.parametrize("name", [*_CASES, *_DEVICE_CASES, *_PRODUCTS, "product_at_once"])
def test_values_in_the_interpreter(outputs, name):
    import torch

    inputs, found = outputs
    constructor = _DEVICE_CASES[name][2] if name in _DEVICE_CASES else ""
    known = {**_CASES, **_DEVICE_CASES, **_PRODUCTS}
    forward, arguments = known[name if name in known else "product_infinite"][:2]
    module, _ = make_task(name, constructor, forward, arguments, HEAD).build(0)
    wanted = module(*inputs[name])
    for ours, theirs in zip(
        found[name], [wanted] if isinstance(wanted, torch.Tensor) else wanted, strict=True
    ):
        assert ours.dtype == theirs.dtype
        if not theirs.is_floating_point():
            assert torch.equal(ours, theirs)
            continue
        # Functions of the interpreter are accurate to some units of float32; bf16 rounds to 8 bits.
        unit = 2**-7 if theirs.dtype == torch.bfloat16 else 2e-5
        torch.testing.assert_close(ours, theirs, rtol=unit, atol=unit, equal_nan=True)


def test_chunks_fill_a_device_and_their_tiles_fill_the_chunks():
    """Train-mode batch normalisation at the benchmark's own size: 64 channels share 8192 programs."""
    task = make_task(
        "t", "self.b = nn.BatchNorm2d(64)", "return self.b(x)", ("torch.rand(64, 64, 512, 512)",), HEAD
    )
    sketch = synthesise(task, dsl="triton", backend="cuda")[0].sketch
    params = get_dsl("triton").defaults(sketch, "cuda")
    (chunk,) = (name for name in params if name.startswith("CHUNK"))
    assert params[chunk] == 512 * 512 * 64 // 8192
    assert params[chunk.replace("CHUNK", "TILE")] == params[chunk]
    code = candidate(synthesise(task, dsl="triton", backend="cuda")[0], "triton", "cuda").code
    assert f"tl.arange(0, {params[chunk]})" in code


def test_neighbouring_lanes_read_neighbouring_elements_of_far_windows():
    """With a stride of 11, 32 lanes of one output each touch 32 sectors; side by side they share."""
    from mlpapers.kernels.dsl.triton.window import block_of

    for stride, kernel in ((11, 11), (4, 3), (2, 3), (1, 4), (7, 1)):
        outputs_, lanes = block_of({"stride": (stride,), "kernel": (kernel,)})
        warp = np.arange(32)
        first = stride * (warp // lanes) + warp % lanes
        used = warp % lanes < kernel
        sectors = len({int(place) // 8 for place in first[used]})
        alone = len({int(place) // 8 for place in stride * np.arange(32)})
        assert sectors / used.sum() <= alone / 32
        assert outputs_ * lanes <= 1024
        assert lanes >= kernel or lanes == 1


@interpreted
def test_verification_never_reports_a_speed_up_of_the_interpreter():
    task = next(task for task in mini_bench() if task.name == "conv_relu_hardswish")
    code = candidate(synthesise(task)[0], "triton", "cpu").code
    verdict = verify(task, code, dsl="triton", backend="cpu", n_correct=1, random_state=0)
    assert verdict.ok, verdict.report.error
    assert verdict.timing_mode == "interpreted"
    assert np.isnan(verdict.speedup)


@interpreted
def test_wrong_shapes_and_types_are_refused(tmp_path):
    code = candidate(design_of("return torch.softmax(x, -1)"), "triton", "cpu").code
    script = """
    import json, sys, torch
    from mlpapers.kernels.kernel import Kernel
    model = Kernel(open(sys.argv[1]).read(), "triton", "cpu", None).load()()
    said = []
    for x in (torch.rand(19, 131), torch.rand(19, 130).double()):
        try:
            model(x)
        except (ValueError, TypeError) as error:
            said.append(f"{type(error).__name__}: {error}")
    print(json.dumps(said))
    """
    (tmp_path / "kernel.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path / "kernel.py"],
        env={**os.environ, **get_dsl("triton").environment("cpu")},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    shape, kind = json.loads(done.stdout)
    assert shape.startswith("ValueError: x must have the shape (19, 130)")
    assert kind.startswith("TypeError: x must be f32")
