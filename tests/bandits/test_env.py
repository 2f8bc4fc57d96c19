"""What all environments share: periods, truncation, regret, and the information barrier."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.bandits import ComparisonOracle, ConcaveFunctionEnv, NetworkRevenueEnv, PricingInventoryEnv

ENVS = [ConcaveFunctionEnv(dim=1), PricingInventoryEnv(), NetworkRevenueEnv.example(2)]
HIDDEN = ["value", "f_star", "x_star", "maximiser", "regret_", "history_", "model", "G", "profit", "demand"]
HIDDEN += [
    "noise",
    "_rng",
    "_state",
    "_stock",
    "_inventory",
    "_breaks",
    "fluid_benchmark",
    "optimal_level",
    "reset",
]


@pytest.mark.parametrize("env", ENVS, ids=lambda env: type(env).__name__)
def test_a_policy_sees_the_oracle_and_nothing_behind_it(env):
    oracle = env.reset(100, 0).as_oracle()
    assert isinstance(oracle, ComparisonOracle)
    for name in HIDDEN:
        with pytest.raises(AttributeError, match=name):
            getattr(oracle, name)
    for name in ("compare", "play", "play_level"):
        method = getattr(oracle, name, None)
        assert getattr(method, "__self__", oracle) is oracle
    assert not hasattr(oracle, "__dict__")


@pytest.mark.parametrize("env", ENVS, ids=lambda env: type(env).__name__)
def test_using_an_environment_before_reset_is_an_error(env):
    fresh = type(env)(**env.get_params())
    x = np.full(fresh.model.dim, 0.5)
    for use in (lambda: fresh.compare(x, x, 4), lambda: fresh.play(x, 1), fresh.as_oracle):
        with pytest.raises(RuntimeError, match="must be reset"):
            use()
    assert not hasattr(fresh, "history_")


@pytest.mark.parametrize("env", ENVS, ids=lambda env: type(env).__name__)
@given(horizon=st.integers(2, 200), lengths=st.lists(st.integers(2, 90), max_size=8))
def test_periods_are_conserved_and_the_last_ones_are_truncated(env, horizon, lengths):
    env.reset(horizon, 1)
    x = np.full(env.model.dim, 0.6)
    used = 0
    for n in lengths:
        answer = env.compare(x, x / 2, n)
        if horizon - used < 2:
            assert answer is None
            used = horizon
        else:
            assert answer.n == min(n, horizon - used)
            assert (answer.n_x, answer.n_xp) == (answer.n - answer.n // 2, answer.n // 2)
            used += answer.n
        assert env.t_ == used
        assert env.remaining == horizon - used
    env.play(x, horizon)
    assert env.t_ == horizon
    assert env.play(x, 1) is None
    assert (np.diff(env.history_[:, 0]) > 0).all()
    assert len(env.history_) == env.n_queries_
    path = env.regret_path(np.arange(horizon + 1))
    assert path[0] == 0.0
    assert path[-1] == pytest.approx(env.regret_, abs=1e-9)


@pytest.mark.parametrize("env", ENVS[:2], ids=lambda env: type(env).__name__)
def test_pseudo_regret_never_falls(env):
    env.reset(5000, 3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        env.compare(rng.random(1), rng.random(1), int(rng.integers(2, 300)))
    path = env.regret_path(np.arange(5001))
    assert (np.diff(path) >= -1e-12).all()
    assert (np.diff(env.history_[:, 1]) >= 0.0).all()


@pytest.mark.parametrize("env", ENVS, ids=lambda env: type(env).__name__)
def test_a_pickled_environment_goes_on_where_it_was(env):
    env.reset(1000, 5)
    x = np.full(env.model.dim, 0.4)
    env.compare(x, 1 - x, 100)
    copy = pickle.loads(pickle.dumps(env))
    assert copy.compare(x, 1 - x, 50).diff == env.compare(x, 1 - x, 50).diff
    assert copy.regret_ == env.regret_


@pytest.mark.parametrize("horizon", [1, 0, -5])
def test_horizons_below_two_are_refused(horizon):
    with pytest.raises(ValueError, match="horizon"):
        ConcaveFunctionEnv().reset(horizon)


def test_changed_parameters_are_used_by_the_next_reset():
    env = ConcaveFunctionEnv(x_star=0.2)
    assert env.value([0.2]) == 0.0
    env.set_params(x_star=0.7)
    assert env.value([0.7]) == 0.0
    assert env.maximiser.tolist() == [0.7]
