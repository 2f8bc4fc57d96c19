"""The oracle protocol: results, a simulator as oracle, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.bandits import (
    ComparisonOracle,
    ComparisonOracleFromSimulator,
    ComparisonResult,
    ConcaveFunctionEnv,
    required_periods,
)


@given(
    st.integers(2, 10**6), st.floats(0, 10), st.floats(0.01, 10), st.floats(1e-6, 0.4), st.floats(1.01, 2.0)
)
def test_width_is_the_bound_and_falls_in_n_and_delta(n, gamma1, gamma2, delta, factor):
    result = ComparisonResult(0.0, n, n - n // 2, n // 2, gamma1, gamma2)
    assert result.width(delta) == pytest.approx(math.sqrt((gamma1 - gamma2 * math.log(delta)) / n), rel=1e-12)
    assert result.width(delta * factor) < result.width(delta)
    longer = ComparisonResult(0.0, 2 * n, n, n, gamma1, gamma2)
    assert longer.width(delta) == pytest.approx(result.width(delta) / math.sqrt(2), rel=1e-12)


@given(st.floats(0, 10), st.floats(0, 10), st.floats(1e-3, 3.0), st.floats(1e-6, 0.99))
def test_required_periods_are_the_fewest_that_keep_the_error(gamma1, gamma2, max_error, delta):
    n = required_periods(max_error, delta, (gamma1, gamma2))
    assert n % 2 == 0
    assert ComparisonResult(0.0, n, n // 2, n // 2, gamma1, gamma2).width(delta) <= max_error * (1 + 1e-12)
    if n > 2:
        shorter = ComparisonResult(0.0, n - 2, n // 2 - 1, n // 2 - 1, gamma1, gamma2)
        assert shorter.width(delta) > max_error * (1 - 1e-12)
        assert shorter.required_periods(max_error, delta) == n


@pytest.mark.parametrize(
    ("max_error", "delta", "gamma", "match"),
    [
        (0.0, 0.1, (0.0, 1.0), "max_error"),
        (math.nan, 0.1, (0.0, 1.0), "max_error"),
        (0.1, 1.0, (0.0, 1.0), "delta"),
        (0.1, 0.1, (0.0, -1.0), "gamma"),
    ],
)
def test_impossible_errors_are_refused(max_error, delta, gamma, match):
    with pytest.raises(ValueError, match=match):
        required_periods(max_error, delta, gamma)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan])
def test_width_refuses_a_delta_outside_the_open_interval(delta):
    with pytest.raises(ValueError, match="delta"):
        ComparisonResult(0.0, 2, 1, 1, 0.0, 1.0).width(delta)


def test_simulator_is_an_oracle_that_counts_periods():
    calls = []

    def simulate(x, n):
        calls.append((x.copy(), n))
        return float(3.0 * x[0] - x[1])

    oracle = ComparisonOracleFromSimulator(simulate, 2, (0.5, 2.0), horizon=10)
    assert isinstance(oracle, ComparisonOracle)
    answer = oracle.compare([0.5, 0.0], [0.0, 1.0], 7)
    assert (answer.diff, answer.n_x, answer.n_xp, answer.n) == (2.5, 4, 3, 7)
    assert [n for _, n in calls] == [4, 3]
    assert (answer.gamma1, answer.gamma2) == (0.5, 2.0)
    assert oracle.play([1.0, 0.0], 1) == 3.0
    assert oracle.compare([0.0, 0.0], [1.0, 1.0], 100).n == 2
    assert oracle.compare([0.0, 0.0], [1.0, 1.0], 2) is None
    assert oracle.play([0.0, 0.0], 1) is None


@pytest.fixture(params=["simulator", "environment"])
def oracle(request):
    if request.param == "simulator":
        return ComparisonOracleFromSimulator(lambda x, _: float(x.sum()), 2, (0.0, 1.0))
    return ConcaveFunctionEnv(dim=2).reset(100, 0).as_oracle()


@pytest.mark.parametrize(
    ("x", "n", "match"),
    [
        ([0.5, 1.1], 4, r"x must lie in \[0, 1\]\^2"),
        ([0.5, -1e-8], 4, "x must lie"),
        ([0.5, math.nan], 4, "x must lie"),
        ([0.5], 4, r"x must have shape \(2,\)"),
        (["a", "b"], 4, "x must be an array"),
        ([0.5, 0.5], 1, "n must be an integer >= 2"),
        ([0.5, 0.5], 4.0, "n must be an integer"),
        ([0.5, 0.5], True, "n must be an integer"),
    ],
)
def test_impossible_queries_are_refused(oracle, x, n, match):
    before = oracle.remaining
    with pytest.raises(ValueError, match=match):
        oracle.compare(x, [0.5, 0.5], n)
    assert oracle.remaining == before


def test_a_point_that_rounding_moved_out_of_the_cube_is_moved_back(oracle):
    assert oracle.compare([1.0 + 1e-10, 0.5], [0.0, 0.0], 4) is not None


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((None, 1, (0, 1)), TypeError, "simulate"),
        ((len, 0, (0, 1)), ValueError, "dim"),
        ((len, 1, (0, -1)), ValueError, "gamma"),
        ((len, 1, 3), ValueError, "gamma"),
    ],
)
def test_simulator_arguments_are_checked(arguments, error, match):
    with pytest.raises(error, match=match):
        ComparisonOracleFromSimulator(*arguments)


def test_a_simulator_that_returns_nan_is_refused():
    oracle = ComparisonOracleFromSimulator(lambda *_: np.nan, 1, (0.0, 1.0))
    with pytest.raises(ValueError, match="simulate must return a finite number"):
        oracle.compare([0.1], [0.2], 4)
