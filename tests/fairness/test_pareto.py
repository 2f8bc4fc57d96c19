import numpy as np
import pytest

from mlpapers.core import ResultFormatError
from mlpapers.fairness import BayesFairClassifier, ParetoFrontResult, make_gaussian_groups, pareto_front
from mlpapers.testing import check_result


@pytest.fixture(scope="module")
def data():
    return make_gaussian_groups(3000, random_state=0)[:3]


@pytest.mark.parametrize("aware", [False, True])
@pytest.mark.parametrize("measure", ["difference", "ratio"])
@pytest.mark.parametrize("reference", ["overall", "pairwise"])
def test_the_risk_falls_with_the_tolerance(data, aware, measure, reference):
    X, y, sensitive = data
    model = BayesFairClassifier(measure=measure, reference=reference, attribute_aware=aware, random_state=0)
    tolerances = np.linspace(0.0, 0.4, 9)
    front = pareto_front(model, X, y, sensitive_features=sensitive, tolerances=tolerances)
    assert np.all(np.diff(front.risk) <= 1e-9)
    assert np.all(front.shadow_price <= 1e-12)
    if measure == "difference":
        # Evenly spaced, so convexity is in the second differences; prices are slopes of supporting lines.
        assert np.all(np.diff(front.risk, 2) >= -1e-9)
        assert np.all(np.diff(front.shadow_price) >= -1e-6)
        lines = front.risk[:, None] + front.shadow_price[:, None] * (
            tolerances[None, :] - tolerances[:, None]
        )
        assert np.all(lines <= front.risk[None, :] + 1e-7)


def test_defaults_reach_from_exact_fairness_to_no_constraint(data):
    X, y, sensitive = data
    front = pareto_front(
        BayesFairClassifier(random_state=0),
        X,
        y,
        sensitive_features=sensitive,
        X_test=X,
        y_test=y,
        sensitive_features_test=sensitive,
    )
    assert len(front.tolerances) == 16
    assert front.tolerances[0] == 0.0
    free = BayesFairClassifier(tolerance=1.0, random_state=0).fit(X, y, sensitive_features=sensitive)
    np.testing.assert_allclose(front.tolerances[-1], free.oof_violation_)
    models = front.estimators()
    for tolerance, model, accuracy in zip(front.tolerances, models, front.test_accuracy):
        assert model.tolerance == tolerance
        assert model.estimator_ is models[0].estimator_
        f = model.selection_proba(X)
        np.testing.assert_allclose(accuracy, np.mean(y * f + (1 - y) * (1 - f)))
    assert front.to_frame().shape == (16, 7)


def test_saved_fronts_have_no_models(data, tmp_path):
    X, y, sensitive = data
    front = pareto_front(
        BayesFairClassifier(random_state=0), X, y, sensitive_features=sensitive, tolerances=[0.1, 0.0]
    )
    np.testing.assert_array_equal(front.tolerances, [0.0, 0.1])
    loaded = ParetoFrontResult.load(front.save(tmp_path / "front"))
    with pytest.raises(ResultFormatError, match="fitted"):
        loaded.estimators()
    check_result(front)


def test_bad_arguments(data):
    X, y, sensitive = data
    with pytest.raises(TypeError, match="BayesFairClassifier"):
        pareto_front(object(), X, y, sensitive_features=sensitive)
    for options, message in (
        ({"tolerances": [0.1, 2.0]}, "tolerances"),
        ({"X_test": X}, "together"),
    ):
        with pytest.raises(ValueError, match=message):
            pareto_front(BayesFairClassifier(), X, y, sensitive_features=sensitive, **options)
    with pytest.raises(ValueError, match="multipliers=None"):
        pareto_front(BayesFairClassifier(multipliers=[0.0] * 4), X, y, sensitive_features=sensitive)
