import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from mlpapers.fairness import (
    BayesFairClassifier,
    FairnessWarning,
    InProcessingFairClassifier,
    make_gaussian_groups,
    mean_difference,
)
from mlpapers.fairness._cost_sensitive import cost_sensitive_task, fit_final


@pytest.fixture(scope="module")
def data():
    return make_gaussian_groups(3000, random_state=0)[:3]


@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_the_optimal_rule_minimises_the_fair_risk(seed, c):
    rng = np.random.default_rng(seed)
    eta, Q, f = rng.random(50), rng.normal(scale=0.7, size=50), rng.random(50)
    best = (eta > c + Q).astype(float)

    def fair_risk(f):
        c_0, c_1 = c + Q, 1 - c - Q
        return np.mean(c_0 * f * (1 - eta) + c_1 * (1 - f) * eta)

    excess = np.mean(np.abs(eta - c - Q) * np.abs(f - best))
    np.testing.assert_allclose(fair_risk(f) - fair_risk(best), excess, atol=1e-12)


@given(st.integers(0, 10**6), st.sampled_from(["labels", "distilled"]))
def test_flipping_labels_keeps_the_differences_of_risks(seed, variant):
    # On a sample with all labels drawn, weighted errors and the fair risk differ by a constant.
    rng = np.random.default_rng(seed)
    eta, Q, c = rng.random(30), rng.normal(scale=0.7, size=30), 0.5
    rules = rng.integers(0, 2, (2, 30))
    weighted = np.zeros(2)
    for label, mass in ((0, 1 - eta), (1, eta)):
        y = np.full(30, label)
        target, weights = cost_sensitive_task(y, eta, Q, c, variant)
        assert (weights >= 0).all()
        weighted += [np.mean(mass * weights * (rule != target)) for rule in rules]
    margin = eta - c - Q
    fair = [np.mean(-margin * rule) for rule in rules]
    np.testing.assert_allclose(weighted[0] - weighted[1], fair[0] - fair[1], atol=1e-12)


def test_weights_have_mean_one_and_count_repetitions():
    rng = np.random.default_rng(0)
    X, target, weights = rng.normal(size=(40, 2)), rng.integers(0, 2, 40), rng.random(40)
    counts = rng.integers(1, 4, 40)
    base = LogisticRegression(tol=1e-10)
    weighted, scaled = fit_final(base, X, target, weights, counts, 0)
    np.testing.assert_allclose(scaled.sum() / counts.sum(), 1.0)
    repeated, _ = fit_final(
        base, *(np.repeat(part, counts, axis=0) for part in (X, target, weights)), None, 0
    )
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6)


def test_one_label_for_everybody():
    model, _ = fit_final(LogisticRegression(), np.zeros((5, 1)), np.ones(5, dtype=int), np.ones(5), None, 0)
    np.testing.assert_array_equal(model.predict(np.zeros((2, 1))), [1, 1])
    np.testing.assert_array_equal(model.predict_proba(np.zeros((2, 1))), [[0, 1], [0, 1]])
    np.testing.assert_array_equal(model.decision_function(np.zeros((2, 1))), [1, 1])


@pytest.mark.parametrize("variant", ["labels", "distilled"])
@pytest.mark.parametrize("aware", [False, True])
def test_a_flexible_learner_follows_the_optimal_rule(data, variant, aware):
    X, y, sensitive = data
    options = {"attribute_aware": aware, "tolerance": 0.05, "random_state": 0}
    final = DecisionTreeClassifier(min_samples_leaf=20, random_state=0)
    model = InProcessingFairClassifier(final_estimator=final, variant=variant, **options)
    model.fit(X, y, sensitive_features=sensitive)
    assert model.candidates_["tolerance"].tolist() == [0.05, 0.025, 0.0125, 0.0]
    best = model.candidates_[model.candidates_["violation"] <= 0.05]
    assert model.feasible_ == (len(best) > 0)
    decided = model.predict(X, sensitive_features=sensitive)
    free = mean_difference(y, LogisticRegression().fit(X, y).predict(X), sensitive_features=sensitive)
    assert mean_difference(y, decided, sensitive_features=sensitive) < 0.5 * free
    np.testing.assert_allclose(model.sample_weight_.mean(), 1.0, atol=1e-3)
    probabilities = model.predict_proba(X, sensitive_features=sensitive)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), decided)


def test_groups_too_small_to_constrain_do_not_decide_what_is_feasible(data):
    X, y, sensitive = (part.copy() for part in data)
    X[:6], y[:6] = -4.0, 1  # decided wrongly by any rule that is right about the others
    sensitive.iloc[:6] = "few"
    model = InProcessingFairClassifier(constraint="accuracy_parity", tolerance=0.2, random_state=0)
    with pytest.warns(FairnessWarning):
        model.fit(X, y, sensitive_features=sensitive)
    decided = model.predict(X)
    assert not decided[:6].any()
    assert model.feasible_
    assert model.candidates_["violation"].max() < 0.2


def test_given_multipliers_need_no_validation(data):
    X, y, sensitive = data
    lam = [0.2, -0.1, 0.0, -0.1]
    model = InProcessingFairClassifier(multipliers=lam, variant="distilled", random_state=0)
    model.fit(X, y, sensitive_features=sensitive)
    assert model.multipliers_.tolist() == lam
    assert model.candidates_.empty
    assert len(model.sample_weight_) == len(y)
    assert model.sample_weight_.mean() == pytest.approx(1.0, rel=1e-5)
    repeated = InProcessingFairClassifier(multipliers=lam, variant="distilled", random_state=0)
    repeated.fit(X, y, np.full(len(y), 7.0), sensitive_features=sensitive)
    # What is next to no weight is raised to a millionth of the mean.
    assert repeated.sample_weight_.sum() == pytest.approx(7.0 * len(y), rel=1e-5)
    post = BayesFairClassifier(multipliers=lam, random_state=0).fit(X, y, sensitive_features=sensitive)
    # The learner is linear, the rule nearly so.
    assert np.mean(model.predict(X) == post.predict(X)) > 0.85


def test_zero_multipliers_train_the_plain_learner(data):
    X, y, sensitive = data
    model = InProcessingFairClassifier(multipliers=[0.0] * 4, random_state=0)
    model.fit(X, y, sensitive_features=sensitive)
    plain = model._estimator().fit(X, y)
    np.testing.assert_array_equal(model.predict(X), plain.predict(X))
    np.testing.assert_allclose(model.decision_function(X), plain.decision_function(X), atol=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"final_estimator": KNeighborsClassifier()}, TypeError, "final_estimator must take sample_weight"),
        ({"final_estimator": object()}, TypeError, "final_estimator"),
        ({"variant": "soft"}, ValueError, "variant must be one of"),
        ({"n_candidates": 0}, ValueError, "n_candidates"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction"),
        ({"validation_fraction": 1e-9}, ValueError, "validation_fraction"),
        ({"multipliers": [1.0]}, ValueError, "multipliers"),
    ],
)
def test_bad_parameters_are_named(data, change, error, message):
    X, y, sensitive = data
    with pytest.raises(error, match=message):
        InProcessingFairClassifier(**change).fit(X, y, sensitive_features=sensitive)
