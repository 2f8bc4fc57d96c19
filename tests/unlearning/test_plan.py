"""Plans: predictions of the right size, and nothing changed by making them."""

import pickle

import numpy as np
import pytest


def test_a_plan_predicts_what_then_happens(classify):
    model = classify(noise_scale=0.5)
    before = pickle.dumps(model)
    plan = model.plan(60)
    assert pickle.dumps(model) == before
    assert plan["deletions"].tolist() == list(range(1, 61))
    actions, bounds = [], []
    for i in np.random.default_rng(1).permutation(200)[:60]:
        result = model.unlearn([i])
        actions.append(result.action)
        bounds.append(result.residual_bound)
    real = actions.count("reanchor")
    assert real >= 2
    # Rows differ in leverage and directions are not quite independent; a plan is right to a factor of two.
    assert real / 2 <= plan["reanchors"].iloc[-1] <= 2 * real
    assert np.median(bounds) / 4 <= plan["residual_bound"].median() <= 4 * np.median(bounds)
    assert plan["epsilon_spent"].max() <= 1.0
    assert np.all(np.diff(plan["seconds"]) > 0)
    assert np.all(np.diff(plan["reanchors"]) >= 0)


def test_batches_are_counted_by_rows(classify):
    plan = classify().plan(50, batch_size=20)
    assert plan["deletions"].tolist() == [20, 40, 50]


@pytest.mark.parametrize(
    "params",
    [
        {"perturbation": "output"},
        {"perturbation": "none"},
        {"accounting": "strict", "noise_scale": 5.0},
        {"reanchor_every": 4},
        {"certificate": "exact"},
        {"value_function": "knn_shapley", "weight_role": "forget", "noise_scale": 5.0},
        {"value_function": "knn_shapley", "weight_role": "retain", "noise_scale": 5.0},
        {"value_function": "knn_shapley", "value_update": "recompute"},
    ],
)
def test_every_option_can_be_planned(classify, params):
    plan = classify(**params).plan(10)
    assert len(plan) == 10
    if params.get("reanchor_every"):
        assert plan["reanchors"].tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    if params.get("perturbation") == "none":
        assert np.isinf(plan["epsilon_spent"]).all()


def test_exact_removals_cost_nothing(regress):
    plan = regress().plan(30)
    assert plan["epsilon_spent"].tolist() == [0.0] * 30
    assert plan["reanchors"].iloc[-1] == 0


def test_bad_numbers_are_named(classify):
    model = classify()
    with pytest.raises(ValueError, match="n_deletions"):
        model.plan(200)
    with pytest.raises(ValueError, match="batch_size"):
        model.plan(10, batch_size=11)
    with pytest.raises(TypeError, match="n_deletions"):
        model.plan(2.5)
