"""Plans: predictions of the right size, and nothing changed by making them."""

import pickle

import numpy as np
import pytest

from mlpapers.unlearning import DVWUClassifier
from mlpapers.unlearning.plan import _steps


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


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_plan_counts_with_rows_that_are_unlike_the_others(n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 5)) * np.where(rng.random(2000) < 0.03, 15.0, 1.0)[:, None]
    y = np.digitize(X[:, 0] + rng.logistic(size=2000), [0.0, 1.0][: n_classes - 1])
    model = DVWUClassifier(alpha=5.0, noise_scale=1.0, random_state=0).fit(X, y)
    planned = model.plan(300)["reanchors"].iloc[-1]
    actions = [model.unlearn([i]).action for i in rng.permutation(2000)[:300]]
    assert actions.count("reanchor") >= 4
    assert actions.count("reanchor") / 2 <= planned <= 2 * actions.count("reanchor")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_planned_step_is_the_newton_step_without_the_row(n_classes):
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(40, 3)), rng.integers(n_classes, size=40)
    model = DVWUClassifier(alpha=0.5, fit_intercept=False, random_state=0)
    model.fit(X, y, sample_weight=rng.uniform(0.2, 2.0, size=40))
    solution, loss = model._model.solutions[0], model._engine.loss
    coded, w = model._engine.targets(model._rows.y, 0), model._rows.w
    scores = loss.scores(X, solution.theta)
    hessian = loss.hessian(X, coded, w, scores) + 0.5 * np.eye(3 * loss.n_outputs)
    energies = []
    for i in range(40):
        row = slice(i, i + 1)
        own = loss.hessian(X[row], coded[row], w[row], scores[row])
        gradient = loss.pull(X[row], w[i] * loss.slope(scores[row], coded[row]))
        step = np.linalg.solve(hessian - own, gradient)
        energies.append(loss.energy(model._model.gram - w[i] * np.outer(X[i], X[i]), step))
    found = _steps(model._engine, model._model, model._rows, 0).energy
    np.testing.assert_allclose(found, energies, rtol=1e-9)


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
