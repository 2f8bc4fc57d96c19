"""Inexact proximal gradient: rates, screening, penalties."""

import numpy as np
import pytest

from mlpapers.bandits import (
    ConcaveFunctionEnv,
    EstimatedKnapsack,
    InexactProximalGradient,
    LinearKnapsack,
    NetworkRevenueEnv,
)


def beyond(points):
    return -2.0 * np.sum((points - 1.2) ** 2, axis=1)


def test_regret_is_of_the_order_of_the_root_of_the_horizon():
    env = ConcaveFunctionEnv(bias=0.1, bias_mode="constant")
    policy = InexactProximalGradient(4.0, 4.0)
    scaled = [
        policy.run(env, T, n_replications=60, random_state=0).mean[-1] / np.sqrt(T)
        for T in (10**4, 10**5, 10**6)
    ]
    assert max(scaled) / min(scaled) < 1.4
    assert 0.2 < scaled[-1] < 0.45


@pytest.mark.parametrize("sigma", [2.0, "auto"])
def test_the_last_periods_do_not_spoil_what_was_found(sigma):
    """Whatever is left after queries that double, the point must not lose what the long ones have shown."""
    env = ConcaveFunctionEnv(curvature=2.0, x_star=0.7)
    policy = InexactProximalGradient(sigma, 2.0)
    errors = [
        np.sqrt(np.square(policy.run(env, T, n_replications=40, random_state=0).x_final - 0.7).mean())
        for T in range(4000, 8300, 256)
    ]
    assert max(errors) < 0.07
    assert max(errors) < 2.0 * np.median(errors)


def test_query_lengths_double_and_queries_are_few():
    result = InexactProximalGradient(4.0, 4.0).run(ConcaveFunctionEnv(), 10**6, random_state=0)
    lengths = result.trace_["n"].to_numpy()
    assert (lengths[1:-1] == 2 * lengths[:-2]).all()
    assert result.n_queries[0] <= 4 * np.log2(10**6)
    assert lengths.sum() == 10**6


def test_screening_saves_the_exploration_of_a_bound_and_changes_nothing_inside():
    outside = ConcaveFunctionEnv(beyond, x_star=1.0, bias=0.2, bias_mode="adversarial")
    inside = ConcaveFunctionEnv(bias=0.2, bias_mode="adversarial")
    regrets = {}
    for screen in (True, False):
        policy = InexactProximalGradient(4.0, 4.0, screen=screen)
        regrets[screen] = [
            policy.run(env, 10**6, n_replications=5, random_state=2).regret for env in (outside, inside)
        ]
    assert regrets[True][0][:, -1].mean() < regrets[False][0][:, -1].mean() / 20
    assert np.array_equal(regrets[True][1], regrets[False][1])


def test_a_noiseless_oracle_gives_the_exact_optimum():
    env = ConcaveFunctionEnv(noise=0.0, dim=3, condition=3.0)
    result = InexactProximalGradient(env.sigma, env.smoothness).run(env, 10**5, random_state=0)
    # The flattest coordinate (curvature 4/3 of 4) contracts by 2/3 a step, from 0.13 at the centre.
    n_steps = result.n_queries[0] // 3
    np.testing.assert_allclose(result.x_final[0, :1], 0.37, atol=1e-6)
    assert np.abs(result.x_final[0] - 0.37).max() <= 0.13 * (2 / 3) ** n_steps * 1.001 + 1e-6


def test_a_known_knapsack_moves_the_average_to_its_boundary():
    # f = -2 |x - 0.7|^2 under x_1 + x_2 <= 1 has its optimum at (1/2, 1/2).
    env = ConcaveFunctionEnv(dim=2, x_star=0.7, noise=0.02)
    policy = InexactProximalGradient(4.0, 4.0, psi=LinearKnapsack([[1.0, 1.0]], [1.0], 5.0))
    x = policy.run(env, 10**6, random_state=0).x_final[0]
    assert x.sum() <= 1.0 + 1e-9
    np.testing.assert_allclose(x, 0.5, atol=0.03)


def test_prices_of_a_network_approach_the_fluid_solution():
    env = NetworkRevenueEnv.example(2)
    policy = InexactProximalGradient(25.9, 40.2, psi=EstimatedKnapsack(50.0), n_init=32)
    result = policy.run(env, 10**5, n_replications=4, random_state=0)
    assert result.mean[-1] / (10**5 * env.f_star) < 0.03
    assert (np.abs(result.x_final - env.x_star) < 0.15).all()


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"sigma": 0.0}, ValueError, "sigma"),
        ({"sigma": 5.0}, ValueError, "sigma"),
        ({"M": -1.0}, ValueError, "M must"),
        ({"c_h": 0.0}, ValueError, "c_h"),
        ({"ratio": 1.0}, ValueError, "ratio"),
        ({"h_max": 0.6}, ValueError, "h_max"),
        ({"n_init": 1}, ValueError, "n_init"),
        ({"x0": [0.1, 0.2]}, ValueError, "x0"),
        ({"x0": 2.0}, ValueError, "x0"),
        ({"psi": 3.0}, TypeError, "psi"),
        ({"psi": LinearKnapsack([[1.0, 1.0]], [1.0], 2.0)}, ValueError, "psi=LinearKnapsack.* is about 2"),
        ({"psi": EstimatedKnapsack(1.0)}, ValueError, "capacity_left"),
    ],
)
def test_impossible_parameters_are_refused(params, error, match):
    with pytest.raises(error, match=match):
        InexactProximalGradient(**{"sigma": 4.0, "M": 4.0, **params}).run(ConcaveFunctionEnv(), 100)
