"""compare_policies: all on all, the same seeds, and reasons where something does not fit."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mlpapers.bandits import (
    BlindNRM,
    ConcaveFunctionEnv,
    ConvexBandit1D,
    ExploreThenCommit,
    InexactProximalGradient,
    NetworkRevenueEnv,
    PricingInventoryEnv,
    TournamentLinUCB,
    compare_policies,
)
from mlpapers.testing import check_result


@pytest.fixture(scope="module")
def result():
    policies = {
        "gradient": InexactProximalGradient(4.0, 4.0),
        "halving": ConvexBandit1D(),
        "blind": BlindNRM(),
    }
    envs = [ConcaveFunctionEnv(), ConcaveFunctionEnv(dim=2)]
    return compare_policies(policies, envs, 2000, n_replications=3, random_state=1)


def test_cells_are_runs_with_the_seed_of_their_environment(result):
    assert result.envs == ("ConcaveFunctionEnv", "ConcaveFunctionEnv (2)")
    seeds = np.random.SeedSequence(1).spawn(2)
    for e, env in enumerate([ConcaveFunctionEnv(), ConcaveFunctionEnv(dim=2)]):
        run = InexactProximalGradient(4.0, 4.0).run(env, 2000, n_replications=3, random_state=seeds[e])
        assert np.array_equal(result.regret[0, e], run.final_regret)
        assert np.array_equal(result.n_queries[0, e], run.n_queries)


def test_what_does_not_fit_is_skipped_with_its_reason(result):
    assert result.skipped[0] == ("", "")
    assert result.skipped[1][0] == ""
    assert "dim=2" in result.skipped[1][1]
    assert all("capacity_left" in reason for reason in result.skipped[2])
    frame = result.to_frame()
    assert frame["regret"].isna().tolist() == [False, False, False, True, True, True]
    assert (frame["low"] <= frame["regret"])[:3].all()
    assert frame["microseconds"].notna().tolist() == frame["regret"].notna().tolist()


def test_results_keep_the_promises_of_results(result):
    check_result(result)
    assert result.plot(ax=Figure().subplots()).has_data()


def test_one_call_compares_everything():
    result = compare_policies(horizon=200, n_replications=2, random_state=0)
    assert len(result.policies) == 10
    assert result.envs == ("concave", "bimodal", "inventory", "network")
    ran = np.isfinite(result.regret).all(axis=2)
    assert np.array_equal(ran, np.array([[not reason for reason in row] for row in result.skipped]))
    table = dict(zip(result.policies, ran.tolist()))
    assert table["PairwiseComparisonBandit"] == table["InexactProximalGradient"] == [True] * 4
    assert table["ConvexBandit1D"] == [True, True, True, False]
    assert table["ExploreThenCommit"] == [False, False, True, False]
    assert table["BlindNRM"] == [False, False, False, True]


def test_a_network_without_known_constants_is_left_to_the_procedure_for_smooth_functions():
    linear = NetworkRevenueEnv.example(2).get_params()
    a, B = np.array(linear["a"]), np.array(linear["B"])
    given = {**linear, "a": None, "B": None, "demand": lambda p: a - B @ p}
    result = compare_policies(envs=[NetworkRevenueEnv(**given)], horizon=50, n_replications=1, random_state=0)
    assert not result.skipped[result.policies.index("PairwiseComparisonBandit")][0]


def test_a_bad_parameter_is_an_error_and_no_reason_to_skip():
    with pytest.raises(ValueError, match="width_scale"):
        compare_policies([TournamentLinUCB(width_scale=-1.0)], [ConcaveFunctionEnv()], 100)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"policies": ConvexBandit1D()}, TypeError, "policies must be a mapping or a sequence"),
        ({"policies": [ConcaveFunctionEnv()]}, TypeError, "policies must hold BanditPolicy"),
        ({"envs": {}}, ValueError, "envs must not be empty"),
        ({"envs": [3]}, TypeError, "envs must hold BanditEnv"),
        ({"horizon": 1}, ValueError, "horizon"),
        ({"n_replications": 0}, ValueError, "n_replications"),
        ({"confidence": 1.0}, ValueError, "confidence"),
    ],
)
def test_impossible_arguments_are_refused(arguments, error, match):
    given = {"policies": [ExploreThenCommit()], "envs": [PricingInventoryEnv(), NetworkRevenueEnv.example(2)]}
    with pytest.raises(error, match=match):
        compare_policies(**{**given, "horizon": 50, **arguments})
