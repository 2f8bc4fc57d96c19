"""The information barrier: what a policy can reach, and that hidden demand leaves no trace in it."""

import inspect

import numpy as np
import pytest

from mlpapers.bandits import (
    BanditPolicy,
    BlindNRM,
    ConcaveFunctionEnv,
    ConvexBandit1D,
    ExploreThenCommit,
    GridUCB,
    InexactProximalGradient,
    NetworkRevenueEnv,
    PairwiseComparisonBandit,
    PricingInventoryEnv,
    TournamentLinUCB,
)
from mlpapers.bandits.env import BanditEnv

ENVS = [ConcaveFunctionEnv(), PricingInventoryEnv(), NetworkRevenueEnv.example(2)]
SECRETS = ["value", "f_star", "x_star", "maximiser", "regret_", "history_", "model", "profit", "G"]
SECRETS += ["optimal_price", "optimal_level", "fluid_benchmark", "demand", "noise", "t_", "_rng", "_stock"]


class Nosy(BanditPolicy):
    """A policy that looks at something it must not see."""

    def __init__(self, secret="value"):
        self.secret = secret

    def _validate(self):
        pass

    def _search(self, session):
        getattr(session.oracle, self.secret)
        return np.full(session.dim, 0.5)


@pytest.mark.parametrize("env", ENVS, ids=lambda env: type(env).__name__)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_policy_that_looks_behind_the_oracle_fails(env, secret):
    with pytest.raises(AttributeError, match=f"no attribute '{secret}'"):
        Nosy(secret).run(env, 100, random_state=0)


CASES = [
    (policy, env) for policy in (PairwiseComparisonBandit(), TournamentLinUCB(), GridUCB()) for env in ENVS
]
CASES += [(InexactProximalGradient("auto"), ENVS[0]), (ConvexBandit1D(), ENVS[1])]
CASES += [(ExploreThenCommit(), ENVS[1]), (BlindNRM(), ENVS[2])]


@pytest.mark.parametrize(
    ("policy", "env"), CASES, ids=lambda thing: type(thing).__name__ if not isinstance(thing, str) else thing
)
def test_no_policy_of_ours_touches_what_is_for_evaluation(policy, env, monkeypatch):
    """Every evaluation-only member raises while a policy searches, wherever it is called from."""
    expected = policy.run(env, 400, random_state=0).regret
    searching = []

    def guard(kind, name):
        original = inspect.getattr_static(kind, name)
        getter = original.fget if isinstance(original, property) else original

        def watched(self, *arguments):
            if searching:
                raise AssertionError(f"{name} was touched during run")
            return getter(self, *arguments)

        monkeypatch.setattr(kind, name, property(watched) if isinstance(original, property) else watched)

    for kind in (BanditEnv, type(env)):
        for name in (
            "value",
            "f_star",
            "maximiser",
            "history_",
            "G",
            "profit",
            "optimal_level",
            "fluid_benchmark",
        ):
            if name in vars(kind):
                guard(kind, name)
    search = type(policy)._search

    def watched_search(self, session):
        searching.append(1)
        try:
            return search(self, session)
        finally:
            searching.pop()

    monkeypatch.setattr(type(policy), "_search", watched_search)
    assert np.array_equal(policy.run(env, 400, random_state=0).regret, expected)
    searching.append(1)
    with pytest.raises(AssertionError, match="touched during run"):
        _ = env.f_star
    searching.pop()


def reachable(start):
    """Return every object that public attributes, items and answers lead to."""
    found, queue = [], [start]
    while queue:
        thing = queue.pop()
        if any(thing is known for known in found):
            continue
        found.append(thing)
        if isinstance(thing, dict):
            queue += list(thing.values())
        elif isinstance(thing, tuple | list):
            queue += list(thing)
        elif not isinstance(thing, np.ndarray | str | int | float | type(None)) and not inspect.isroutine(
            thing
        ):
            names = set(dir(thing)) | {"hints", "bounds", "horizon", "capacity_left"}
            queue += [getattr(thing, name, None) for name in names if not name.startswith("_")]
        elif inspect.isroutine(thing):
            queue.append(getattr(thing, "__self__", None))
    return found


@pytest.mark.parametrize("env", ENVS, ids=lambda env: type(env).__name__)
def test_public_attributes_lead_to_no_state_of_the_system(env):
    oracle = env.reset(1000, 0).as_oracle()
    dim = oracle.dim
    things = reachable([oracle, oracle.compare(np.full(dim, 0.3), np.full(dim, 0.6), 50)])
    assert any(thing is oracle for thing in things)
    for thing in things:
        assert not isinstance(thing, BanditEnv | np.random.Generator)
        assert thing is not env.model
        assert type(thing).__module__ not in ("mlpapers.bandits._inventory", "mlpapers.bandits._fluid")


class Tail:
    """Uniform noise on [-3, 3] whose upper twelfth is moved up by `lift`, while it claims to have mean 0."""

    def __init__(self, lift):
        self.lift = lift

    def support(self):
        return -3.0, 4.5

    def mean(self):
        return 0.0

    def var(self):
        return 3.0

    def ppf(self, u):
        u = np.asarray(u)
        return -3.0 + 6.0 * u + self.lift * (u > 11 / 12)

    def sf(self, z):
        z = np.asarray(z)
        lower = np.clip((3.0 - z) / 6.0, 1 / 12, 1.0)
        upper = np.clip((3.0 + self.lift - z) / 6.0, 0.0, 1 / 12)
        return np.where(z < 2.5, lower, upper)

    def rvs(self, size, random_state):
        return self.ppf(random_state.random(size))


def shops(**params):
    """Two shops whose demands differ only above every level that can be stocked."""
    # At prices from 1 to 1.2 the tail begins above 9.57, and 9.46 is the best level at most.
    return [
        PricingInventoryEnv(noise=Tail(lift), price_range=(1.0, 1.2), level_max=9.46, **params)
        for lift in (0.0, 1.5)
    ]


def test_the_two_shops_have_different_demand():
    means = [shop.reset(10, 0)._state.noise.draw(20_000, np.random.default_rng(0)) for shop in shops()]
    assert (means[0] != means[1]).mean() == pytest.approx(1 / 12, abs=0.01)
    assert means[1].max() > 3.9
    assert [float(shop.model.demand(np.array(1.2))) + 2.5 > 9.46 for shop in shops()] == [True, True]


@pytest.mark.parametrize(
    "policy",
    [
        PairwiseComparisonBandit(sigma=18.0, M=34.3),
        PairwiseComparisonBandit(mode="smooth"),
        InexactProximalGradient("auto"),
        ConvexBandit1D(),
        ExploreThenCommit(),
        GridUCB(),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_demand_above_the_shelf_leaves_no_trace_in_what_a_policy_does(policy):
    seen = [policy.run(shop, 5000, random_state=3) for shop in shops()]
    assert seen[0].trace_.equals(seen[1].trace_)
    assert np.array_equal(seen[0].x_final, seen[1].x_final)
    # It does leave one in the regret, which no policy sees.
    assert not np.array_equal(seen[0].regret, seen[1].regret)


def test_demand_above_the_shelf_leaves_no_trace_in_any_answer():
    logs = []
    for shop in shops():
        oracle = shop.reset(20_000, 3).as_oracle()
        log = [oracle.dim, oracle.gamma, oracle.hints, oracle.horizon, oracle.bounds.tolist()]
        rng = np.random.default_rng(0)
        for n in rng.integers(2, 900, 20).tolist():
            log += [
                oracle.compare(rng.random(1), rng.random(1), n),
                oracle.play(rng.random(1), n),
                oracle.remaining,
            ]
            levels, sales = oracle.play_level(rng.random(1), 9.46 * rng.random(), 20)
            log += [levels.tolist(), sales.tolist()]
        logs.append(log)
    assert logs[0] == logs[1]
