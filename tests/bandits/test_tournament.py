"""Tournament elimination: it keeps the right cell, needs batches, and is refused impossible sizes."""

import numpy as np
import pytest

from mlpapers.bandits import (
    ComparisonResult,
    ConcaveFunctionEnv,
    PairwiseComparisonBandit,
    TournamentLinUCB,
    default_cells,
)
from mlpapers.bandits.tournament import _Cell, _eliminate, _Plan


@pytest.mark.parametrize("fn", ["quadratic", "bimodal"])
@pytest.mark.parametrize(("k", "M"), [(1, 2.0), (2, 4.0), (3, 1.0)])
def test_the_cell_of_the_optimum_survives(fn, k, M):
    T = 10**6
    env = ConcaveFunctionEnv(fn, bias=0.2, bias_mode="adversarial")
    result = TournamentLinUCB(k, M).run(env, T, n_replications=3, random_state=0)
    J = default_cells(T, k, 1)
    for detail in result.details:
        assert int(env.maximiser[0] * J) in detail["surviving_cells"]
        path = detail["cells_path"]
        assert (np.diff(path[:, 3]) <= 0).all()
        assert (path[1:, 2] == 2 * path[:-1, 2]).all()
        assert path[-1, 1] == T
        assert path[-1, 3] == detail["surviving_cells"].size < J / 2
    # The recommended point is no worse than the average one of the points that were played.
    assert (env.f_star - env.value(result.x_final) <= result.average[:, -1]).all()


def test_with_little_noise_the_optimum_is_found_to_the_grid():
    # Of order 3 the local model is the function itself, so that the grid point is found exactly.
    env = ConcaveFunctionEnv(noise=0.01, x_star=0.5)
    result = TournamentLinUCB(3, 1.0, cells=5).run(env, 100_000, random_state=0)
    assert result.x_final[0, 0] == pytest.approx(0.5, abs=1e-12)
    assert result.details[0]["surviving_cells"].tolist() == [2.0]


def test_short_queries_turn_a_bias_into_linear_regret():
    env = ConcaveFunctionEnv(bias=0.2, bias_mode="adversarial")
    on, off = (
        TournamentLinUCB(3, 1.0, cells=3, batched=batched).run(env, 20_000, n_replications=3, random_state=1)
        for batched in (True, False)
    )
    assert off.mean[-1] > 4.0 * on.mean[-1]
    assert on.n_queries.max() < off.n_queries.min() / 20


def test_one_cell_is_batched_linucb_alone():
    env = ConcaveFunctionEnv(noise=0.02)
    result = TournamentLinUCB(3, 1.0, cells=1).run(env, 100_000, random_state=0)
    # A quadratic in one cell is exact; the nearest of nine candidates to 0.37 is 3/8.
    assert result.x_final[0, 0] == 0.375
    assert result.details[0]["surviving_cells"].tolist() == [0.0]


@pytest.mark.parametrize(("k", "M", "d"), [(1, 8.0, 1), (2, 4.0, 1), (3, 1.0, 1), (4, 1.0, 1), (3, 1.0, 2)])
@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_every_direction_is_tried_even_without_noise(k, M, d, noise):
    env = ConcaveFunctionEnv("quartic", dim=d, noise=noise, x_star=0.71)
    result = TournamentLinUCB(k, M, cells=4).run(env, 100_000, random_state=0)
    # The recommended candidate is as good as the best of all cells, but for the remainder of the local model.
    size = {1: 1, 2: 3}.get(k, 9 if d == 1 else 5)
    axis = np.linspace(-0.5, 0.5, size) if size > 1 else np.zeros(1)
    z = (np.arange(4)[:, None] + 0.5 + axis) / 4 - 0.71
    least = d * (2 * z**2 + 4 * z**4).min()
    gap = float(env.f_star - env.value(result.x_final[0]))
    assert gap <= least + 0.1
    assert result.average[0, -1] <= least + 0.2


@pytest.mark.parametrize(
    ("answers", "dropped"),
    [
        ([0.9], False),  # within the width
        ([1.5, 0.9], False),  # beyond it once
        ([1.5, 1.5], True),  # twice
        ([2.5], True),  # once by far
        ([None], False),  # no periods left
        ([1.5, None], False),
    ],
)
def test_a_cell_is_dropped_on_clear_evidence_only(answers, dropped):
    plan = _Plan(1, np.zeros((1, 1)), np.zeros((1, 0)), 0, 10.0, 0.0, 1.0, 32, True)
    first, second = (_Cell(i, np.array([x]), np.eye(0), np.zeros(0), 0) for i, x in enumerate((0.2, 0.8)))
    asked = []

    class Scripted:
        def compare(self, x, x_prime, n, **_):
            asked.append((x.tolist(), x_prime.tolist(), n))
            lead = answers[len(asked) - 1]
            # The width of 100 periods is 10/sqrt(100) = 1.
            return None if lead is None else ComparisonResult(lead, n, n // 2, n // 2, 0.0, 1.0)

    kept = _eliminate([first, second], first, 100, plan, Scripted(), 0)
    assert kept == ([first] if dropped else [first, second])
    assert asked == [([0.2], [0.8], 100)] * len(answers)


def test_several_dimensions_and_order_one():
    env = ConcaveFunctionEnv(dim=2, x_star=[0.2, 0.8], noise=0.02)
    for k, M in ((1, 2.0), (2, 4.0)):
        result = TournamentLinUCB(k, M, approx_scale=0.1).run(env, 300_000, random_state=0)
        np.testing.assert_allclose(result.x_final[0], [0.2, 0.8], atol=0.15)


def test_too_many_cells_are_refused_with_advice():
    with pytest.raises(ValueError, match=r"J\^d = 16\^3 = 4096.*larger smoothness_order"):
        TournamentLinUCB(1, max_cells=1000).run(ConcaveFunctionEnv(dim=3), 10**6)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"smoothness_order": 0}, "smoothness_order"),
        ({"M": 0.0}, "M must"),
        ({"width_scale": 0.0}, "width_scale"),
        ({"approx_scale": -1.0}, "approx_scale"),
        ({"cells": 0}, "cells"),
        ({"cell_scale": 0.0}, "cell_scale"),
        ({"n_init": 1}, "n_init"),
        ({"grid_size": 4}, "grid_size must be odd"),
        ({"max_cells": 0}, "max_cells"),
    ],
)
def test_impossible_parameters_are_refused(params, match):
    with pytest.raises(ValueError, match=match):
        TournamentLinUCB(**params).run(ConcaveFunctionEnv(), 100)


def test_a_phase_that_is_cut_short_does_not_choose_the_champion():
    errors = []
    for x_star in np.random.default_rng(5).random(12):
        env = ConcaveFunctionEnv(x_star=x_star)
        result = TournamentLinUCB(1, 4.0).run(env, 3000, n_replications=4, random_state=0)
        errors.append(result.x_final.ravel() - x_star)
    assert np.sqrt(np.mean(np.square(errors))) < 0.1


def test_the_papers_policy_is_the_procedure_that_fits():
    concave, bimodal = ConcaveFunctionEnv(), ConcaveFunctionEnv("bimodal")
    policy = PairwiseComparisonBandit()
    assert policy.is_strongly_concave(concave.hints)
    assert not policy.is_strongly_concave(bimodal.hints)
    chosen = policy.run(bimodal, 5000, random_state=0)
    same = TournamentLinUCB(2, bimodal.smoothness).run(bimodal, 5000, random_state=0)
    assert np.array_equal(chosen.regret, same.regret)
    with pytest.raises(ValueError, match="sigma and M must be given"):
        PairwiseComparisonBandit(mode="strongly_concave").run(bimodal, 100)
    with pytest.raises(ValueError, match="mode must be one of"):
        PairwiseComparisonBandit(mode="convex").run(concave, 100)
