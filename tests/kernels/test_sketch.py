"""Sketches: text form, rules, and the reference interpreter."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.sketch import Alloc, Compute, For, Load, Sketch, SketchError, Store, Tensor

ROW_SUM = """sketch row_sum
symbol n0 = size(x, 0)
constexpr TILE = 4
tensor x[n0, 7]: f32 input 0 x
tensor out[n0]: f32 output
view v[n0, 7] = x strides [7, 1] offset 0
template reduce
@llm_hint(parallel, coreidx)
for p in range(0, n0, 1):
    s = alloc([], f64, accumulator, fastest, init=0.0)
    @llm_hint(vectorize, simd)
    for r in range(0, 7, TILE):
        load(v[p, r:r+TILE] -> a)
        mul(a, 2.0 -> b: f32)
        reduce_sum(b -> s)
    cast(s -> y: f32)
    store(y -> out[p])
result tensor (out)
"""


def test_text_and_sketch_undo_each_other():
    sketch = Sketch.parse(ROW_SUM)
    assert sketch.to_text() == ROW_SUM
    assert Sketch.parse(sketch.to_text()) == sketch


def test_the_interpreter_runs_loops_with_a_last_short_tile():
    x = np.arange(21, dtype=np.float32).reshape(3, 7)
    (out,) = Sketch.parse(ROW_SUM).validate().interpret([x])
    np.testing.assert_allclose(out, 2 * x.sum(1))


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("load(v[p, r:r+TILE] -> a)", "load(w[p, r:r+TILE] -> a)", 13, "undeclared tensor 'w'"),
        ("load(v[p, r:r+TILE] -> a)", "load(v[p] -> a)", 13, "rank 2"),
        ("mul(a, 2.0 -> b: f32)", "frobnicate(a -> b: f32)", 14, "unknown operation"),
        ("mul(a, 2.0 -> b: f32)", "mul(a -> b: f32)", 14, "takes 2 operands"),
        ("mul(a, 2.0 -> b: f32)", "mul(a, c -> b: f32)", 14, "unknown tile 'c'"),
        ("reduce_sum(b -> s)", "reduce_sum(b -> z)", 15, "no accumulator"),
        ("for r in range(0, 7, TILE):", "for p in range(0, 7, TILE):", 12, "in use"),
        ("@llm_hint(parallel, coreidx)", "@llm_hint(parallel, moon)", 9, "unknown hint"),
        ("fastest", "lightning", 10, "unknown storage hint"),
        ("result tensor (out)", "result tensor (gone)", 18, "undeclared result"),
    ],
)
def test_rules_name_line_and_column(old, new, line, message):
    with pytest.raises(SketchError, match=message) as caught:
        Sketch.parse(ROW_SUM.replace(old, new)).validate()
    assert caught.value.line == line
    assert caught.value.col >= 1


@pytest.mark.parametrize(
    "text",
    ["", "sketch a\n  load(x -> y)\n", "sketch a\nwhat is this\n", "sketch a\n@llm_hint(parallel, simd)\n"],
)
def test_text_that_is_no_sketch(text):
    with pytest.raises(SketchError):
        Sketch.parse(text)


@given(
    width=st.integers(1, 40),
    tile=st.integers(1, 16),
    op=st.sampled_from(["reduce_sum", "reduce_amax", "reduce_amin", "reduce_prod"]),
    seed=st.integers(0, 99),
)
def test_reductions_do_not_depend_on_the_tile(width, tile, op, seed):
    init = {"reduce_sum": "0.0", "reduce_amax": "-inf", "reduce_amin": "inf", "reduce_prod": "1.0"}[op]
    body = (
        Alloc("s", (), "f64", ("accumulator",), init),
        For("r", "0", str(width), "TILE", (), (Load("x", ("r:r+TILE",), "a"), Compute(op, ("a",), ("s",)))),
        Compute("cast", ("s",), ("y",), "f64"),
        Store("y", "out", ()),
    )
    tensors = (Tensor("x", (str(width),), "f64", "input", "0 x"), Tensor("out", (), "f64", "output"))
    sketch = Sketch("r", (), (("TILE", tile),), tensors, (), body, ("out",))
    assert Sketch.parse(sketch.to_text()) == sketch
    x = np.random.default_rng(seed).uniform(0.5, 1.5, width)
    wanted = {"reduce_sum": np.sum, "reduce_amax": np.max, "reduce_amin": np.min, "reduce_prod": np.prod}[op](
        x
    )
    np.testing.assert_allclose(sketch.validate().interpret([x])[0], wanted, rtol=1e-12)


@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_moments_merge_to_those_of_the_whole(cuts, seed):
    x = 1e3 + np.random.default_rng(seed).standard_normal(sum(cuts))
    body = [Alloc(name, (), "f64", ("accumulator",), "0.0") for name in ("m", "q", "n")]
    start = 0
    for k, size in enumerate(cuts):
        inner = (
            Load("x", (f"r{k}:r{k}+{size}",), f"a{k}"),
            Compute("reduce_moments", (f"a{k}",), ("m", "q", "n")),
        )
        body.append(For(f"r{k}", str(start), str(start + size), str(size), (), inner))
        start += size
    body += [Store("m", "mean", ()), Store("q", "square", ())]
    tensors = (
        Tensor("x", (str(start),), "f64", "input", "0 x"),
        Tensor("mean", (), "f64", "output"),
        Tensor("square", (), "f64", "output"),
    )
    sketch = Sketch("m", (), (), tensors, (), tuple(body), ("mean", "square"), "tuple")
    mean, square = sketch.interpret([x])
    # Rounding of n terms of size 1e3; the squared deviations inherit it times the deviation.
    np.testing.assert_allclose(mean, x.mean(), rtol=1e-14)
    np.testing.assert_allclose(square, ((x - x.mean()) ** 2).sum(), atol=1e-10 * start)
