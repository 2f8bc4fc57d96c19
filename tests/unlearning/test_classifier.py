"""The classifier: equal to scikit-learn on what is left, and to itself however it got there."""

import itertools

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlpapers.unlearning import DVWUClassifier, knn_shapley_values, value_weights


def with_constant(X):
    return np.column_stack([X, np.ones(len(X))])


def sklearn_parameters(X, y, alpha, weight):
    """Return (K or 1, d) parameters of LogisticRegression, constant column regularised as ours is."""
    model = LogisticRegression(C=1.0 / alpha, fit_intercept=False, tol=1e-12, solver="newton-cholesky")
    return model.fit(with_constant(X), y, sample_weight=weight).coef_


@pytest.mark.parametrize("n_classes", [2, 3])
def test_training_is_logistic_regression_with_these_weights(binary, n_classes):
    X, y, X_val, y_val = binary
    if n_classes == 3:
        y = np.digitize(X[:, 0] + 0.3 * X[:, 1], [-0.5, 0.5])
    values = knn_shapley_values(X, y, X_val, y_val)
    sample_weight = np.random.default_rng(0).uniform(0.5, 2.0, size=len(X))
    model = DVWUClassifier(alpha=0.7, perturbation="none").fit(X, y, sample_weight, data_values=values)
    np.testing.assert_allclose(model.weights_, value_weights(values) * sample_weight, rtol=1e-13)
    theirs = sklearn_parameters(X, y, 0.7, model.weights_)
    # Gradients below 1e-6 of strong convexity 0.7.
    np.testing.assert_allclose(np.column_stack([model.coef_, model.intercept_]), theirs, atol=5e-6)
    np.testing.assert_array_equal(model.data_values_, values)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"loss": "smooth_hinge"},
        {"update": "descent"},
        {"n_newton_steps": 3},
        {"value_update": "recompute", "value_function": "knn_shapley"},
        {"weight_role": "forget", "value_function": "knn_shapley"},
        {"weight_role": "retain", "value_function": "knn_shapley"},
        {"weight_role": "retain"},
    ],
)
def test_retraining_is_where_reanchoring_leads(classify, params):
    model = classify(**{"epsilon": 1e6, **params})
    assert model.unlearn([0, 5, 9]).action in ("newton", "descent")
    model.unlearn(np.arange(20, 40))
    assert model.exact_residual() <= model.residual_bound_ + 1e-11
    retrained = model.retrain()
    model.reanchor()
    # Both gradients are below 1e-8 of that at zero, about 1e-6, and strong convexity is 1.
    np.testing.assert_allclose(retrained.coef_, model.coef_, rtol=1e-6, atol=1e-6)
    assert retrained.classes_.tolist() == [0, 1]
    assert retrained.retain_indices_.size == 200 - 23


def test_three_classes_and_one_against_the_rest(binary):
    X = binary[0]
    y = np.array(["low", "middle", "top"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    for multi_class in ("multinomial", "ovr"):
        model = DVWUClassifier(multi_class=multi_class, epsilon=1e6, random_state=0).fit(X, y)
        first = model.unlearn(np.arange(12))
        assert first.action == "newton"
        assert model.exact_residual() <= first.residual_bound + 1e-11
        retrained = model.retrain()
        model.reanchor()
        np.testing.assert_allclose(retrained.coef_, model.coef_, rtol=1e-6, atol=1e-6)
        assert set(model.predict(X)) == {"low", "middle", "top"}
        P = model.predict_proba(X)
        np.testing.assert_allclose(P.sum(axis=1), 1.0, atol=1e-12)
        np.testing.assert_array_equal(model.classes_[P.argmax(axis=1)], model.predict(X))
    assert DVWUClassifier(loss="smooth_hinge").fit(X, y)._settings.scheme == "ovr"
    assert DVWUClassifier().fit(X, y)._settings.scheme == "softmax"
    wide = np.random.default_rng(0).normal(size=(60, 1400))
    assert (
        DVWUClassifier(perturbation="none", max_iter=3, tol=0.5).fit(wide, y[:60])._settings.scheme == "ovr"
    )


def test_one_against_the_rest_is_one_problem_a_class(binary):
    X = binary[0]
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    together = DVWUClassifier(multi_class="ovr", perturbation="none").fit(X, y)
    threaded = DVWUClassifier(multi_class="ovr", perturbation="none", n_jobs=2).fit(X, y)
    np.testing.assert_allclose(threaded.coef_, together.coef_, atol=1e-10)
    together.unlearn([3, 4])
    for label in range(3):
        alone = DVWUClassifier(perturbation="none").fit(X, y == label)
        alone.unlearn([3, 4])
        np.testing.assert_allclose(together.coef_[label], alone.coef_[0], atol=1e-12)


def test_probabilities_where_every_sigmoid_underflows(binary):
    X = binary[0]
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    model = DVWUClassifier(multi_class="ovr", perturbation="none").fit(X, y)
    model.coef_, model.intercept_ = np.zeros((3, 5)), np.full(3, -1000.0)
    np.testing.assert_allclose(model.predict_proba(X[:2]), 1.0 / 3.0)


def test_uniform_weights_are_conventional_unlearning(binary):
    """The textbook step theta + H_R^{-1} sum_U grad, from dense matrices."""
    X, y, *_ = binary
    values = np.random.default_rng(0).normal(size=len(X))
    for weighting in ("uniform", np.ones_like):
        model = DVWUClassifier(alpha=0.5, weighting=weighting, perturbation="none").fit(
            X, y, data_values=values
        )
        A, s = with_constant(X), 2.0 * y - 1.0
        theta = model._theta[0]
        U = [2, 3, 50]
        R = np.setdiff1d(np.arange(200), U)
        p = 1.0 / (1.0 + np.exp(-A @ theta))
        H = (A[R].T * (p[R] * (1 - p[R]))) @ A[R] + 0.5 * np.eye(6)
        gradient = A[U].T @ (-s[U] / (1.0 + np.exp(s[U] * (A[U] @ theta))))
        model.unlearn(U)
        np.testing.assert_allclose(
            np.append(model.coef_, model.intercept_), theta + np.linalg.solve(H, gradient), atol=1e-10
        )


def test_weights_and_alpha_scale_together(binary):
    X, y, *_ = binary
    values = np.random.default_rng(0).normal(size=len(X))
    one = DVWUClassifier(alpha=0.8, noise_scale=1.0, random_state=3).fit(X, y, data_values=values)
    seven = DVWUClassifier(alpha=5.6, noise_scale=7.0, random_state=3).fit(
        X, y, np.full(200, 7.0), data_values=values
    )
    for model in (one, seven):
        model.unlearn([1, 2, 3])
    np.testing.assert_allclose(seven.coef_, one.coef_, rtol=1e-6, atol=1e-8)


def test_every_row_of_a_class_and_duplicates(binary):
    X, y, *_ = binary
    X, y = np.vstack([X, X[:1]]), np.append(y, y[0])
    model = DVWUClassifier(random_state=0, perturbation="none").fit(X, y)
    model.unlearn([0])
    assert 200 in model.retain_indices_  # the duplicate is another subject
    model.unlearn(np.setdiff1d(np.flatnonzero(y == 1), [0]))
    if y[0] == 1:
        model.unlearn([200]) if 200 in model.retain_indices_ else None
    assert model.classes_.tolist() == [0, 1]
    assert model.predict_proba(X).shape == (201, 2)
    model.reanchor()
    rows = model.retain_indices_
    assert model.exact_residual() < 1e-5
    assert set(y[rows]) <= {0, 1}


def test_wide_constant_and_zero_columns(binary):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(30, 80)), np.zeros(30), np.ones(30)])
    y = np.arange(30) % 2
    model = DVWUClassifier(random_state=0, epsilon=1e6).fit(X, y)
    result = model.unlearn([0, 1, 2])
    assert model.exact_residual() <= result.residual_bound + 1e-11
    assert np.all(np.isfinite(model.coef_))


def test_single_precision_input_is_computed_in_double(binary):
    X, y, *_ = binary
    X32 = X.astype(np.float32)
    one = DVWUClassifier(random_state=0).fit(X32, y)
    two = DVWUClassifier(random_state=0).fit(X32.astype(np.float64), y)
    np.testing.assert_array_equal(one.coef_, two.coef_)
    assert one.coef_.dtype == np.float64


def test_norm_bound_scales_rows_in_fit_and_predict(binary):
    X, y, *_ = binary
    bound = 2.0
    norms = np.linalg.norm(X, axis=1)
    clipped = X * np.minimum(1.0, np.sqrt(bound**2 - 1.0) / norms)[:, None]
    model = DVWUClassifier(norm_bound=bound, random_state=0).fit(X, y)
    plain = DVWUClassifier(random_state=0).fit(clipped, y)
    np.testing.assert_allclose(model.coef_, plain.coef_, atol=1e-9)
    np.testing.assert_allclose(model.decision_function(X), plain.decision_function(clipped), atol=1e-9)
    assert model.norm_bound_ == bound
    assert np.linalg.norm(model._rows.X, axis=1).max() <= bound * (1 + 1e-12)
    assert np.linalg.norm(plain._rows.X, axis=1).max() <= plain.norm_bound_


def test_random_state_decides_the_noise(classify):
    for perturbation in ("objective", "output"):
        one, same, other = (classify(perturbation=perturbation, random_state=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one.coef_, same.coef_)
        assert np.abs(one.coef_ - other.coef_).max() > 1e-4
    assert np.any(classify(random_state=None).coef_ != classify(random_state=None).coef_)
    drawn = [classify(random_state=np.random.RandomState(4)).coef_ for _ in range(2)]
    np.testing.assert_array_equal(*drawn)


def test_output_noise_is_fresh_with_every_change(classify):
    model = classify(perturbation="output", noise_scale=0.3)
    noises = []
    for indices in ([1], [2], [3]):
        noises.append(np.append(model.coef_, model.intercept_) - model._theta[0])
        model.unlearn(indices)
    assert min(np.abs(a - b).max() for a, b in itertools.pairwise(noises)) > 1e-3
    same = model.retrain()
    fresh = model.retrain(fresh_noise=True)
    noise = np.append(model.coef_, model.intercept_) - model._theta[0]
    np.testing.assert_allclose(np.append(same.coef_, same.intercept_) - same._theta[0], noise, atol=1e-15)
    assert np.abs(np.append(fresh.coef_, fresh.intercept_) - fresh._theta[0] - noise).max() > 1e-3


def test_objective_noise_stays_in_every_gradient(classify):
    model = classify(noise_scale=3.0)
    b = model._model.solutions[0].b
    model.unlearn([1, 2])
    model.reanchor()
    assert model._model.solutions[0].b is b
    assert model.exact_residual() < 1e-5
    kept, fresh = model.retrain(), model.retrain(fresh_noise=True)
    np.testing.assert_array_equal(kept._model.solutions[0].b, b)
    assert np.abs(fresh._model.solutions[0].b - b).max() > 1e-3
    again = model.retrain(fresh_noise=True)
    np.testing.assert_array_equal(again.coef_, fresh.coef_)


def test_it_works_in_pipelines_and_searches(binary):
    X, y, *_ = binary
    pipeline = make_pipeline(StandardScaler(), DVWUClassifier(random_state=0))
    search = GridSearchCV(pipeline, {"dvwuclassifier__alpha": [0.1, 10.0]}, cv=2).fit(X, y)
    assert search.best_estimator_[-1].unlearn([0]).n_removed == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"delta": 1.0}, "delta"),
        ({"noise_scale": -1.0}, "noise_scale"),
        ({"loss": "squared"}, "loss must be one of 'log_loss', 'smooth_hinge'"),
        ({"perturbation": "input"}, "perturbation must be one of 'objective', 'output', 'none'"),
        ({"weighting": "linear"}, "weighting must be one of 'uniform', 'rank'"),
        ({"weight_role": "all"}, "weight_role must be one of 'objective', 'forget', 'retain'"),
        ({"value_update": "never"}, "value_update must be one of"),
        ({"update": "sgd"}, "update must be one of 'newton', 'descent'"),
        ({"certificate": "tight"}, "certificate must be one of"),
        ({"accounting": "renyi"}, "accounting must be one of 'gaussian', 'strict'"),
        ({"on_exhausted": "stop"}, "on_exhausted must be one of 'reanchor', 'retrain'"),
        ({"multi_class": "ovo"}, "multi_class must be one of 'auto', 'multinomial', 'ovr'"),
        ({"n_newton_steps": 0}, "n_newton_steps"),
        ({"reanchor_every": 0}, "reanchor_every"),
        ({"hinge_temperature": 0.0}, "hinge_temperature"),
        ({"weight_floor": 2.0}, "weight_floor"),
        ({"norm_bound": 0.5}, "norm_bound"),
        ({"tol": 0.0}, "tol"),
        ({"max_iter": 0}, "max_iter"),
        ({"accounting": "strict", "weight_role": "retain"}, "strict.*weight_role"),
        ({"accounting": "strict", "weight_role": "forget"}, "strict.*weight_role"),
        ({"accounting": "strict", "value_update": "recompute"}, "strict.*value_update"),
        ({"accounting": "strict", "update": "descent"}, "strict.*update"),
        ({"accounting": "strict", "n_newton_steps": 2}, "strict.*n_newton_steps"),
        ({"weight_role": "forget", "update": "descent"}, "forget.*newton"),
        ({"weight_role": "forget", "value_update": "recompute"}, "forget.*frozen"),
        ({"loss": "smooth_hinge", "multi_class": "multinomial"}, "multinomial.*log_loss"),
        ({"value_function": "shapley"}, "value_function must be callable or one of 'knn_shapley'"),
        ({"value_function": "influence"}, "value_function='influence' needs X_val and y_val"),
        ({"random_state": -1}, "random_state"),
        ({"n_jobs": 0}, "n_jobs must be None or a non-zero integer"),
        ({"verbose": -1}, "verbose"),
    ],
)
def test_bad_parameters_are_named(binary, params, message):
    with pytest.raises(ValueError, match=message):
        DVWUClassifier(**params).fit(*binary[:2])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data_values": np.zeros(3)}, ValueError, r"data_values must have shape \(200,\)"),
        ({"data_values": np.full(200, np.nan)}, ValueError, "data_values must be finite"),
        ({"data_values": np.r_[np.inf, np.zeros(199)]}, ValueError, "data_values must be finite"),
        ({"X_val": np.zeros((3, 5))}, ValueError, "together"),
        ({"X_val": np.zeros((3, 4)), "y_val": np.zeros(3)}, ValueError, "X_val and y_val must have shapes"),
        ({"sample_weight": np.full(200, -1.0)}, ValueError, "[Nn]egative"),
    ],
)
def test_bad_arrays_are_named(binary, arguments, error, message):
    with pytest.raises(error, match=message):
        DVWUClassifier().fit(*binary[:2], **arguments)


def test_sparse_rows_are_refused(binary, classify):
    X, y, *_ = binary
    with pytest.raises(TypeError, match="X must be dense"):
        DVWUClassifier().fit(sparse.csr_array(X), y)
    model = classify()
    for call in (model.predict, model.predict_proba, model.decision_function):
        with pytest.raises(TypeError, match="X must be dense"):
            call(sparse.csr_array(X))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_jobs": 1.5}, "n_jobs"),
        ({"verbose": "loud"}, "verbose"),
        ({"alpha": "1"}, "alpha"),
        ({"max_iter": 2.0}, "max_iter"),
        ({"fit_intercept": 1}, "fit_intercept"),
        ({"values_public": "yes"}, "values_public"),
        ({"log_path": 3}, "log_path must be a path or None"),
        ({"state_path": 3}, "state_path must be a path or None"),
    ],
)
def test_parameters_of_the_wrong_type_are_named(binary, params, message):
    with pytest.raises(TypeError, match=message):
        DVWUClassifier(**params).fit(*binary[:2])


@pytest.mark.parametrize("norm_bound", [None, 2.0])
@pytest.mark.parametrize("power", [60, 154, 300])
def test_entries_whose_bounds_overflow_are_refused(binary, power, norm_bound):
    with pytest.raises(ValueError, match="X is too large, its bounds overflow"):
        DVWUClassifier(norm_bound=norm_bound).fit(binary[0] * 10.0**power, binary[1])


def test_values_come_from_one_place(binary):
    X, y, X_val, y_val = binary
    with pytest.raises(ValueError, match="data_values must be None"):
        DVWUClassifier(value_function="knn_shapley").fit(X, y, data_values=y, X_val=X_val, y_val=y_val)
    with pytest.raises(ValueError, match="value_update='recompute' needs value_function"):
        DVWUClassifier(value_update="recompute").fit(X, y, data_values=np.arange(200.0))
    with pytest.raises(ValueError, match="finite weights >= 0"):
        DVWUClassifier(weighting=lambda v: v - 1e9).fit(X, y, data_values=np.arange(200.0))
    with pytest.raises(ValueError, match=r"weighting must return .* not all zero"):
        DVWUClassifier(weighting=lambda v: 0 * v).fit(X, y, data_values=np.arange(200.0))

    class Valuer:
        values_ = np.arange(200.0)

    np.testing.assert_allclose(
        DVWUClassifier().fit(X, y, data_values=Valuer()).weights_, value_weights(np.arange(200.0))
    )


def test_probabilities_need_the_log_loss(classify):
    assert not hasattr(classify(loss="smooth_hinge"), "predict_proba")
    with pytest.raises(AttributeError):
        classify(loss="smooth_hinge").predict_proba(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="two classes; got 1 class"):
        DVWUClassifier().fit(np.zeros((4, 1)), np.zeros(4))
