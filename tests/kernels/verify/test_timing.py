"""Statistics of paired timings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.verify.timing import faster, paired_speedup

times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30)


@given(times, st.floats(0.01, 100))
def test_a_constant_ratio_has_no_interval(kernel, ratio):
    speedup, (low, high) = paired_speedup([ratio * k for k in kernel], kernel)
    assert math.isclose(speedup, ratio, rel_tol=1e-9)
    assert math.isclose(low, high, rel_tol=1e-9)


@given(times, st.floats(0.01, 100), st.floats(0.01, 100))
def test_scaling_the_clock_and_the_kernel(kernel, unit, factor):
    eager = [k**0.9 for k in kernel]
    speedup, interval = paired_speedup(eager, kernel)
    again, _ = paired_speedup([unit * e for e in eager], [unit * k for k in kernel])
    scaled, scaled_interval = paired_speedup([factor * e for e in eager], kernel)
    assert math.isclose(again, speedup, rel_tol=1e-9)
    assert math.isclose(scaled, factor * speedup, rel_tol=1e-9)
    assert np.allclose(scaled_interval, factor * np.array(interval), rtol=1e-9)
    assert interval[0] <= speedup <= interval[1] or math.isclose(interval[0], interval[1], rel_tol=1e-9)


def test_load_that_slows_both_cancels():
    rng = np.random.default_rng(0)
    load = rng.lognormal(sigma=1.0, size=200)
    speedup, (low, high) = paired_speedup(2.0 * load, load)
    assert (speedup, low, high) == pytest.approx((2.0, 2.0, 2.0))


def test_coverage_of_the_interval():
    """The 95 % interval of a median of 41 pairs covers the truth in about 95 % of the cases."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        ratio = rng.lognormal(mean=np.log(1.5), sigma=0.3, size=41)
        low, high = paired_speedup(ratio, np.ones(41), n_bootstrap=400, random_state=rng)[1]
        hits += low <= 1.5 <= high
    # Four standard deviations of a binomial below 0.94: a bootstrapped median is a little short.
    assert hits / 300 > 0.94 - 4 * math.sqrt(0.94 * 0.06 / 300)


def test_a_challenger_must_win_clearly():
    rng = np.random.default_rng(2)
    base = rng.lognormal(sigma=0.05, size=40)
    assert faster(0.8 * base, base)
    assert not faster(base * rng.lognormal(sigma=0.05, size=40), base)
    assert not faster(base, base)


@pytest.mark.parametrize(
    "bad", [([], []), ([1.0], [1.0, 2.0]), ([1.0], [0.0]), ([math.nan], [1.0]), ([[1.0]], [[1.0]])]
)
def test_bad_times(bad):
    with pytest.raises(ValueError, match="eager and kernel"):
        paired_speedup(*bad)


def test_bad_options():
    with pytest.raises(ValueError, match="confidence"):
        paired_speedup([1.0], [1.0], confidence=1.0)
    with pytest.raises(ValueError, match="n_bootstrap"):
        paired_speedup([1.0], [1.0], n_bootstrap=0)
