"""Concave environments: functions, constants, noise and bias as stated."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.bandits import ConcaveFunctionEnv

GRID = np.linspace(0.0, 1.0, 2001)


@pytest.mark.parametrize(
    ("fn", "closed_form"),
    [
        ("quadratic", lambda z: -2.0 * z**2),
        ("logcosh", lambda z: -(0.5 * np.log(np.cosh(3 * z)) + 0.5 * z**2)),
        ("quartic", lambda z: -(2 * z**2 + 4 * z**4)),
    ],
)
def test_built_in_functions_and_their_constants(fn, closed_form):
    env = ConcaveFunctionEnv(fn, x_star=0.6)
    values = env.value(GRID[:, None])
    np.testing.assert_allclose(values, closed_form(GRID - 0.6), atol=1e-14)
    # Second differences lie between the constants, up to their own error h^2 max|f''''| / 12 and rounding.
    h = GRID[1]
    curvature = -(values[2:] - 2 * values[1:-1] + values[:-2]) / h**2
    assert curvature.min() >= env.sigma - 1e-3
    assert curvature.max() <= env.smoothness + 1e-3
    assert env.sigma == pytest.approx(curvature.min(), rel=0.02)
    assert env.f_star == 0.0


def test_bimodal_is_not_concave_and_has_its_maximum_at_three_tenths():
    env = ConcaveFunctionEnv("bimodal")
    values = env.value(GRID[:, None])
    assert GRID[np.argmax(values)] == pytest.approx(0.3)
    assert env.f_star == pytest.approx(0.0, abs=1e-15)
    assert env.sigma is None
    inner = (values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])
    assert inner.sum() == 2


def test_condition_spreads_the_curvatures():
    env = ConcaveFunctionEnv(dim=3, condition=4.0, x_star=[0.1, 0.5, 0.9])
    assert env.hints == {"sigma": 1.0, "smoothness": 4.0}
    z = np.array([0.3, -0.2, 0.05])
    expected = -0.5 * (4.0 * z[0] ** 2 + 2.5 * z[1] ** 2 + 1.0 * z[2] ** 2)
    assert env.value(np.array([0.1, 0.5, 0.9]) + z) == pytest.approx(expected, rel=1e-12)


@given(
    x=st.floats(0, 1),
    y=st.floats(0, 1),
    n=st.integers(2, 500),
    mode=st.sampled_from(["constant", "adversarial"]),
)
def test_without_noise_the_answer_is_difference_plus_stated_bias(x, y, n, mode):
    env = ConcaveFunctionEnv(noise=0.0, bias=0.3, bias_mode=mode).reset(1000, 0)
    gap = env.value([x]) - env.value([y])
    sign = 1.0 if mode == "constant" else -np.sign(gap)
    answer = env.compare([x], [y], n)
    assert answer.diff == pytest.approx(gap + sign * 0.3 / math.sqrt(n), abs=1e-12)
    regret = answer.n_x * -env.value([x]) + answer.n_xp * -env.value([y])
    assert env.regret_ == pytest.approx(regret, abs=1e-12)


@given(x=st.floats(0, 1), y=st.floats(0, 1))
def test_unbiased_noiseless_answers_are_antisymmetric(x, y):
    env = ConcaveFunctionEnv("quartic", noise=0.0).reset(100, 0)
    assert env.compare([x], [y], 10).diff == -env.compare([y], [x], 10).diff


def test_noise_has_the_stated_variance_and_the_bound_covers():
    env = ConcaveFunctionEnv(noise=0.5, bias=0.4, bias_mode="random").reset(10**6, 7)
    gap, n, R = env.value([0.2]) - env.value([0.9]), 7, 4000
    answers = [env.compare([0.2], [0.9], n) for _ in range(R)]
    errors = np.array([answer.diff for answer in answers]) - gap
    variance = 0.25 * (1 / 4 + 1 / 3) + 0.16 / 7
    # Fourth moments below 3 variance^2: four standard errors of a sample variance.
    assert errors.var() == pytest.approx(variance, abs=4 * variance * math.sqrt(2 / R))
    for delta in (0.5, 0.1, 0.01):
        assert np.mean(np.abs(errors) > answers[0].width(delta)) <= delta


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"noise": -1.0}, "noise"),
        ({"bias": -1.0}, "bias"),
        ({"bias_mode": "unfair"}, "bias_mode must be one of"),
        ({"bias": 0.5}, "bias_mode must say how"),
        (
            {"fn": lambda x: -np.square(x - 0.5).sum(axis=1), "x_star": 0.9},
            "x_star must be where fn is largest",
        ),
        ({"fn": "cubic"}, "fn must be one of"),
        ({"fn": abs}, "x_star must be given"),
        ({"x_star": 1.2}, "x_star"),
        ({"x_star": [0.1, 0.2]}, "x_star"),
        ({"fn": "bimodal", "dim": 2}, "dim"),
        ({"fn": "bimodal", "x_star": 0.5}, "x_star"),
        ({"dim": 0}, "dim"),
        ({"curvature": 0.0}, "curvature"),
        ({"condition": 0.5}, "condition"),
        ({"fn": lambda points: points, "x_star": 0.5}, "fn must map"),
    ],
)
def test_impossible_parameters_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        ConcaveFunctionEnv(**params).reset(10)


def test_a_callable_is_used_as_it_is():
    env = ConcaveFunctionEnv(lambda points: -np.abs(points - 0.25).sum(axis=1), 2, x_star=0.25)
    assert env.value([0.25, 0.5]) == -0.25
    assert env.hints == {}
