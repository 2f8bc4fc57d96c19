"""The Gaussian mechanism against its definition by integration and against simulation-free identities."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from mlpapers.unlearning import (
    gaussian_mechanism_delta,
    gaussian_mechanism_epsilon,
    gaussian_mechanism_ratio,
    mechanism,
)
from mlpapers.unlearning.mechanism import epsilon_of_shift, strict_epsilon, strict_residual


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("s", [0.05, 0.5, 2.0, 6.0])
def test_delta_is_the_hockey_stick_divergence(epsilon, s):
    def excess(x):
        return max(norm.pdf(x, loc=s) - math.exp(epsilon) * norm.pdf(x), 0.0)

    start = epsilon / s + s / 2
    expected = quad(excess, start, start + 45.0, epsabs=1e-13, epsrel=1e-11, limit=400)[0]
    assert gaussian_mechanism_delta(epsilon, s) == pytest.approx(expected, rel=1e-7, abs=1e-13)


@given(st.floats(0.01, 20.0), st.floats(0.01, 20.0), st.floats(0.01, 5.0))
def test_delta_falls_with_epsilon_and_rises_with_the_shift(epsilon, more, s):
    delta = gaussian_mechanism_delta(epsilon, s)
    assert 0.0 <= delta <= 1.0
    assert gaussian_mechanism_delta(epsilon + more, s) <= delta
    assert gaussian_mechanism_delta(epsilon, s + more) >= delta


@given(st.floats(0.01, 20.0), st.floats(1e-10, 0.9))
def test_ratio_and_epsilon_invert_delta(epsilon, delta):
    ratio = gaussian_mechanism_ratio(epsilon, delta)
    assert gaussian_mechanism_delta(epsilon, 1.0 / ratio) <= delta
    assert gaussian_mechanism_delta(epsilon, 1.0 / (ratio * (1 - 1e-9))) > delta
    # epsilon(delta) is the inverse in the other argument.
    assert gaussian_mechanism_epsilon(delta, 1.0 / ratio) == pytest.approx(epsilon, rel=1e-9, abs=1e-9)


def test_known_figures():
    assert gaussian_mechanism_ratio(1.0, 1e-2) == pytest.approx(1.8778756, abs=5e-8)
    classical = math.sqrt(2 * math.log(1.25 / 1e-2))
    assert classical == pytest.approx(3.1075, abs=5e-5)
    assert gaussian_mechanism_ratio(1.0, 1e-2) < classical
    assert gaussian_mechanism_delta(0.0, 0.0) == 0.0
    assert gaussian_mechanism_epsilon(1e-5, 0.0) == 0.0


def test_extremes():
    assert gaussian_mechanism_delta(1000.0, 0.1) == 0.0
    assert gaussian_mechanism_delta(0.0, 100.0) == pytest.approx(1.0)
    assert 0.0 < gaussian_mechanism_delta(50.0, 1.2) < 1e-300 or gaussian_mechanism_delta(50.0, 1.2) == 0.0
    assert epsilon_of_shift(1e-5, math.inf) == math.inf
    assert gaussian_mechanism_ratio(1e4, 1e-5) < 0.02
    large = gaussian_mechanism_epsilon(1e-5, 200.0)
    assert gaussian_mechanism_delta(large, 200.0) <= 1e-5


@pytest.mark.parametrize("delta", [1e-12, 1e-5, 1e-2, 0.5])
def test_far_shifts(delta, monkeypatch):
    far = np.geomspace(1e6, 1e308, 80).tolist()
    values = [epsilon_of_shift(delta, s) for s in far]
    assert all(small <= large for small, large in itertools.pairwise(values))
    # No shift costs less than its half square, which a delta of 1/2 would leave.
    assert all(value >= 0.5 * s * s for value, s in zip(values, far))
    closed = epsilon_of_shift(delta, 1.0001e6)
    monkeypatch.setattr(mechanism, "_FAR", math.inf)
    assert closed == pytest.approx(epsilon_of_shift(delta, 1.0001e6), rel=1e-9)


@pytest.mark.parametrize("delta", [1e-12, 1e-5, 1e-2, 0.5])
def test_epsilon_of_any_shift_is_found_by_newton_steps(delta, monkeypatch):
    def fail(*_):
        raise AssertionError("bisection was needed")

    monkeypatch.setattr(mechanism, "_bisected_epsilon", fail)
    for s in np.geomspace(1e-3, 300.0, 60):
        epsilon = epsilon_of_shift(delta, s)
        assert gaussian_mechanism_delta(epsilon, s) <= delta
        if epsilon > 0.0:
            assert gaussian_mechanism_delta(epsilon * (1.0 - 1e-8), s) > delta
        else:
            assert gaussian_mechanism_delta(0.0, s) <= delta


@given(
    st.floats(0.1, 5.0), st.floats(0.1, 10.0), st.integers(1, 500), st.floats(1e-8, 0.1), st.floats(0.0, 0.09)
)
def test_strict_residual_inverts_strict_epsilon(epsilon, sigma, n_parameters, delta, slack):
    rho = strict_residual(epsilon, sigma, n_parameters, delta, slack)
    assert strict_epsilon(rho, sigma, n_parameters, delta, slack) == pytest.approx(epsilon, rel=1e-12)


def test_strict_epsilon_bounds_the_log_ratio_of_shifted_noise():
    """Whatever the direction of u, the log-ratio exceeds the bound no more often than delta."""
    rng = np.random.default_rng(0)
    sigma, rho, d, delta = 1.5, 0.2, 6, 0.05
    b = rng.normal(scale=sigma, size=(200_000, d))
    u = rho * b / np.linalg.norm(b, axis=1, keepdims=True)  # along the noise, the worst case
    log_ratio = ((b + u) ** 2 - b**2).sum(axis=1) / (2 * sigma**2)
    share = np.mean(log_ratio > strict_epsilon(rho, sigma, d, delta, 0.0))
    assert share <= delta
    assert strict_epsilon(rho, 0.0, d, delta, 0.0) == math.inf
    assert strict_epsilon(0.0, 0.0, d, delta, 0.0) == 0.0
    assert strict_residual(1.0, sigma, d, delta, 2.0) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian_mechanism_delta(-1.0, 1.0), "epsilon"),
        (lambda: gaussian_mechanism_delta(1.0, -1.0), "sensitivity_over_sigma"),
        (lambda: gaussian_mechanism_epsilon(0.0, 1.0), "delta"),
        (lambda: gaussian_mechanism_epsilon(1.0, 1.0), "delta"),
        (lambda: gaussian_mechanism_ratio(0.0, 0.1), "epsilon"),
        (lambda: gaussian_mechanism_ratio(1.0, 1.5), "delta"),
    ],
)
def test_out_of_range_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
