"""What holds for every policy: periods, seeds, workers, and which information it uses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.bandits import (
    GPUCB,
    BlindNRM,
    ComparisonOracleFromSimulator,
    ConcaveFunctionEnv,
    ConvexBandit1D,
    EstimatedKnapsack,
    ExploreThenCommit,
    GridUCB,
    InexactProximalGradient,
    KieferWolfowitz,
    LinearKnapsack,
    NetworkRevenueEnv,
    PairwiseComparisonBandit,
    PricingInventoryEnv,
    TournamentLinUCB,
    TrisectionSearch,
)
from mlpapers.bandits.policy import Session

GENERAL = [
    PairwiseComparisonBandit(),
    PairwiseComparisonBandit(mode="smooth"),
    TournamentLinUCB(1, 2.0),
    TournamentLinUCB(3, 1.0),
    TournamentLinUCB(3, 1.0, batched=False, cells=3),
    InexactProximalGradient(4.0, 4.0),
    KieferWolfowitz(4.0, 4.0),
    TrisectionSearch(),
    ConvexBandit1D(),
    GridUCB(),
    GPUCB(max_evals=5),
]
CASES = [(policy, ConcaveFunctionEnv(bias=0.1, bias_mode="random")) for policy in GENERAL]
CASES += [(TournamentLinUCB(2, 36.0), PricingInventoryEnv()), (GridUCB(), PricingInventoryEnv())]
CASES += [
    (InexactProximalGradient(18.0, 34.3), PricingInventoryEnv()),
    (ExploreThenCommit(), PricingInventoryEnv()),
]
CASES += [(BlindNRM(), NetworkRevenueEnv.example(2))]
CASES += [(InexactProximalGradient(25.9, 40.2, psi=EstimatedKnapsack(50.0)), NetworkRevenueEnv.example(2))]
IDS = [f"{type(policy).__name__}-{type(env).__name__}-{i}" for i, (policy, env) in enumerate(CASES)]


class Spy:
    """An oracle that looks on: which points are asked for, and for how long."""

    def __init__(self, oracle):
        self._oracle = oracle
        self.points = []

    def __getattr__(self, name):
        return getattr(self._oracle, name)

    dim = property(lambda self: self._oracle.dim)
    gamma = property(lambda self: self._oracle.gamma)
    remaining = property(lambda self: self._oracle.remaining)

    def compare(self, x, x_prime, n):
        self.points += [x, x_prime]
        return self._oracle.compare(x, x_prime, n)

    def play(self, x, n):
        self.points.append(x)
        return self._oracle.play(x, n)


@pytest.mark.parametrize(("policy", "env"), CASES, ids=IDS)
@settings(max_examples=12)
@given(horizon=st.integers(2, 500))
def test_every_period_is_played_inside_the_cube(policy, env, horizon):
    env.reset(horizon, horizon)
    spy = Spy(env.as_oracle())
    x = policy._search(Session(spy, horizon, np.random.default_rng(0)))
    assert env.t_ == horizon
    assert x.shape == (env.model.dim,)
    for point in [*spy.points, x]:
        assert ((point >= 0.0) & (point <= 1.0)).all()


@pytest.mark.parametrize(("policy", "env"), CASES[:2] + CASES[-3:], ids=IDS[:2] + IDS[-3:])
def test_replications_depend_neither_on_workers_nor_on_their_number(policy, env):
    alone = policy.run(env, 700, n_replications=1, random_state=3)
    serial = policy.run(env, 700, n_replications=3, random_state=3)
    parallel = policy.run(env, 700, n_replications=3, random_state=3, n_jobs=2)
    assert np.array_equal(serial.regret, parallel.regret)
    assert np.array_equal(serial.regret[:1], alone.regret)
    assert np.array_equal(serial.x_final, parallel.x_final)
    assert not np.array_equal(serial.regret[0], serial.regret[1])
    assert serial.times[-1] == 700
    assert np.array_equal(serial.final_regret, serial.regret[:, -1])


@pytest.mark.parametrize("policy", GENERAL, ids=lambda policy: type(policy).__name__)
def test_flat_functions_cost_nothing(policy):
    env = ConcaveFunctionEnv(flat, x_star=0.5, noise=0.0)
    if isinstance(policy, PairwiseComparisonBandit):
        policy = PairwiseComparisonBandit(sigma=1.0, M=1.0, mode=policy.mode)
    result = policy.run(env, 3000, random_state=0)
    assert result.final_regret.tolist() == [0.0]


def flat(points):
    return np.zeros(len(points))


def test_running_leaves_the_environment_alone():
    env = ConcaveFunctionEnv().reset(50, 1)
    state = (env.t_, env.remaining)
    PairwiseComparisonBandit().run(env, 1000, random_state=0)
    assert (env.t_, env.remaining) == state


def test_optimize_finds_the_best_point_of_a_users_system():
    rng = np.random.default_rng(5)

    def simulate(x, n):
        return float(-2.0 * np.sum((x - 0.7) ** 2) + 0.1 * rng.standard_normal() / np.sqrt(n))

    oracle = ComparisonOracleFromSimulator(simulate, 2, (0.0, 0.16), horizon=200_000)
    x = PairwiseComparisonBandit(sigma=4.0, M=4.0).optimize(oracle, 200_000)
    assert oracle.remaining == 0
    np.testing.assert_allclose(x, 0.7, atol=0.1)


def test_optimize_spends_only_the_horizon_and_takes_an_environment():
    env = ConcaveFunctionEnv().reset(10_000, 0)
    PairwiseComparisonBandit(random_state=0).optimize(env, 4000)
    assert env.t_ == 4000


@pytest.mark.parametrize(
    "policy", [TrisectionSearch(), ConvexBandit1D()], ids=lambda policy: type(policy).__name__
)
def test_interval_policies_refuse_several_dimensions(policy):
    with pytest.raises(NotImplementedError, match="dim=2"):
        policy.run(ConcaveFunctionEnv(dim=2), 100)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: GridUCB().run(object(), 100), TypeError, "env must"),
        (lambda: GridUCB().run(ConcaveFunctionEnv(), 1), ValueError, "horizon"),
        (lambda: GridUCB().run(ConcaveFunctionEnv(), 10, n_replications=0), ValueError, "n_replications"),
        (lambda: GridUCB().optimize(object(), 100), TypeError, "oracle must"),
        (lambda: GridUCB().optimize(ConcaveFunctionEnv().reset(10), 100), ValueError, "10 periods left"),
        (lambda: ExploreThenCommit().run(ConcaveFunctionEnv(), 100), ValueError, "play_level"),
        (lambda: BlindNRM().run(ConcaveFunctionEnv(), 100), ValueError, "capacity_left"),
        (
            lambda: PairwiseComparisonBandit(mode="smooth", psi=LinearKnapsack([[1.0]], [0.5], 9.0)).run(
                ConcaveFunctionEnv(), 100
            ),
            ValueError,
            "psi must be None where the procedure for smooth functions",
        ),
        (lambda: ExploreThenCommit(degree=6).run(PricingInventoryEnv(), 100), ValueError, "degree"),
        (lambda: KieferWolfowitz(5.0, 4.0).run(ConcaveFunctionEnv(), 100), ValueError, "sigma"),
        (
            lambda: PairwiseComparisonBandit(random_state=-1).run(ConcaveFunctionEnv(), 9),
            ValueError,
            "^random_state must",
        ),
        (
            lambda: PairwiseComparisonBandit(sigma=1.0).optimize(
                ComparisonOracleFromSimulator(
                    lambda x, _n: -float(x @ x), dim=1, gamma=(0.0, 0.1), horizon=99
                ),
                99,
            ),
            ValueError,
            "M must be given with sigma=1.0",
        ),
    ],
)
def test_impossible_arguments_are_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


@pytest.mark.parametrize("corner", [0.0, 1.0])
@pytest.mark.parametrize(
    "policy",
    [
        PairwiseComparisonBandit(),
        InexactProximalGradient("auto"),
        TournamentLinUCB(3, 1.0, approx_scale=0.1),
        TournamentLinUCB(1, 2.0, cells=6),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_an_optimum_in_a_corner_is_found(policy, corner):
    env = ConcaveFunctionEnv(dim=2, x_star=corner, noise=0.02)
    result = policy.run(env, 200_000, n_replications=2, random_state=0)
    # Half a cell of six at most.
    np.testing.assert_allclose(result.x_final, corner, atol=1 / 12 + 1e-9)
    assert (np.diff(result.regret, axis=1) >= 0.0).all()


@pytest.mark.parametrize("policy", GENERAL[:4], ids=lambda policy: type(policy).__name__)
@pytest.mark.parametrize("mode", ["constant", "random", "adversarial"])
def test_a_bias_without_noise_does_no_harm(policy, mode):
    env = ConcaveFunctionEnv(noise=0.0, bias=0.1, bias_mode=mode)
    result = policy.run(env, 100_000, n_replications=3, random_state=0)
    # A quarter of what a random point loses, 2 E(U - 0.37)^2 = 0.2.
    assert (result.average[:, -1] < 0.05).all()
    assert (np.diff(result.regret, axis=1) >= 0.0).all()


def test_time_grows_with_the_number_of_queries_and_not_of_periods():
    short, long = (
        InexactProximalGradient(4.0, 4.0).run(ConcaveFunctionEnv(), T, n_replications=3, random_state=0)
        for T in (10**4, 10**8)
    )
    # Each doubling of the horizon costs one more query per coordinate and step.
    assert long.n_queries.max() <= short.n_queries.min() + np.log2(10**4) + 1
