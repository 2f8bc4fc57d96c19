"""Pricing and inventory: closed forms, censoring, and the oracle's error."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from mlpapers.bandits import PricingInventoryEnv
from mlpapers.bandits._inventory import simulate

NOISES = ["uniform", "truncnorm", stats.beta(2, 2, loc=-2, scale=4)]


def test_default_optimum():
    env = PricingInventoryEnv()
    assert env.optimal_price == pytest.approx(1.9876, abs=1e-4)
    assert env.f_star == pytest.approx(8.7147, abs=1e-4)
    assert env.model.gamma == (2.0, 588.0)
    prices = np.linspace(1.0, 3.0, 20001)
    assert env.f_star >= env.G(prices).max()
    curvature = -np.diff(env.value(np.linspace(0, 1, 401)[:, None]), 2) * 400**2
    assert 17.9 < curvature.min() < 18.1
    assert 34.2 < curvature.max() < 34.4


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("p", [1.1, 1.9, 2.4])
def test_profit_is_the_integral_of_the_reward(noise, p):
    env = PricingInventoryEnv(noise=noise, noise_scale=2.0, lost_sales_cost=1.5)
    chosen = env.model.noise
    beta = chosen.distribution or stats.uniform(-2.0, 4.0)
    mean = float(env.model.demand(np.asarray(p)))

    def reward(z, level):
        D = mean + z
        return (p * min(D, level) - 0.5 * max(level - D, 0.0) - 1.5 * max(D - level, 0.0)) * beta.pdf(z)

    for level in (mean - 1.0, mean + 0.7, float(env.optimal_level(p))):
        exact = integrate.quad(reward, -2, 2, args=(level,), points=[level - mean], epsabs=1e-12)[0]
        assert env.profit(p, level) == pytest.approx(exact, abs=1e-8)
    levels = np.linspace(mean - 2, mean + 2, 4001)
    profits = env.profit(p, levels)
    assert env.profit(p, env.optimal_level(p)) >= profits.max() - 1e-12
    assert levels[np.argmax(profits)] == pytest.approx(env.optimal_level(p), abs=1e-3)


@pytest.mark.parametrize("noise", NOISES)
def test_the_identity_that_the_oracle_inverts(noise):
    env = PricingInventoryEnv(noise=noise, noise_scale=2.0)
    b, h = 1.0, 0.5
    for p in (1.0, 1.7, 3.0):
        tau, mean = (p + b) / (p + b + h), float(env.model.demand(np.asarray(p)))
        nodes, weights = np.polynomial.legendre.leggauss(400)
        # Quantile functions of these noises have unbounded slopes at 0: substitute v = tau s^4.
        s = 0.5 * (nodes + 1.0)
        quantiles = mean + env.model.noise.quantile(tau * s**4)
        integral = (0.5 * weights * quantiles * tau * 4 * s**3).sum()
        assert (p + b + h) * integral - b * mean == pytest.approx(env.G(p), abs=1e-9)


def test_profit_agrees_with_simulation():
    env = PricingInventoryEnv()
    rng = np.random.default_rng(0)
    p, level = 1.8, 6.0
    D = float(env.model.demand(np.asarray(p))) + rng.uniform(-3, 3, 200_000)
    rewards = p * np.minimum(D, level) - 0.5 * np.maximum(level - D, 0) - np.maximum(D - level, 0)
    assert env.profit(p, level) == pytest.approx(rewards.mean(), abs=4 * rewards.std() / math.sqrt(D.size))


@given(st.integers(1, 60), st.floats(0, 12), st.floats(0, 20), st.integers(0, 1000))
def test_the_sequential_loop_is_the_definition(n, target, stock, seed):
    beta = np.random.default_rng(seed).uniform(-3, 3, n)
    sales, levels = np.empty(n), np.empty(n)
    left = simulate(beta, 4.0, stock, target, sales, levels)
    for i in range(n):
        level = max(target, stock)
        sold = min(4.0 + beta[i], level)
        stock = level - sold
        assert (levels[i], sales[i]) == (level, sold)
    assert left == stock


def test_carry_over_is_not_reordered_and_unmet_demand_is_not_seen():
    oracle = PricingInventoryEnv().reset(100, 0).as_oracle()
    levels, sales = oracle.play_level([0.5], 10.0, 3)
    lower, sold = oracle.play_level([0.5], 1.0, 20)
    assert levels.tolist() == [10.0, 10.0, 10.0]
    assert lower[0] == 10.0 - sales[-1]
    assert (sold <= lower).all()
    np.testing.assert_allclose(lower[1:], np.maximum(1.0, lower[:-1] - sold[:-1]), atol=1e-12)
    assert lower[-1] == 1.0


@pytest.mark.parametrize(("x", "x_prime", "n"), [(0.6, 0.4, 400), (0.6, 0.4, 6400), (0.1, 0.9, 6400)])
def test_the_error_of_the_oracle_falls_like_the_root_of_n(x, x_prime, n):
    env = PricingInventoryEnv()
    truth = env.value([x]) - env.value([x_prime])
    errors = []
    for seed in range(120):
        env.reset(n, seed)
        errors.append(env.compare([x], [x_prime], n).diff - truth)
    scaled = math.sqrt(n) * np.array(errors)
    assert 5.0 < scaled.std() < 14.0
    assert abs(scaled.mean()) < 4.0 + 4.0 * scaled.std() / math.sqrt(120)


def test_the_mean_answer_is_antisymmetric():
    env, n, R = PricingInventoryEnv(), 1600, 150
    there, back = (
        np.array([env.reset(n, 2 * seed + k).compare([x], [y], n).diff for seed in range(R)])
        for k, (x, y) in enumerate([(0.6, 0.3), (0.3, 0.6)])
    )
    # The first half of a query begins with an empty shelf and the second does not: a difference in bias of
    # order 1/n beside four standard errors.
    error = math.sqrt((there.var() + back.var()) / R)
    assert there.mean() == pytest.approx(-back.mean(), abs=4 * error + 10.0 / n)


def test_learning_the_level_costs_a_bounded_extra():
    env = PricingInventoryEnv().reset(40_000, 0)
    env.compare([0.49], [0.5], 40_000)
    at_best_levels = 20_000 * (2 * env.f_star - env.value([0.49]) - env.value([0.5]))
    assert at_best_levels <= env.regret_ <= at_best_levels + 600.0


def test_regret_is_that_of_the_levels_played():
    env = PricingInventoryEnv().reset(50, 0)
    levels, _ = env.play_level([0.3], 4.0, 50)
    assert env.regret_ == pytest.approx((env.f_star - env.profit(1.6, levels)).sum(), rel=1e-12)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"price_range": (2.0, 2.0)}, "price_range"),
        ({"price_range": 3.0}, "price_range"),
        ({"price_range": (0.0, 1.0), "holding_cost": 0.0, "lost_sales_cost": 0.0}, "price_range must begin"),
        ({"demand": "constant"}, "demand must be one of"),
        ({"demand": lambda p: -p}, "demand must map"),
        ({"noise": "normal"}, "noise must be one of"),
        ({"noise": "multiplicative"}, "noise must be additive"),
        ({"noise": stats.norm()}, "noise must have mean 0 and bounded support"),
        ({"noise": stats.uniform(0, 1)}, "noise must have mean 0"),
        ({"noise_scale": 0.0}, "noise_scale"),
        ({"holding_cost": -1.0}, "holding_cost"),
        ({"lost_sales_cost": -1.0}, "lost_sales_cost"),
        ({"level_max": 1.0}, "level_max"),
        ({"m0": 0}, "m0"),
        ({"slack": -1.0}, "slack"),
        ({"gamma": (1.0, -1.0)}, "gamma"),
    ],
)
def test_impossible_parameters_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        PricingInventoryEnv(**params).reset(10)


def test_a_level_above_the_largest_is_refused():
    env = PricingInventoryEnv().reset(10)
    with pytest.raises(ValueError, match="level"):
        env.play_level([0.5], 100.0, 3)
