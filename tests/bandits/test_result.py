"""RegretResult and ExponentResult."""

import numpy as np
import pytest
from scipy import stats

from mlpapers.bandits import (
    ConcaveFunctionEnv,
    InexactProximalGradient,
    KieferWolfowitz,
    PairwiseComparisonBandit,
    TournamentLinUCB,
    regret_exponent,
    regret_slope,
)
from mlpapers.testing import check_result


@pytest.fixture(scope="module")
def result():
    return TournamentLinUCB(2, 4.0).run(ConcaveFunctionEnv(), 5000, n_replications=4, random_state=0)


def test_results_keep_the_promises_of_results(result):
    check_result(result)
    check_result(
        regret_exponent(InexactProximalGradient(4.0, 4.0), ConcaveFunctionEnv(), [100, 1000], n_boot=20)
    )


def test_interval_is_students(result):
    low, high = result.confidence_interval(0.9)
    expected = stats.t.interval(0.9, 3, loc=result.final_regret.mean(), scale=stats.sem(result.final_regret))
    assert (low[-1], high[-1]) == pytest.approx(expected)
    alone = TournamentLinUCB().run(ConcaveFunctionEnv(), 100, random_state=0)
    assert np.isnan(alone.confidence_interval()).all()


def test_average_is_regret_per_period_and_slopes_are_least_squares(result):
    np.testing.assert_allclose(result.average[:, -1] * 5000, result.final_regret)
    used = result.times >= 50
    line = stats.linregress(np.log(result.times[used]), np.log(result.mean[used]))
    assert result.slope(50) == pytest.approx(line.slope)
    with pytest.raises(ValueError, match="t_min"):
        result.slope(5000)


@pytest.mark.parametrize("kind", ["regret", "average", "path", "cells"])
def test_every_kind_of_plot_draws(result, kind):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert result.plot(ax=ax, kind=kind).has_data()


def test_impossible_plots_are_refused(result):
    with pytest.raises(ValueError, match="kind must be one of"):
        result.plot(kind="pie")
    with pytest.raises(ValueError, match="needs a policy with cells"):
        KieferWolfowitz(4.0, 4.0).run(ConcaveFunctionEnv(), 50).plot(kind="cells")


def test_slopes_of_exact_powers_and_their_interval():
    T = np.array([100, 1000, 10_000])
    rng = np.random.default_rng(0)
    exact = 3.0 * T[:, None] ** 0.6 * np.ones((3, 5))
    assert regret_slope(T, exact) == pytest.approx((0.6, 0.6, 0.6))
    covered = 0
    for _ in range(200):
        noisy = exact[:, :1] * rng.gamma(20.0, 1 / 20.0, (3, 40))
        slope, low, high = regret_slope(T, noisy, n_boot=200, random_state=rng)
        assert low <= slope <= high
        covered += low <= 0.6 <= high
    # 95 % intervals of 200 samples: 190 expected, less what the bootstrap of 40 loses; 4 sd below is 176.
    assert covered >= 174


def test_exponents_are_those_of_separate_runs():
    env, policy = ConcaveFunctionEnv(), InexactProximalGradient(4.0, 4.0)
    result = regret_exponent(policy, env, [1000, 10_000, 100_000], n_replications=30, random_state=0)
    assert 0.4 < result.slope < 0.6
    assert result.low <= result.slope <= result.high
    assert result.theory == 0.5
    means = result.regret.mean(axis=1)
    assert result.slope == pytest.approx(np.polyfit(np.log(result.horizons), np.log(means), 1)[0])
    again = regret_exponent(policy, env, [1000, 10_000, 100_000], n_replications=30, random_state=0, n_jobs=2)
    assert np.array_equal(result.regret, again.regret)
    assert (result.low, result.high) == (again.low, again.high)


@pytest.mark.parametrize(
    ("policy", "theory"),
    [
        (TournamentLinUCB(3), 4 / 7),
        (PairwiseComparisonBandit(), 0.5),
        (PairwiseComparisonBandit(mode="smooth"), 0.6),
        (KieferWolfowitz(4.0, 4.0), np.nan),
    ],
)
def test_the_rate_that_is_proven(policy, theory):
    result = regret_exponent(policy, ConcaveFunctionEnv(), [50, 500], n_replications=2, n_boot=5)
    assert result.theory == pytest.approx(theory, nan_ok=True)


def test_one_horizon_is_no_sequence():
    with pytest.raises(TypeError, match="horizons must be a sequence"):
        regret_exponent(KieferWolfowitz(4.0, 4.0), ConcaveFunctionEnv(), 100)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: regret_slope([10], [[1.0]]), "horizons"),
        (lambda: regret_slope([10, 10], [[1.0], [1.0]]), "horizons"),
        (lambda: regret_slope([10, 20], [[1.0]]), "regret"),
        (lambda: regret_slope([10, 20], [[1.0], [-1.0]]), "positive means"),
        (lambda: regret_slope([10, 20], [[1.0], [2.0]], confidence=1.0), "confidence"),
        (lambda: regret_exponent(KieferWolfowitz(4.0, 4.0), ConcaveFunctionEnv(), [100]), "horizons"),
    ],
)
def test_impossible_arguments_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
