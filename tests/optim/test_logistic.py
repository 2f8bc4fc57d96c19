"""Compiled loops over the logistic loss: against the mathematical library, and against plain formulas."""

import math

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.optim._logistic import column_moments, logistic, pair_differences, sparse_moments


def reference(t):
    return math.log1p(math.exp(-abs(t))) - min(t, 0.0)


@settings(max_examples=300, deadline=None)
@given(t=st.floats(-1e6, 700.0))
def test_values_are_those_of_the_mathematical_library(t):
    # Exponential, quotient and the two polynomials are rounded, and the reference is as often.
    assert logistic(np.array([t]), np.array([1.0]))[0] == pytest.approx(reference(t), rel=8 * 2.3e-16)


def test_extremes():
    t = np.array([0.0, -0.0, 1e-300, 800.0, 1e308, -1e308, np.inf, -np.inf, np.nan])
    values = logistic(t, np.ones(len(t)))
    assert values[:3].tolist() == [math.log(2.0)] * 3
    # What would be subnormal or 0 is the least power that the loops know, e^-708.
    assert (values[[3, 4, 6]] <= 1.001 * math.exp(-708.0)).all()
    assert values[5] == 1e308
    assert values[7] == np.inf
    assert np.isnan(values[8])


@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 1300])
def test_a_value_has_the_same_bits_wherever_it_stands(size):
    rng = np.random.default_rng(size)
    m, y = 5.0 * rng.normal(size=size), np.sign(rng.normal(size=size))
    whole = logistic(m, y)
    np.testing.assert_array_equal(whole, [logistic(m[i : i + 1], y[i : i + 1])[0] for i in range(size)])
    np.testing.assert_array_equal(logistic(np.array([m, m]).T, y[:, None])[:, 1], whole)


@pytest.mark.parametrize("n", [1, 511, 512, 1300])
@pytest.mark.parametrize("drawn", [None, 0.05, 0.6])
def test_moments_are_those_of_the_differences(n, drawn):
    rng = np.random.default_rng(n)
    d, step = 6, 0.1
    A = rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.7)
    A[:, 2] = 0.0
    m, y, k = rng.normal(size=n), np.sign(rng.normal(size=n)), np.array([4, 2, 0, 4])
    rows = np.arange(n) if drawn is None else np.sort(rng.choice(n, max(1, int(drawn * n)), replace=False))
    base = logistic(m[rows], y[rows])
    table = np.array([[reference((m[i] + step * A[i, j]) * y[i]) for i in rows] for j in k]) - base
    expected = [table.mean(axis=1), (table * table).mean(axis=1)]
    some = rows[:0] if drawn is None else rows
    columns = np.ascontiguousarray(A.T).reshape(-1)
    found = [column_moments(columns, 1, n, k, some, m[rows], y[rows], base, step)]
    if drawn is not None:
        found.append(column_moments(A.reshape(-1), d, 1, k, rows, m[rows], y[rows], base, step))
    sparse, values = scipy.sparse.csc_array(A), np.full(n, np.nan)
    values[rows] = base
    times = np.bincount(rows, minlength=n).astype(float)
    found.append(sparse_moments(sparse.indptr, sparse.indices, sparse.data, k, times, m, y, values, step))
    for moments in found:
        # Sums of n terms of order 1, each with a few roundings.
        np.testing.assert_allclose(moments, expected, rtol=0.0, atol=20 * 2.3e-16)
        # A column of zeros changes nothing at all: values have the same bits in all loops.
        assert moments[0][1] == moments[1][1] == 0.0


def test_functions_drawn_twice_count_twice():
    A = scipy.sparse.csc_array(np.array([[1.0], [2.0], [0.0]]))
    m, y = np.array([0.3, -0.2, 1.0]), np.ones(3)
    base = logistic(m, y)
    mean, square = sparse_moments(
        A.indptr, A.indices, A.data, np.array([0]), np.array([2.0, 1.0, 1.0]), m, y, base, 1.0
    )
    changes = np.array([reference(1.3) - reference(0.3), reference(1.8) - reference(-0.2), 0.0])
    assert mean[0] == pytest.approx((2.0 * changes[0] + changes[1]) / 4.0)
    assert square[0] == pytest.approx((2.0 * changes[0] ** 2 + changes[1] ** 2) / 4.0)


def test_pairs_have_their_own_slopes():
    rng = np.random.default_rng(0)
    m, y, idx = rng.normal(size=5), np.sign(rng.normal(size=5)), rng.integers(0, 5, 900)
    a = np.where(rng.random(900) < 0.5, rng.normal(size=900), 0.0)
    base = logistic(m, y)[idx]
    found = pair_differences(m, y, idx, a, 0.1, base)
    expected = [reference((m[i] + 0.1 * slope) * y[i]) - reference(m[i] * y[i]) for i, slope in zip(idx, a)]
    np.testing.assert_allclose(found, expected, rtol=0.0, atol=20 * 2.3e-16)
    assert (found[a == 0.0] == 0.0).all()
