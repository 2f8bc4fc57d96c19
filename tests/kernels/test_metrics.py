"""fast_p, the geometric mean and pass@k: definitions, invariances, brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.metrics import fast_p, geometric_mean, pass_at_k

speeds = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20)


@given(speeds, st.data())
def test_fast_p_falls_with_p(values, data):
    correct = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    shares = [fast_p(correct, values, p) for p in (0.0, 0.5, 1.0, 2.0, 1e4)]
    assert all(0 <= share <= 1 for share in shares)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == np.mean(correct)
    assert fast_p(correct, values, 1.0, strict=False) >= shares[2]


def test_fast_p_by_hand():
    assert fast_p([True, True, True, False], [1.0, 2.0, 0.5, math.nan]) == 0.25
    assert fast_p([True, True, True, False], [1.0, 2.0, 0.5, math.nan], strict=False) == 0.5
    # KernelBench divides by all problems, also those that nothing was tried for.
    assert fast_p([True], [2.0], n=4) == 0.25


@given(speeds, st.floats(1e-2, 1e2))
def test_geometric_mean_scales_and_inverts(values, factor):
    mean = geometric_mean(values)
    assert math.isclose(geometric_mean([factor * v for v in values]), factor * mean, rel_tol=1e-9)
    assert math.isclose(geometric_mean([1 / v for v in values]), 1 / mean, rel_tol=1e-9)
    assert min(values) * (1 - 1e-9) <= mean <= np.mean(values) * (1 + 1e-9)


def test_geometric_mean_of_nothing():
    assert math.isnan(geometric_mean([]))
    for wrong in ([0.0], [-1.0], [math.nan], [math.inf]):
        with pytest.raises(ValueError, match="positive"):
            geometric_mean(wrong)


@given(st.integers(1, 8), st.data())
def test_pass_at_k_counts_subsets(n, data):
    c = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    samples = [True] * c + [False] * (n - c)
    subsets = list(itertools.combinations(samples, k))
    assert math.isclose(pass_at_k(n, c, k), sum(map(any, subsets)) / len(subsets), abs_tol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fast_p([True], [1.0, 2.0]),
        lambda: fast_p([True], [0.0]),
        lambda: fast_p([True], [math.nan]),
        lambda: fast_p([], []),
        lambda: fast_p([True, True], [1.0, 1.0], n=1),
        lambda: fast_p([True], [1.0], p=-1.0),
        lambda: pass_at_k(3, 4, 1),
        lambda: pass_at_k(3, 1, 4),
        lambda: pass_at_k(0, 0, 1),
    ],
)
def test_wrong_values(call):
    with pytest.raises(ValueError, match="must"):
        call()
