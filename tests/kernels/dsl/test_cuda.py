"""The CUDA language: what is rendered, that it builds, and its values by emulation on the processor."""

import shutil

import pytest
import torch

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import BuildError, get_dsl
from mlpapers.kernels.dsl.cuda.emulate import emulated
from mlpapers.kernels.dsl.cuda.maths import constant, expression
from mlpapers.kernels.ops import POINTWISE
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.verify.static import static_check

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
compiled = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
built = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")


def source(forward="return torch.softmax(x, -1)", inputs=("torch.randn(9, 130)",), **params):
    task = make_task("t", "", forward, inputs, HEAD)
    return candidate(synthesise(task)[0], "cuda", "cuda", params).code


def test_sources_contain_the_loader_once_and_no_headers():
    code = source()
    assert code.count(get_dsl("cuda").loader) == 1
    assert "#include" not in code
    assert "fast_math" not in code
    assert not static_check(code, dsl="cuda")


def test_it_serves_gpus_and_says_what_is_missing():
    language = get_dsl("cuda")
    available, reason = language.available("cuda")
    assert available == torch.cuda.is_available()
    assert available or reason
    assert not language.available("cpu")[0]
    with pytest.raises(ValueError, match="backend"):
        language.space(
            synthesise(make_task("t", "", "return x * 2", ("torch.rand(9)",), HEAD))[0].sketch, "cpu"
        )


def test_every_elementwise_operation_has_an_expression():
    integers = {"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "shift_left", "shift_right"}
    for op, spec in POINTWISE.items():
        assert "a" in expression(op, ["a", "b", "c"][: spec.arity], "i64" if op in integers else "f32")
    assert constant("-inf", "f32") == "(-M_INF)"
    assert constant(str(-(2**63)), "i64") == "(-0x7fffffffffffffffll - 1)"


@built
def test_sources_build_for_the_default_architecture_and_are_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPAPERS_KERNEL_CUDA_ARCH", "sm_90")
    language, code = get_dsl("cuda"), source()
    first = language.build(code, tmp_path, "cuda")
    assert first.read_bytes()[:4] == b"\x7fELF"
    stamp = first.stat().st_mtime_ns
    assert language.build(code, tmp_path, "cuda").stat().st_mtime_ns == stamp
    with pytest.raises(BuildError, match="error"):
        language.build(code.replace("threadIdx.x", "threadIdx.nowhere"), tmp_path, "cuda")


def test_a_source_without_its_text_is_refused(tmp_path):
    with pytest.raises(BuildError, match="_CUDA"):
        get_dsl("cuda").build("class ModelNew:\n    pass", tmp_path, "cuda")


# Several threads per column and per row, nan, first of equal extremes, carries over blocks, half precision.
_CASES = {
    "rows": ("return torch.softmax(x, -1)", ("torch.randn(5, 333)",)),
    "columns": (
        "return x / torch.linalg.vector_norm(x, dim=1, keepdim=True), torch.argmin(x, 1)",
        ("torch.randint(-3, 3, (2, 37, 40)).float()",),
    ),
    "moments": ("return torch.var(x, dim=1), torch.var(x, dim=0)", ("100 + torch.randn(45, 333)",)),
    "chunks": (
        "return torch.argmax(x), (x > 4).any(), x.amin(1)",
        ("torch.where(torch.rand(70, 130) > 0.999, float('nan'), torch.rand(70, 130))",),
    ),
    "scans": ("return torch.cumsum(x, 1), torch.cumprod(1 + x / 9, 0)", ("torch.randn(3, 150)",)),
    "pool": (
        "return F.avg_pool2d(F.max_pool2d(x, 3, 2, 1), 2, ceil_mode=True)",
        ("torch.randn(2, 3, 17, 15)",),
    ),
    "half": (
        "return torch.tanh(x) * y",
        ("torch.randn(9, 70).to(torch.bfloat16)", "torch.randn(70).bfloat16()"),
    ),
}


@compiled
@pytest.mark.parametrize("name", _CASES)
def test_values_in_emulation(name, tmp_path):
    forward, inputs = _CASES[name]
    task = make_task(name, "", forward, inputs, HEAD)
    code = candidate(synthesise(task)[0], "cuda", "cuda", {"THREADS": 64}).code
    module, given = task.build(0)
    wanted, found = module(*given), emulated(code, tmp_path)()(*given)
    for ours, theirs in zip(
        *([out] if isinstance(out, torch.Tensor) else list(out) for out in (found, wanted)), strict=True
    ):
        assert ours.dtype == theirs.dtype
        if not theirs.is_floating_point():
            assert torch.equal(ours, theirs)
        else:
            unit = 2**-7 if theirs.dtype == torch.bfloat16 else 1e-5
            torch.testing.assert_close(ours, theirs, rtol=unit, atol=unit, equal_nan=True)


def test_arguments_must_have_the_shape_the_kernel_was_written_for(tmp_path):
    model = emulated(source(), tmp_path)()
    with pytest.raises(ValueError, match=r"x must have the shape \(9, 130\); got \(9, 131\)"):
        model(torch.rand(9, 131))
    with pytest.raises(TypeError, match="x must be f32"):
        model(torch.rand(9, 130).double())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_values_on_the_gpu():
    from mlpapers.kernels.claims._gpu import excess, on_gpu

    for name, (forward, inputs) in _CASES.items():
        module, ours, given = on_gpu("cuda", make_task(name, "", forward, inputs, HEAD))
        pairs = (
            [out] if isinstance(out, torch.Tensor) else list(out) for out in (module(*given), ours(*given))
        )
        for wanted, found in zip(*pairs, strict=True):
            if wanted.is_floating_point() and wanted.dtype != torch.bfloat16:
                assert excess(wanted.nan_to_num(), found.nan_to_num(), wanted.nan_to_num()) <= 1
