"""Baselines: what each can do, and what a bias or a hidden cost does to it."""

import numpy as np
import pytest

from mlpapers.bandits import (
    GPUCB,
    BlindNRM,
    ConcaveFunctionEnv,
    ConvexBandit1D,
    ExploreThenCommit,
    GridUCB,
    InexactProximalGradient,
    KieferWolfowitz,
    NetworkRevenueEnv,
    PricingInventoryEnv,
    TrisectionSearch,
)


def test_stochastic_approximation_works_without_bias_and_fails_with_it():
    policy, gradient = KieferWolfowitz(4.0, 4.0), InexactProximalGradient(4.0, 4.0)
    fair, unfair = ConcaveFunctionEnv(), ConcaveFunctionEnv(bias=0.2, bias_mode="adversarial")
    fine = policy.run(fair, 20_000, n_replications=3, random_state=0).mean[-1]
    linear = policy.run(unfair, 20_000, n_replications=3, random_state=0).mean[-1]
    assert fine < 3.0 * gradient.run(fair, 20_000, n_replications=3, random_state=0).mean[-1]
    assert linear > 0.02 * 20_000
    assert gradient.run(unfair, 20_000, n_replications=3, random_state=0).mean[-1] < linear / 5


@pytest.mark.parametrize("policy", [TrisectionSearch(), ConvexBandit1D(), GridUCB(), GPUCB(max_evals=60)])
@pytest.mark.parametrize("x_star", [0.0, 0.31, 1.0])
def test_baselines_find_a_peak(policy, x_star):
    env = ConcaveFunctionEnv(x_star=x_star, noise=0.02)
    result = policy.run(env, 50_000, n_replications=2, random_state=0)
    np.testing.assert_allclose(result.x_final, x_star, atol=0.1)
    # Half the regret of a random point, 2 E(U - x*)^2, at most.
    assert result.mean[-1] < 0.5 * 50_000 * 2 * (1 / 3 - x_star + x_star**2)


def test_explore_then_commit_commits_close_to_the_best_price_and_level():
    env = PricingInventoryEnv(demand="linear")
    result = ExploreThenCommit(degree=1).run(env, 200_000, n_replications=3, random_state=0)
    np.testing.assert_allclose(result.x_final, env.x_star[0], atol=0.05)
    # What is lost after the exploration is a small share of the optimum.
    assert result.mean[-1] < 0.01 * 200_000 * env.f_star


def test_arms_that_trust_observed_profit_miss_the_lost_sales():
    env = PricingInventoryEnv(lost_sales_cost=4.0)
    result = GridUCB(n_arms=6).run(env, 100_000, n_replications=2, random_state=0)
    best = InexactProximalGradient(18.0, 60.0, x0=0.25).run(env, 100_000, n_replications=2, random_state=0)
    assert result.mean[-1] > 4.0 * best.mean[-1]


def test_blind_network_prices_share_time_within_the_capacity():
    env = NetworkRevenueEnv.example(2)
    result = BlindNRM(grid=6).run(env, 30_000, n_replications=2, random_state=0)
    assert 0.0 < result.mean[-1] / (30_000 * env.f_star) < 0.35
    shares = BlindNRM._shares(np.array([3.0, 2.0]), np.array([[2.0], [1.0]]), np.array([1.2]))
    # Full time, the scarce resource used up: w1 + w2 = 1, 2 w1 + w2 = 1.2.
    np.testing.assert_allclose(shares, [0.2, 0.8], atol=1e-9)
