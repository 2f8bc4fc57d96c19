"""check_consistency recovers the constants of oracles with known ones."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlpapers.bandits import ComparisonOracleFromSimulator, ConcaveFunctionEnv, check_consistency

DELTAS = [0.5, 0.2, 0.1, 0.05]


def test_a_pure_bias_is_gamma_one():
    env = ConcaveFunctionEnv(noise=0.0, bias=0.3, bias_mode="constant").reset(10**6)
    truth = [env.value([0.2]) - env.value([0.7])]
    frame = check_consistency(env, [([0.2], [0.7])], [10, 100], DELTAS, n_replications=5, differences=truth)
    np.testing.assert_allclose(frame["quantile"], 0.09, rtol=1e-9)
    assert frame["gamma1"][0] == pytest.approx(0.09, rel=1e-9)
    assert frame["gamma2"][0] == pytest.approx(0.0, abs=1e-9)
    assert frame["holds"].all()
    np.testing.assert_allclose(frame["bias"], 0.3 / np.sqrt(frame["n"]), rtol=1e-9)


def test_noise_is_gamma_two_and_the_declared_bound_holds():
    env = ConcaveFunctionEnv(noise=0.5).reset(10**7, 0)
    frame = check_consistency(env, [([0.2], [0.7]), ([0.5], [0.5])], [10, 40], DELTAS, n_replications=800)
    # n err^2 is 4 noise^2 chi^2_1; through its quantiles goes the line without a (negative) constant.
    quantiles, logs = stats.chi2(1).isf(DELTAS), np.log(1.0 / np.array(DELTAS))
    assert frame["gamma2"][0] == pytest.approx(quantiles @ logs / (logs @ logs), rel=0.15)
    assert frame["holds"].all()
    assert len(frame) == 2 * 2 * len(DELTAS)


def test_an_oracle_that_promises_too_much_is_caught():
    class Boastful:
        dim, gamma, remaining = 1, (0.0, 1e-4), 10**6

        def __init__(self):
            self.env = ConcaveFunctionEnv(noise=0.5).reset(10**6, 0)

        def compare(self, x, x_prime, n):
            return self.env.compare(x, x_prime, n)

        def play(self, x, n):
            return self.env.play(x, n)

    frame = check_consistency(Boastful(), [([0.2], [0.7])], [10], 0.1)
    assert not frame["holds"].any()


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"oracle": object()}, TypeError, "oracle"),
        ({"pairs": []}, ValueError, "must not be empty"),
        ({"pairs": [([2.0], [0.1])]}, ValueError, "pairs"),
        ({"ns": [1]}, ValueError, "n must"),
        ({"ns": [10**6]}, ValueError, "periods left"),
        ({"delta": 1.5}, ValueError, "delta"),
        ({"n_replications": 1}, ValueError, "n_replications"),
        ({"differences": [1.0, 2.0]}, ValueError, "differences"),
    ],
)
def test_impossible_arguments_are_refused(changes, error, match):
    oracle = ConcaveFunctionEnv().reset(1000, 0).as_oracle()
    arguments = {"oracle": oracle, "pairs": [([0.1], [0.2])], "ns": [4], "delta": 0.1, "n_replications": 5}
    arguments |= changes
    with pytest.raises(error, match=match):
        check_consistency(**arguments)


@pytest.mark.parametrize(
    ("pairs", "ns", "match"),
    [
        (([0.2], [0.8]), [100], "pairs must hold pairs"),
        ([([0.2], [0.8])], 100, "ns must be a sequence"),
        (3, [100], "pairs must be a sequence"),
        ([(0.2, 0.8)], [100], "pairs must hold pairs"),
        ([([0.2], [0.8], [0.1])], [100], "pairs must hold pairs"),
        ([([0.2], [0.8, 0.1])], [100], "pairs must have shape"),
    ],
)
def test_arguments_that_are_no_lists_are_named(pairs, ns, match):
    oracle = ConcaveFunctionEnv().reset(1000, 0).as_oracle()
    with pytest.raises((ValueError, TypeError), match=match):
        check_consistency(oracle, pairs, ns, 0.1)


def test_probabilities_may_come_as_an_array():
    frames = [
        check_consistency(
            ConcaveFunctionEnv().reset(10_000, 0), [([0.2], [0.7])], [10], delta, n_replications=50
        )
        for delta in ([0.1, 0.02], np.array([0.1, 0.02]))
    ]
    pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize("answer", [None, "a", [1.0, 2.0], np.nan])
def test_a_simulator_has_to_return_a_number(answer):
    oracle = ComparisonOracleFromSimulator(lambda x, n: answer, 1, (0.0, 1.0))  # noqa: ARG005
    with pytest.raises(ValueError, match="simulate must return a finite number"):
        oracle.play([0.5], 3)
    assert ComparisonOracleFromSimulator(lambda x, n: x, 1, (0.0, 1.0)).play([0.5], 3) == 0.5  # noqa: ARG005
