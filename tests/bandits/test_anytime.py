"""Horizon doubling: what is played never depends on the horizon."""

import numpy as np
import pytest

from mlpapers.bandits import (
    ConcaveFunctionEnv,
    ConvexBandit1D,
    HorizonDoubling,
    InexactProximalGradient,
    KieferWolfowitz,
    TournamentLinUCB,
)

POLICIES = [InexactProximalGradient(4.0, 4.0), TournamentLinUCB(3, 1.0), ConvexBandit1D()]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_longer_run_begins_as_the_shorter_one(policy):
    env = ConcaveFunctionEnv(bias=0.1, bias_mode="random")
    short, long = (
        HorizonDoubling(policy, first_horizon=100).run(env, T, random_state=2).trace_ for T in (3000, 9000)
    )
    # The last query of the short run is cut by its horizon.
    shared = len(short) - 1
    assert shared > 8
    assert short.iloc[:shared].drop(columns="width").equals(long.iloc[:shared].drop(columns="width"))
    assert short["t"].is_monotonic_increasing


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("horizon", [2, 3, 63, 64, 65, 127, 128, 1000])
def test_every_period_is_played(policy, horizon):
    env = ConcaveFunctionEnv().reset(horizon, 0)
    x = HorizonDoubling(policy, first_horizon=64).optimize(env, horizon)
    assert env.t_ == horizon
    assert x.shape == (1,)


def test_not_knowing_the_horizon_costs_a_factor():
    env, policy = ConcaveFunctionEnv(), InexactProximalGradient(4.0, 4.0)
    told = policy.run(env, 200_000, n_replications=20, random_state=0).mean[-1]
    guessed = HorizonDoubling(policy).run(env, 200_000, n_replications=20, random_state=0).mean[-1]
    # sqrt(2)/(sqrt(2) - 1) = 3.4 for a regret of exactly c sqrt(T).
    assert guessed < 3.5 * told


def test_later_runs_start_where_the_last_one_ended():
    env = ConcaveFunctionEnv(noise=0.0, x_star=0.9)
    first = HorizonDoubling(InexactProximalGradient(4.0, 4.0), first_horizon=256)
    trace = first.run(env, 256 + 512, random_state=0).trace_
    second = trace[trace["t"] > 256]
    middle = 0.5 * (second["x"].iloc[0][0] + second["x_prime"].iloc[0][0])
    assert middle == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"policy": 3}, TypeError, "policy must be a BanditPolicy"),
        ({"first_horizon": 1}, ValueError, "first_horizon"),
        ({"policy": KieferWolfowitz(5.0, 4.0)}, ValueError, "sigma"),
    ],
)
def test_impossible_parameters_are_refused(params, error, match):
    with pytest.raises(error, match=match):
        HorizonDoubling(**{"policy": ConvexBandit1D(), **params}).run(ConcaveFunctionEnv(), 100)


def test_nothing_is_learned_on_the_given_policy():
    policy = InexactProximalGradient(4.0, 4.0)
    HorizonDoubling(policy).run(ConcaveFunctionEnv(), 5000, random_state=0)
    assert policy.x0 is None
    assert np.array_equal(
        HorizonDoubling(policy).run(ConcaveFunctionEnv(), 5000, random_state=0).regret,
        HorizonDoubling(policy).run(ConcaveFunctionEnv(), 5000, random_state=0, n_jobs=2).regret,
    )
