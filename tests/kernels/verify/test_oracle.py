"""The acceptance rule: accepts what is as accurate as eager, rejects what only looks close."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.verify.oracle import compare


def judge(eager, oracle, candidate, **options):
    return compare([eager], [oracle], [candidate], **options)


def test_zero_passes_allclose_where_values_are_small_and_fails_here():
    q = 2.5e-6 * torch.rand(64, 100, dtype=torch.float64)
    r = q.float()
    zero = judge(r, q, torch.zeros_like(r))
    assert zero.kernelbench_ok
    assert not zero.ok
    assert judge(r, q, r.clone()).ok


def test_uniform_softmax_fails():
    x = torch.rand(8, 40960, dtype=torch.float64)
    q = x.softmax(1)
    r = x.float().softmax(1)
    uniform = torch.full_like(r, 1 / 40960)
    assert judge(r, q, uniform).kernelbench_ok
    assert not judge(r, q, uniform).ok
    shifted = (x.float() - 3).softmax(1)
    assert judge(r, q, shifted).ok


def test_a_more_accurate_cumsum_than_eager_passes():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 32768, generator=generator)
    q = x.double().cumsum(1)
    # Sequential in float32 has errors that grow with the square root of the length; blocks do better.
    sequential = torch.empty_like(x)
    total = torch.zeros(8)
    for j in range(x.shape[1]):
        total = total + x[:, j]
        sequential[:, j] = total
    exact = q.float()
    found = judge(sequential, q, exact)
    assert found.oracle_ok
    assert found.err_ratio < 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_in_half_precision_fail(dtype):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.rand(96, 96, generator=generator) for _ in range(2))
    q = a.double() @ b.double()
    low = a.to(dtype).float() @ b.to(dtype).float()
    found = judge(a @ b, q, low)
    assert not found.ok
    assert found.low_precision
    # Split into three parts, the same format is accurate enough.
    high = [a.to(dtype).float(), b.to(dtype).float()]
    rest = [a - high[0], b - high[1]]
    three = high[0] @ high[1] + (high[0] @ rest[1] + rest[0] @ high[1]) + rest[0] @ rest[1]
    assert judge(a @ b, q, three).ok


@given(st.integers(0, 10_000), st.floats(-8, 8))
def test_eager_and_oracle_always_pass(seed, exponent):
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(7, 11, dtype=torch.float64, generator=generator) * 10**exponent
    r = q.float()
    assert judge(r, q, r.clone()).ok
    scaled = judge(r, q, (1.01 * q).float())
    assert not scaled.ok


@given(st.integers(0, 10_000))
def test_scaling_everything_by_a_large_power_of_two_changes_nothing(seed):
    generator = torch.Generator().manual_seed(seed)
    q = 4 + torch.rand(5, 9, dtype=torch.float64, generator=generator)
    r = q.float()
    o = r * (1 + 1e-3 * torch.rand(5, 9, generator=generator) * (seed % 2))
    # From rms >= 1 on, s is 1, so the elementwise rule may only become stricter.
    small, large = judge(r, q, o), judge(r * 8, q * 8, o * 8)
    assert small.oracle_ok == large.oracle_ok
    assert small.tol_ok or not large.tol_ok
    assert math.isclose(small.err_ratio, large.err_ratio, rel_tol=1e-9, abs_tol=1e-12)


def test_nan_and_infinity_must_be_where_eager_has_them():
    r = torch.tensor([1.0, math.nan, math.inf, -math.inf])
    q = r.double()
    assert judge(r, q, r.clone()).ok
    for wrong in ([1.0, 0.0, math.inf, -math.inf], [1.0, math.nan, math.inf, math.inf], [math.nan] * 4):
        found = judge(r, q, torch.tensor(wrong))
        assert not found.ok
        assert "nan or infinity" in found.error
    nothing = torch.full((3,), math.nan)
    assert judge(nothing, nothing.double(), nothing.clone()).ok


def test_shape_dtype_and_number_of_outputs():
    r = torch.rand(3, 4)
    q = r.double()
    assert "shape" in judge(r, q, r.t()).error
    assert "dtype" in judge(r, q, q).error
    assert "2 outputs" in compare([r, r], [q, q], [r]).error
    found = compare([r, r], [q, q], [r, r + 1])
    assert found.error.startswith("output 1")
    # Strides are free, and errors never show what was expected.
    assert judge(r.t(), q.t(), r.t().contiguous()).ok
    assert str(round(float(r[0, 0]), 4)) not in found.error


def test_indices_may_differ_only_where_values_tie():
    x = torch.tensor([[1.0, 3.0, 3.0, 0.0], [5.0, 1.0, 2.0, 4.0]])
    r = x.argmax(1)
    tied, wrong = torch.tensor([2, 0]), torch.tensor([0, 0])
    assert judge(r, r, tied, inputs=[x]).ok
    assert not judge(r, r, wrong, inputs=[x]).ok
    assert not judge(r, r, tied).ok
    kept = x.argmax(1, keepdim=True)
    assert judge(kept, kept, tied[:, None], inputs=[x]).ok
    flags = x > 2
    assert judge(flags, flags, flags.clone()).ok
    assert not judge(flags, flags, ~flags, inputs=[x]).ok


def test_rtol_is_checked():
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="rtol"):
            judge(torch.ones(1), torch.ones(1), torch.ones(1), rtol=wrong)
    off = torch.full((4,), 1.01)
    assert judge(torch.ones(4), torch.ones(4).double(), off, rtol=0.1).ok


def test_zero_dimensional_and_empty_outputs():
    r = torch.tensor(2.5)
    assert judge(r, r.double(), r.clone()).ok
    assert not judge(r, r.double(), r + 1).ok
    empty = torch.empty(0, 3)
    assert judge(empty, empty.double(), empty.clone()).ok
