"""The TileLang language: what is rendered, what its own check refuses, and values where it is installed."""

import importlib.util

import pytest
import torch

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl import BuildError, get_dsl
from mlpapers.kernels.dsl.tilelang.maths import constant, expression
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.ops import POINTWISE
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise
from mlpapers.kernels.verify.static import static_check

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
TASK = make_task("t", "", "return torch.softmax(x, -1)", ("torch.randn(9, 130)",), HEAD)


def test_a_thread_per_grid_point_or_one_more_loop():
    design = synthesise(TASK)[0]
    language = get_dsl("tilelang")
    device, serial = (candidate(design, "tilelang", backend).code for backend in ("cuda", "cpu"))
    assert "T.get_thread_binding(0)" in device
    assert "T.get_thread_binding(0)" not in serial
    for code in (device, serial):
        assert code.count(language.loader) == 1
        assert not static_check(code, dsl="tilelang")
        assert language.check(code) == []
        assert language.build(code, None, "cpu") is None


def test_its_own_check():
    code = candidate(synthesise(TASK)[0], "tilelang", "cuda").code
    language = get_dsl("tilelang")
    assert language.check(code.replace("with T.Kernel(", "with T.Grid("))[0][0] == "tilelang_kernel"
    with pytest.raises(BuildError, match="no while"):
        language.build(code.replace("for r0 in T.serial(130):", "while True:", 1), None, "cuda")
    with pytest.raises(BuildError, match="no Python"):
        language.build("def", None, "cuda")
    with pytest.raises(ValueError, match="backend"):
        language.build(code, None, "tpu")
    assert not language.available("tpu")[0]
    assert not language.available("ascend")[0]


def test_every_elementwise_operation_has_an_expression():
    integers = {"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "shift_left", "shift_right"}
    for op, spec in POINTWISE.items():
        assert "a" in expression(op, ["a", "b", "c"][: spec.arity], "i64" if op in integers else "f32")
    assert constant("-inf", "f32") == 'T.float32(float("-inf"))'
    assert expression("pow", ["a", "T.float32(2.0)"], "f32") == "(a * a)"


@pytest.mark.skipif(importlib.util.find_spec("tilelang") is None, reason="tilelang is not installed")
def test_the_serial_subset_runs():
    code = candidate(synthesise(TASK)[0], "tilelang", "cpu").code
    x = torch.randn(9, 130)
    torch.testing.assert_close(Kernel(code, "tilelang", "cpu", TASK).load()()(x), torch.softmax(x, -1))
