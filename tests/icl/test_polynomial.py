"""Attention polynomials: brute force by matrices, degree, rank, real factors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.icl import (
    attention_degree,
    attention_manifold_dim,
    attention_polynomial,
    evaluate_attention_polynomial,
    factor_label_polynomial,
    is_label_expressible,
    jacobian_rank,
)

gains = st.floats(-1.5, 1.5).map(lambda value: value + np.copysign(0.1, value))


@given(st.data(), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_coefficients_are_those_of_the_layers(data, L):
    a, b = (data.draw(st.lists(gains, min_size=L - 1, max_size=L - 1)) for _ in range(2))
    rng = np.random.default_rng(0)
    X, y, x = rng.normal(size=(4, 2)) / 3, rng.normal(size=4), rng.normal(size=2)
    coef = attention_polynomial(a, b, 0.7)
    assert len(coef) - 1 == attention_degree(L)
    G = X.T @ X
    expected = x @ sum(c * np.linalg.matrix_power(G, i) for i, c in enumerate(coef)) @ X.T @ y
    for gain_x, gain_y in zip(a, b):
        X, y, x = X + gain_x * X @ X.T @ X, y + gain_y * X @ X.T @ y, x + gain_x * X.T @ X @ x
    assert abs(0.7 * x @ X.T @ y - expected) <= 1e-10 * max(1.0, abs(expected))
    t = np.linspace(-1.0, 1.0, 7)
    values = np.polynomial.polynomial.polyval(t, coef)
    size = np.polynomial.polynomial.polyval(np.abs(t), np.abs(coef))
    assert (np.abs(evaluate_attention_polynomial(t, a, b, 0.7) - values) <= 1e-12 * size + 1e-14).all()


def test_degrees():
    assert [attention_degree(L) for L in range(1, 6)] == [0, 3, 12, 39, 120]
    label_only = attention_polynomial([0.0] * 3, [1.0, 2.0, 3.0])
    assert len(label_only) - 1 == 3
    assert np.abs(label_only - [1.0, 6.0, 11.0, 6.0]).max() < 1e-12


def test_feature_limit_is_one_monomial():
    # With gains to infinity, A / A(1) tends to t^(3^(L-1) - 1).
    for L in (2, 3):
        t = np.array([0.5, 0.9, 1.3])
        huge = [1e6] * (L - 1)
        ratio = evaluate_attention_polynomial(t, huge, [0.0] * (L - 1)) / evaluate_attention_polynomial(
            1.0, huge, [0.0] * (L - 1)
        )
        assert np.abs(ratio / t ** (3 ** (L - 1) - 1) - 1).max() < 1e-4


@pytest.mark.parametrize("L", [1, 2, 3, 4, 5, 6])
def test_dimension_of_the_family(L):
    rng = np.random.default_rng(L)
    for _ in range(5):
        a, b = rng.normal(size=(2, L - 1))
        assert jacobian_rank(a, b, rng.normal()) == attention_manifold_dim(L) == 2 * L - 1


def test_rank_is_that_of_finite_differences():
    rng = np.random.default_rng(3)
    theta = rng.normal(size=5)
    step = 1e-6

    def coef(v):
        return attention_polynomial(v[1:3], v[3:], v[0])

    J = np.array([(coef(theta + step * e) - coef(theta - step * e)) / (2 * step) for e in np.eye(5)])
    singular = np.linalg.svd(J / np.linalg.norm(J, axis=1, keepdims=True), compute_uv=False)
    assert jacobian_rank(theta[1:3], theta[3:], theta[0]) == (singular > 1e-6 * singular[0]).sum() == 5
    # For c = 0 no gain moves A = 0, at any depth.
    assert [jacobian_rank([0.3] * n, [0.2] * n, 0.0) for n in range(6)] == [1] * 6


@given(st.lists(st.floats(-3, 3), min_size=0, max_size=5), st.floats(0.1, 5.0))
@settings(max_examples=60)
def test_real_factors_come_back(factors, c):
    coef = c * np.poly(-np.array(factors)) if factors else np.array([c])
    assert is_label_expressible(coef, len(factors) + 1)
    c_back, back = factor_label_polynomial(coef)
    rebuilt = c_back * np.poly(-back) if len(back) else np.array([c_back])
    trimmed = np.polynomial.polynomial.polytrim(coef)
    assert np.abs(rebuilt - trimmed).max() <= 1e-8 * np.abs(coef).max()


def test_multiple_roots_are_real():
    c, back = factor_label_polynomial(np.poly([-2.0] * 5))
    assert c == 1.0
    assert np.abs(back - 2.0).max() < 1e-2
    assert is_label_expressible(np.poly([-2.0] * 5), 6)


@given(st.floats(-2, 2), st.floats(0.05, 2.0), st.lists(st.floats(-2, 2), max_size=3))
@settings(max_examples=60)
def test_complex_pairs_are_refused(re, im, others):
    pair = np.polynomial.polynomial.polyfromroots([re + 1j * im, re - 1j * im]).real
    coef = np.polynomial.polynomial.polymul(pair, np.poly(-np.array(others)) if others else [1.0])
    assert not is_label_expressible(coef, 9)


def test_what_layers_cannot_express():
    assert not is_label_expressible([1.0, 3.0, 2.0], 2)
    assert is_label_expressible([1.0, 3.0, 2.0], 3)
    assert not is_label_expressible([0.0, 1.0], 3)
    with pytest.raises(ValueError, match=r"P\(0\)"):
        factor_label_polynomial([0.0, 1.0])
    with pytest.raises(ValueError, match="real roots"):
        factor_label_polynomial([1.0, 0.0, 1.0])


@given(st.floats(0.0, 1.0), st.floats(0.2, 2.0), st.integers(1, 100))
def test_first_semi_supervised_plug_in_is_two_layers(mixing, sigma, n):
    # alpha + (1 - alpha)(t/n - sigma^2) = c (1 + c_1 t)
    c = mixing - (1 - mixing) * sigma**2
    if abs(c) < 1e-3:
        return
    coef = [c, (1 - mixing) / n]
    back, factors = factor_label_polynomial(coef)
    assert back == c
    if mixing < 1:
        assert abs(factors[0] - (1 - mixing) / (n * c)) <= 1e-12 * abs(factors[0])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("same length", lambda: attention_polynomial([1.0], [])),
        ("b ", lambda: attention_polynomial([1.0], [np.nan])),
        ("finite coefficients", lambda: attention_polynomial([1e200, 1e200], [1e200, 1e200])),
        ("L ", lambda: attention_degree(0)),
        ("tol", lambda: jacobian_rank([1.0], [1.0], tol=0.0)),
        ("coef", lambda: is_label_expressible([], 2)),
        ("n_layers", lambda: is_label_expressible([1.0], 0)),
    ],
)
def test_bad_arguments_are_named(name, call):
    with pytest.raises(ValueError, match=name):
        call()
