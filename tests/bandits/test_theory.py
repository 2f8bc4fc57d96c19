"""Exponents, cells and features."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlpapers.bandits import default_cells, local_poly_features, theory_exponent


@pytest.mark.parametrize(
    ("k", "d", "expected"),
    [(1, 1, 2 / 3), (2, 1, 3 / 5), (3, 1, 4 / 7), (2, 2, 2 / 3), (3, 2, 5 / 8), (None, 7, 0.5)],
)
def test_exponents(k, d, expected):
    assert theory_exponent(k, d) == pytest.approx(expected, rel=1e-15)


@given(st.integers(1, 10**9), st.integers(1, 5), st.integers(1, 4))
@example(T=10**5, k=2, d=1)
@example(T=3**5, k=2, d=1)
def test_cells_are_the_smallest_whole_number_above_the_rate(T, k, d):
    J = default_cells(T, k, d)
    assert (J - 1) ** (2 * k + d) < T <= J ** (2 * k + d)


@pytest.mark.parametrize("power", [(1, 1), (2, 1), (3, 1), (1, 3), (2, 2)])
def test_cells_are_the_root_itself_where_it_is_whole(power):
    k, d = power
    for J in range(2, 60):
        assert default_cells(J ** (2 * k + d), k, d) == J


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
def test_features_span_the_polynomials_below_degree_k_without_constants(k, d, seed):
    rng = np.random.default_rng(seed)
    U = rng.uniform(-0.5, 0.5, (math.comb(d + k - 1, d) + 5, d))
    features = local_poly_features(U, k)
    assert features.shape[1] == math.comb(d + k - 1, d) - 1
    # (c + w.u)^(k-1) has all monomials of degree below k; up to its constant it must be reproduced.
    c, w = 0.7, rng.normal(size=d)
    values = (c + U @ w) ** (k - 1) - c ** (k - 1)
    if k == 1:
        assert not values.any()
        return
    coefficients = np.linalg.lstsq(features, values, rcond=None)[0]
    np.testing.assert_allclose(features @ coefficients, values, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: theory_exponent(0, 1), "k must"),
        (lambda: theory_exponent(1, 0), "d must"),
        (lambda: default_cells(0, 1, 1), "horizon"),
        (lambda: default_cells(10, 1, 1, scale=0.0), "scale"),
        (lambda: local_poly_features([0.1, 0.2], 2), "U must"),
        (lambda: local_poly_features([[0.1]], 0), "k must"),
    ],
)
def test_impossible_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
