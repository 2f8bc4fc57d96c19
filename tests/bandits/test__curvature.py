"""Curvature from three points: exact on quadratics, bounded, and good enough for the gradient policy."""

import numpy as np
import pytest

from mlpapers.bandits import (
    ConcaveFunctionEnv,
    EstimatedKnapsack,
    InexactProximalGradient,
    NetworkRevenueEnv,
    PairwiseComparisonBandit,
    regret_exponent,
)
from mlpapers.bandits._curvature import Curvature, three_points
from mlpapers.bandits.policy import Session


def session(env, horizon, seed=0):
    return Session(env.reset(horizon, seed).as_oracle(), horizon, np.random.default_rng(0))


@pytest.mark.parametrize("x", [0.0, 0.07, 0.5, 1.0])
def test_without_noise_quadratics_are_measured_exactly(x):
    env = ConcaveFunctionEnv(noise=0.0, dim=2, condition=4.0)
    run = session(env, 1000)
    middle, up, down = three_points(run, np.array([0.5, x]), 1, 10, 0.2, 0)
    assert middle == min(max(x, 0.2), 0.8)
    assert (down.diff - up.diff) / 0.2**2 == pytest.approx(1.0, rel=1e-12)
    np.testing.assert_allclose(Curvature(run, np.array([0.5, x]), 0.25, 8).values, [4.0, 1.0], rtol=1e-12)


def test_the_first_estimate_waits_until_it_is_decided():
    env = ConcaveFunctionEnv(noise=1.0)
    estimates = [
        Curvature(session(env, 10**6, seed), np.array([0.5]), 0.25, 8).values[0] for seed in range(60)
    ]
    # It stops at three typical errors, so that it is seldom wrong by more than half of itself.
    assert 3.0 < np.median(estimates) < 6.0
    assert np.mean((np.array(estimates) > 1.5) & (np.array(estimates) < 12.0)) > 0.9


def test_means_are_weighted_and_stay_within_a_factor_of_twenty():
    curvature = Curvature(session(ConcaveFunctionEnv(noise=0.0), 1000), np.array([0.5]), 0.25, 8)
    weight = curvature.total[0]
    assert curvature.add(0, 12.0, weight) == pytest.approx(8.0)
    assert curvature.add(0, -1e9, weight) == pytest.approx(4.0 / 20)
    assert curvature.add(0, 1e12, weight) == pytest.approx(4.0 * 20)


def test_flat_functions_have_a_curvature_to_go_on_with():
    env = ConcaveFunctionEnv(lambda points: np.zeros(len(points)), x_star=0.5, noise=0.0)
    assert Curvature(session(env, 500), np.array([0.5]), 0.25, 8).values.tolist() == [1.0]
    assert InexactProximalGradient("auto").run(env, 500, random_state=0).final_regret.tolist() == [0.0]


@pytest.mark.parametrize("curvature", [0.5, 4.0, 30.0])
def test_unknown_constants_cost_a_factor_and_keep_the_rate(curvature):
    env = ConcaveFunctionEnv(curvature=curvature)
    told = InexactProximalGradient(curvature, curvature).run(env, 10**5, n_replications=20, random_state=0)
    for policy in (InexactProximalGradient("auto"), PairwiseComparisonBandit(sigma="auto")):
        result = regret_exponent(policy, env, [10**4, 10**5], n_replications=20, n_boot=50, random_state=0)
        assert result.slope < 0.65
        assert result.theory == 0.5
        assert result.regret[-1].mean() < 4.0 * told.mean[-1]


def test_coupled_coordinates_do_not_make_the_steps_diverge():
    H = np.full((4, 4), 3.0) + np.eye(4)  # largest eigenvalue 13, three times what any axis shows

    def coupled(points):
        z = points - 0.4
        return -0.5 * np.einsum("mi,ij,mj->m", z, H, z)

    env = ConcaveFunctionEnv(coupled, 4, x_star=0.4, noise=0.01)
    result = InexactProximalGradient("auto").run(env, 10**5, n_replications=3, random_state=0)
    assert (env.f_star - env.value(result.x_final)).max() < 0.01


def test_networks_run_without_constants():
    env = NetworkRevenueEnv.example(2)
    result = InexactProximalGradient("auto", psi=EstimatedKnapsack(50.0), n_init=32).run(
        env, 10**5, n_replications=3, random_state=0
    )
    assert result.mean[-1] / (10**5 * env.f_star) < 0.05


def test_one_constant_may_be_given():
    env = ConcaveFunctionEnv()
    result = InexactProximalGradient("auto", 4.0).run(env, 10**5, n_replications=5, random_state=0)
    assert result.mean[-1] < 600.0


@pytest.mark.parametrize("policy", [InexactProximalGradient, PairwiseComparisonBandit])
def test_other_words_and_missing_constants_are_refused(policy):
    with pytest.raises(ValueError, match="sigma must be a number or 'auto'"):
        policy(sigma="guess").run(ConcaveFunctionEnv(), 100)
    with pytest.raises(ValueError, match="M must"):
        policy(sigma="auto", M=-1.0).run(ConcaveFunctionEnv(), 100)
    with pytest.raises(ValueError, match="M must be given"):
        InexactProximalGradient(4.0).run(ConcaveFunctionEnv(), 100)
