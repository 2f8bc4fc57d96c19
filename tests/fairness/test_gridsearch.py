import itertools

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from mlpapers.fairness import GridSearchFairClassifier, make_gaussian_groups, mean_difference, paper_rule


@pytest.fixture(scope="module")
def data():
    return make_gaussian_groups(1500, n_groups=2, random_state=0)[:3]


def held_out_rows(model, n):
    """The validation half, as the estimator draws it."""
    rng = np.random.default_rng(model._random_states(64)[3])
    return rng.permutation(n)[: round(0.5 * n)]


def test_every_point_of_the_grid_is_judged_by_the_printed_rule(data):
    X, y, sensitive = data
    model = GridSearchFairClassifier(grid_interval=0.5, tolerance=0.1, random_state=0)
    model.fit(X, y, sensitive_features=sensitive)
    axis = [-1.0, -0.5, 0.0, 0.5, 1.0]
    grid = list(itertools.product(axis, axis))
    np.testing.assert_allclose(model.record_.iloc[:, :2], grid)
    rows = held_out_rows(model, len(y))
    joint = model.estimator_.joint(X[rows], None)
    eta = model.estimator_.eta(X[rows], joint)
    for lam, record in zip(grid, model.record_.itertuples(index=False)):
        H = paper_rule(joint, lam, constraint="demographic_parity", eta=eta, base_rates=model._base_rates)
        decided = (H > 0).astype(int)
        assert record.accuracy == pytest.approx(np.mean(decided == y[rows]))
        violation = mean_difference(y[rows], decided, sensitive_features=sensitive.iloc[rows])
        assert record.violation == pytest.approx(violation)
    kept = model.record_[model.record_["violation"] <= 0.1]
    assert model.feasible_
    chosen = kept[kept["accuracy"] == kept["accuracy"].max()].sort_values("violation").iloc[0]
    np.testing.assert_allclose(model.best_multipliers_, chosen.iloc[:2])
    H = paper_rule(
        model.estimator_.joint(X, None),
        model.best_multipliers_.to_numpy(),
        constraint="demographic_parity",
        eta=model.estimator_.eta(X, model.estimator_.joint(X, None)),
        base_rates=model._base_rates,
    )
    np.testing.assert_allclose(model.decision_function(X), H, atol=1e-12)
    np.testing.assert_array_equal(model.predict(X), H > 0)


@pytest.mark.parametrize("aware", [False, True])
def test_in_processing_trains_every_candidate(data, aware):
    X, y, sensitive = data
    model = GridSearchFairClassifier(
        processing="in", grid_interval=0.5, tolerance=0.1, attribute_aware=aware, random_state=0
    )
    model.fit(X, y, sensitive_features=sensitive)
    assert len(model.record_) == 25
    decided = model.predict(X, sensitive_features=sensitive)
    np.testing.assert_array_equal(model.decision_function(X, sensitive_features=sensitive) > 0, decided == 1)
    if model.feasible_:
        best = model.record_["violation"] <= 0.1
        assert model.record_["accuracy"][best].max() > 0.6


def test_where_nothing_is_fair_enough_the_fairest_is_taken(data):
    X, y, sensitive = data
    model = GridSearchFairClassifier(max_lambda=0.0, tolerance=0.0, random_state=0)
    model.fit(X, y, sensitive_features=sensitive)
    assert not model.feasible_
    assert len(model.record_) == 1


def test_huge_grids_are_refused():
    X, y, sensitive, _ = make_gaussian_groups(200, random_state=0)
    with pytest.raises(ValueError, match=r"21\^4 = 194481"):
        GridSearchFairClassifier().fit(X, y, sensitive_features=sensitive)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"processing": "pre"}, ValueError, "processing must be one of"),
        ({"max_lambda": -1.0}, ValueError, "max_lambda"),
        ({"grid_interval": 0.0}, ValueError, "grid_interval"),
        ({"validation_fraction": 0.0}, ValueError, "validation_fraction"),
        ({"max_candidates": 0}, ValueError, "max_candidates"),
        ({"joint": "other"}, ValueError, "joint"),
        ({"eta": "other"}, ValueError, "eta"),
        ({"processing": "in", "final_estimator": KNeighborsClassifier()}, TypeError, "final_estimator"),
    ],
)
def test_bad_parameters_are_named(data, change, error, message):
    X, y, sensitive = data
    with pytest.raises(error, match=message):
        GridSearchFairClassifier(**{"grid_interval": 1.0, **change}).fit(X, y, sensitive_features=sensitive)
