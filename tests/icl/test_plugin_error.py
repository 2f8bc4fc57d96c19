"""Exact errors of the supervised plug-in and the limits: known values, simulation, bounds."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from mlpapers.icl import (
    bayes_error_asymptotic,
    infinite_context_error,
    label_value,
    spi_error,
    spi_error_random,
)


@pytest.mark.parametrize(
    ("m", "sigma", "d", "value"),
    [
        (10, 1.0, 10, 0.2407168046),
        (5, 0.5, 3, 0.0294978143),
        (1, 2.0, 1, 0.4266842518),
        (40, 1.5, 20, 0.3237033750),
    ],
)
def test_known_values(m, sigma, d, value):
    assert abs(spi_error(m, sigma, d) - value) < 1e-9


def brute_series(m, sigma, d):
    """The double sum of incomplete beta functions, every term by scipy."""
    halves = [(1 + sign * np.sqrt(m)) ** 2 / (4 * sigma**2) for sign in (1, -1)]
    j = np.arange(int(halves[0] + 60 * np.sqrt(halves[0] + 1)) + 60)
    k = np.arange(int(halves[1] + 60 * np.sqrt(halves[1] + 1)) + 60)
    beta = special.betainc(d / 2 + j[:, None], d / 2 + k[None, :], 0.5)
    return stats.poisson.pmf(j, halves[0]) @ beta @ stats.poisson.pmf(k, halves[1])


@given(st.integers(1, 60), st.floats(0.4, 3.0), st.integers(1, 15))
@settings(max_examples=25, deadline=None)
def test_recursion_is_the_double_series(m, sigma, d):
    exact = brute_series(m, sigma, d)
    # The weights of both sums are rounded once per term: relative 1e-12.
    assert abs(spi_error(m, sigma, d) - exact) <= 1e-12 * max(exact, 1e-12) + 1e-15


def test_error_of_simulated_plug_ins():
    rng = np.random.default_rng(0)
    m, sigma, d, tasks = 6, 0.8, 4, 40_000
    mu = np.eye(d)[0]
    estimate = mu + sigma / np.sqrt(m) * rng.standard_normal((tasks, d))
    conditional = special.ndtr(-estimate @ mu / (sigma * np.linalg.norm(estimate, axis=1)))
    assert abs(conditional.mean() - spi_error(m, sigma, d)) < 5 * conditional.std() / np.sqrt(tasks)


@pytest.mark.parametrize(("m", "sigma", "d"), [(10, 1.0, 10), (40, 1.5, 20), (3, 0.7, 2)])
def test_quadrature_is_a_cross_check(m, sigma, d):
    # The integrand has a kink where 1 + e g = 0 and h = 0, which limits Gaussian rules for small d.
    assert abs(spi_error(m, sigma, d, method="quadrature") - spi_error(m, sigma, d)) < 5e-5


def test_random_number_of_labels():
    assert abs(spi_error_random(50, 0.2, 1.0, 10) - 0.2442530588) < 1e-9
    weights = stats.binom.pmf(np.arange(7), 6, 0.3)
    mean = sum(w * spi_error(m, 0.9, 3) for m, w in enumerate(weights))
    assert abs(spi_error_random(6, 0.3, 0.9, 3) - mean) < 1e-12
    assert abs(spi_error_random(8, 1.0, 0.9, 3) - spi_error(8, 0.9, 3)) < 1e-12
    assert spi_error_random(8, 0.0, 0.9, 3) == pytest.approx(0.5, abs=1e-12)


@given(st.integers(1, 40), st.floats(0.3, 3.0))
def test_one_feature_has_the_infinite_context_error(m, sigma):
    # With d = 1 only the sign of the mean matters, whatever the number of unlabelled rows.
    assert abs(spi_error(m, sigma, 1) - infinite_context_error(m, sigma)) < 1e-11


@pytest.mark.parametrize(
    ("ratio", "p", "sigma", "value"),
    [
        (5, 0.2, 1.0, 0.1950054),
        (5, 1.0, 1.0, 0.1806553),
        (20, 0.05, 1.0, 0.1692356),
        (2, 0.1, 0.7, 0.1087617),
        (0.5, 0.1, 1.0, 0.3917308),
    ],
)
def test_state_evolution_values(ratio, p, sigma, value):
    assert abs(bayes_error_asymptotic(ratio, p, sigma) - value) < 1e-6


@given(st.floats(0.2, 30.0), st.floats(0.01, 0.99), st.floats(0.3, 2.0))
@settings(max_examples=40, deadline=None)
def test_bayes_error_lies_between_its_bounds(ratio, p, sigma):
    error = bayes_error_asymptotic(ratio, p, sigma)
    assert special.ndtr(-1 / sigma) <= error <= 0.5
    # More labels never hurt, and labels on all rows are the best that can be had.
    assert bayes_error_asymptotic(ratio, 1.0, sigma) <= error + 1e-9


@given(st.integers(5, 500), st.floats(0.02, 0.98), st.integers(1, 30), st.floats(0.3, 2.0))
@settings(max_examples=40, deadline=None)
def test_value_of_unlabelled_rows(n, p, d, sigma):
    extra = label_value(n, p, d, sigma)
    assert 0.0 <= extra <= n * (1 - p) + 1e-9
    # The plug-in with that many labels more has the Bayes error, in the same limit.
    ratio = (n * p + extra) / d
    q = (ratio / sigma**2) / (1 + ratio / sigma**2)
    assert abs(special.ndtr(-np.sqrt(q) / sigma) - bayes_error_asymptotic(n / d, p, sigma)) < 1e-9


def test_extremes():
    assert spi_error(0, 1.0, 5) == 0.5
    assert infinite_context_error(0, 1.0) == pytest.approx(0.5, abs=1e-15)
    assert spi_error(10_000, 1.0, 10) == pytest.approx(special.ndtr(-1.0), abs=2e-4)
    assert bayes_error_asymptotic(0.5, 0.0, 1.0) == 0.5


@pytest.mark.parametrize(("ratio", "sigma"), [(1.0, 1.0), (16.0, 2.0)])
def test_at_the_transition_nothing_is_learned_without_labels(ratio, sigma):
    # q_u -> r q_u / sigma^4 to first order: at r = sigma^4 the iteration creeps towards 0.
    assert bayes_error_asymptotic(ratio, 0.0, sigma) == 0.5


@pytest.mark.parametrize("excess", [1e-2, 1e-3, 1e-5])
def test_just_above_the_transition_accuracy_grows_linearly(excess):
    # To second order q = r q - 2 r^2 q^2 for sigma = 1; the next terms are of relative size `excess`.
    ratio = 1.0 + excess
    n = 10**6
    extra = label_value(round(n * ratio), 0.0, n, 1.0)
    assert extra / (n * ratio) == pytest.approx(excess / (2 * ratio**2), rel=5 * excess)


def test_memory_does_not_grow_with_the_number_of_terms():
    # With little noise the series has 16 million terms that count, 128 MB of numbers.
    tracemalloc.start()
    try:
        error = spi_error(1000, 0.1, 10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64e6
    assert error == pytest.approx(spi_error(1000, 0.1, 10, method="quadrature"), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("m ", lambda: spi_error(-1, 1.0, 2)),
        ("sigma", lambda: spi_error(1, 0.0, 2)),
        ("d ", lambda: spi_error(1, 1.0, 0)),
        ("method", lambda: spi_error(1, 1.0, 2, method="guess")),
        ("quadrature", lambda: spi_error(1, 1.0, 1, method="quadrature")),
        ("p ", lambda: spi_error_random(5, 1.1, 1.0, 2)),
        ("n ", lambda: spi_error_random(0, 0.5, 1.0, 2)),
        ("ratio", lambda: bayes_error_asymptotic(0.0, 0.5, 1.0)),
        ("sigma", lambda: infinite_context_error(3, -1.0)),
    ],
)
def test_bad_arguments_are_named(name, call):
    with pytest.raises(ValueError, match=name):
        call()
