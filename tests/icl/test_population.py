"""Training on the exact loss reaches the closed forms; naive Adam does not."""

import numpy as np
import pytest

from mlpapers.icl import TaskMixture, fit_population, optimal_loss, prompt_loss, strategies
from mlpapers.testing import check_result


@pytest.fixture(scope="module")
def mixture():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(2, 3, 3))
    return TaskMixture(
        rng.normal(size=(2, 3)), roots @ roots.transpose(0, 2, 1), weights=(0.3, 0.7), noise=0.3
    )


@pytest.mark.parametrize("strategy", strategies())
def test_both_ways_reach_the_optimum(mixture, strategy):
    best = optimal_loss(mixture, 8, strategy)
    profile = fit_population(mixture, 8, strategy)
    assert abs(profile.best_loss - best) <= 1e-9 * best
    descended = fit_population(mixture, 8, strategy, method="lbfgs", max_iter=2000, random_state=1)
    assert -1e-9 * best <= descended.best_loss - best <= 1e-3 * best
    state = descended.model_state
    at_end = float(prompt_loss(state["W"], state["prompts"], state["heads"], mixture, 8))
    assert abs(at_end - descended.losses[-1]) <= 1e-12 * best


def test_adam_stalls():
    mixture = TaskMixture(
        np.outer((1.0, -1.0), np.ones(10)), np.stack([np.eye(10)] * 2), weights=(0.3, 0.7), noise=0.3
    )
    result = fit_population(mixture, 20, "prompt", method="adam", max_iter=400, random_state=0)
    assert result.best_loss > 1.02 * optimal_loss(mixture, 20, "prompt")
    assert result.losses[0] > result.losses[-1]


def test_same_seed_same_run(mixture):
    runs = [
        fit_population(mixture, 5, "prompt", method="adam", max_iter=20, random_state=3) for _ in range(2)
    ]
    assert np.array_equal(runs[0].losses, runs[1].losses)


def test_result_keeps_its_promises(mixture):
    check_result(fit_population(mixture, 5, "prompt"))


def test_bad_arguments_are_named(mixture):
    for name, options in {"method": {"method": "sgd"}, "max_iter": {"max_iter": 0}}.items():
        with pytest.raises(ValueError, match=name):
            fit_population(mixture, 5, "plain", **options)
    with pytest.raises(ValueError, match="strategy"):
        fit_population(mixture, 5, "magic")
