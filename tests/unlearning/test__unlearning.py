"""Requests: atomic, stable in their numbering, certified by the ladder, and really erased."""

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from mlpapers.unlearning import DVWUClassifier, DVWURegressor, register_value_function, value_weights
from mlpapers.unlearning._factor import Factor

LOSSES = ["log_loss", "softmax", "smooth_hinge", "squared", "pseudo_huber"]


def fitted(loss, seed=0, n=60, d=3, **params):
    """Fit an estimator with this loss on random rows with random values."""
    rng = np.random.default_rng(seed)
    X, values = rng.normal(size=(n, d)), rng.normal(size=n)
    z = 2.0 * X[:, 0] + rng.normal(size=n)
    params = {"random_state": seed, "epsilon": 1e6, **params}
    if loss in ("squared", "pseudo_huber"):
        return DVWURegressor(loss=loss, **params).fit(X, z, data_values=values)
    y = np.digitize(z, [-1.0, 1.0]) if loss == "softmax" else (z > 0).astype(int)
    return DVWUClassifier(loss="log_loss" if loss == "softmax" else loss, **params).fit(
        X, y, data_values=values
    )


@settings(max_examples=30)
@given(st.sampled_from(LOSSES), st.integers(0, 10_000), st.lists(st.integers(1, 8), min_size=1, max_size=4))
def test_no_exact_residual_exceeds_its_bound(loss, seed, sizes):
    model = fitted(loss, seed)
    order = np.random.default_rng(seed).permutation(60)
    start = 0
    for k in sizes:
        result = model.unlearn(order[start : start + k])
        start += k
        # 60 terms of size below 20 each: their sum is exact to 1e-11.
        assert model.exact_residual() <= result.residual_bound + 1e-11
        assert result.residual_bound == model.residual_bound_


@settings(max_examples=15)
@given(st.sampled_from(LOSSES), st.integers(0, 10_000))
def test_batches_sequences_and_orders_meet_at_one_optimum(loss, seed):
    together, apart, reverse = (fitted(loss, seed) for _ in range(3))
    together.unlearn([4, 9, 17])
    for i in (4, 9, 17):
        apart.unlearn([i])
    for i in (17, 9, 4):
        reverse.unlearn([i])
    for model in (together, apart, reverse):
        assert model.exact_residual() <= model.residual_bound_ + 1e-11
        model.reanchor()
    # Gradients below 1e-8 max(1, ||g(0)||) <= 2e-6, alpha = 1; Newton's last step makes them far smaller.
    np.testing.assert_allclose(apart.coef_, together.coef_, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(reverse.coef_, together.coef_, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([], ValueError, "at least one row"),
        ([200], ValueError, r"lie in \[0, 200\); got 200"),
        ([-1], ValueError, r"got -1"),
        ([3, 3], ValueError, "repeat a row"),
        ([7], ValueError, "row 7 is already removed"),
        (np.delete(np.arange(200), 7), ValueError, "leave at least one row"),
        (np.ones(199, dtype=bool), ValueError, r"mask must have shape \(200,\)"),
        (np.zeros(200, dtype=bool), ValueError, "at least one row"),
        ([1.0, 2.0], TypeError, "integers or a boolean mask"),
        (["a"], TypeError, "integers"),
        ([[1, 2]], ValueError, "one-dimensional"),
        (3, ValueError, "one-dimensional"),
    ],
)
def test_bad_indices_change_nothing(classify, indices, error, message):
    model = classify()
    model.unlearn([7])
    before = pickle.dumps(model)
    with pytest.raises(error, match=message):
        model.unlearn(indices)
    assert pickle.dumps(model) == before


def test_numbers_are_original_row_numbers(classify):
    model = classify()
    model.unlearn(np.arange(100))  # a half: the arrays are squeezed before the next request
    mask = np.zeros(200, dtype=bool)
    mask[[150, 120]] = True
    result = model.unlearn(mask)
    assert result.indices.tolist() == [120, 150]
    assert len(model._rows.ids) == 100
    assert model.forget_indices_.tolist() == [*range(100), 120, 150]
    assert model.retain_indices_.tolist() == sorted(set(range(100, 200)) - {120, 150})
    assert np.flatnonzero(model.weights_ == 0).tolist() == model.forget_indices_.tolist()
    assert (result.n_removed, result.n_remaining) == (2, 98)
    model.unlearn([199, 101])
    assert model.weights_[[199, 101]].tolist() == [0.0, 0.0]


def test_a_failing_solver_changes_nothing(classify, tmp_path, monkeypatch):
    model = classify(log_path=tmp_path / "log", state_path=tmp_path / "state", data_values=np.arange(200.0))
    model.unlearn([1])
    before = pickle.dumps(model)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_):
        raise np.linalg.LinAlgError("no factor")

    monkeypatch.setattr(Factor, "of", fail)
    with pytest.raises(np.linalg.LinAlgError, match="no factor"):
        model.unlearn([2, 3])
    with pytest.raises(np.linalg.LinAlgError, match="no factor"):
        model.reanchor()
    assert pickle.dumps(model) == before
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


@pytest.mark.parametrize("params", [{}, {"value_function": "knn_shapley", "weight_role": "retain"}])
def test_a_failing_save_puts_everything_back(classify, tmp_path, monkeypatch, params):
    model = classify(state_path=tmp_path / "state", **params)
    model.unlearn([1])
    before, file = pickle.dumps(model), (tmp_path / "state").read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", fail)
    for request in (lambda: model.unlearn([2, 3]), model.reanchor):
        with pytest.raises(OSError, match="No space"):
            request()
    monkeypatch.undo()
    assert pickle.dumps(model) == before
    assert (tmp_path / "state").read_bytes() == file
    assert model.unlearn([2, 3]).n_remaining == 197


def test_deleted_rows_are_erased_byte_for_byte(binary, tmp_path):
    X, y, *_ = binary
    values = np.random.default_rng(0).normal(size=200)
    for role in ("objective", "forget", "retain"):
        model = DVWUClassifier(
            random_state=0,
            state_path=tmp_path / f"{role} s",
            log_path=tmp_path / f"{role} l",
            weight_role=role,
        ).fit(X, y, data_values=values)
        for indices in ([3, 4], np.arange(100, 170), [9]):
            for row in X[np.atleast_1d(indices)]:
                assert row.tobytes() in pickle.dumps(model)
            model.unlearn(indices)
            kept = pickle.dumps(model) + b"".join(path.read_bytes() for path in tmp_path.glob(f"{role} *"))
            for i in np.atleast_1d(indices):
                assert X[i].tobytes() not in kept
                assert values[i].tobytes() not in kept
    assert np.array_equal(X, binary[0])  # the caller's array is the caller's


def test_repeated_requests_are_answered_once(classify):
    model = classify()
    first = model.unlearn([5, 3], request_id="a")
    before = pickle.dumps(model)
    mask = np.zeros(200, dtype=bool)
    mask[[3, 5]] = True
    assert model.unlearn([3, 5], request_id="a") is first
    assert model.unlearn(mask, request_id="a") is first
    assert pickle.dumps(model) == before
    with pytest.raises(ValueError, match="'a' was used for other rows"):
        model.unlearn([3], request_id="a")
    with pytest.raises(ValueError, match="non-empty string"):
        model.unlearn([3], request_id="")
    with pytest.raises(TypeError, match="request_id must be a string or None; got 5"):
        model.unlearn([3], request_id=5)  # a log could not be replayed with it
    named = [model.unlearn([i]).request_id for i in (10, 11)]
    assert len({*named, "a"}) == 3


def test_nothing_works_before_fit():
    for call in (
        lambda model: model.unlearn([0]),
        lambda model: model.reanchor(),
        lambda model: model.retrain(),
        lambda model: model.release(),
        lambda model: model.plan(1),
        lambda model: model.save("x"),
        lambda model: model.exact_residual(),
        lambda model: model.weights_,
        lambda model: model.certificate_,
    ):
        with pytest.raises(NotFittedError):
            call(DVWUClassifier())


class TestLadder:
    def test_bound_never_exceeds_the_budget(self, classify):
        for params in (
            {"noise_scale": 0.3},
            {"perturbation": "output", "noise_scale": 0.02},
            {"noise_scale": 3.0, "accounting": "strict"},
            {"noise_scale": 0.3, "certificate": "worst_case"},
            {"noise_scale": 0.3, "multi_class": "ovr"},
        ):
            model = classify(**params)
            actions = []
            for i in range(0, 60, 2):
                result = model.unlearn([i, i + 1])
                actions.append(result.action)
                assert result.certified
                assert result.epsilon_spent <= 1.0
                if model.perturbation == "output":
                    assert result.parameter_gap_bound <= result.gap_budget
                    truth = model.retrain(fresh_noise=False)._theta
                    assert np.linalg.norm(model._theta - truth) <= result.parameter_gap_bound + 1e-7
                else:
                    assert result.residual_bound <= result.residual_budget
                    assert np.isnan(result.gap_budget)
                assert result.budget_left == pytest.approx(result.residual_budget - result.residual_bound)
            assert "reanchor" in actions

    def test_exact_certificates_reanchor_less_often(self, classify):
        def count(certificate):
            model = classify(noise_scale=0.3, certificate=certificate)
            return sum(model.unlearn([i]).action == "reanchor" for i in range(60))

        assert count("exact") < count("data_dependent") <= count("worst_case")

    def test_a_budget_that_no_optimum_meets_is_retrained(self, classify):
        model = classify(noise_scale=1e-12)
        b = model._model.solutions[0].b
        result = model.unlearn([1])
        assert (result.action, result.certified, result.epsilon_spent) == ("retrain", True, 0.0)
        assert np.any(model._model.solutions[0].b != b)
        silent = classify(noise_scale=0.0)
        assert silent.unlearn([1]).action == "retrain"

    def test_retraining_on_request(self, classify):
        model = classify(noise_scale=0.05, on_exhausted="retrain")
        b = model._model.solutions[0].b
        actions = [model.unlearn([i]).action for i in range(30)]
        assert set(actions) == {"newton", "retrain"}
        assert np.any(model._model.solutions[0].b != b)

    def test_reanchor_after_a_fixed_number_of_rows(self, classify):
        model = classify(epsilon=1e6, reanchor_every=3)
        assert [model.unlearn([i]).action for i in range(6)] == ["newton", "newton", "reanchor"] * 2
        free = classify(perturbation="none", reanchor_every=2)
        assert [free.unlearn([i]).action for i in range(2)] == ["newton", "reanchor"]

    def test_without_noise_nothing_is_certified_and_nothing_triggers(self, classify):
        model = classify(perturbation="none")
        result = model.unlearn(np.arange(150))
        assert (result.action, result.certified) == ("newton", False)
        assert result.epsilon_spent == result.residual_budget == np.inf
        assert not model.certificate_.valid

    def test_strict_counts_the_jacobian(self, classify):
        strict, gaussian = (classify(noise_scale=5.0, accounting=word) for word in ("strict", "gaussian"))
        one, two = strict.unlearn([1]), gaussian.unlearn([1])
        assert one.residual_bound == two.residual_bound
        assert one.jacobian_slack == two.jacobian_slack > 0.0
        assert one.epsilon_spent > two.epsilon_spent
        assert one.residual_budget < two.residual_budget
        # The Hessian is evaluated anew in strict mode, so every step has its slack; otherwise only the first.
        assert strict.unlearn([2]).jacobian_slack > 0.0
        assert np.isnan(gaussian.unlearn([2]).jacobian_slack)
        total = sum(solution.slack for solution in strict._model.solutions)
        assert total == pytest.approx(one.jacobian_slack + strict._requests["request-2"].jacobian_slack)
        assert strict.reanchor().residual_budget > strict._requests["request-2"].residual_budget

    def test_a_step_too_long_for_strict_accounting_warns(self, binary):
        X, y, *_ = binary
        model = DVWUClassifier(alpha=1e-3, accounting="strict", epsilon=1e12, random_state=0).fit(50.0 * X, y)
        with pytest.warns(RuntimeWarning, match="eta >= 1"):
            result = model.unlearn(np.arange(90))
        assert (result.action, result.certified) == ("reanchor", True)  # no budget covers it

    def test_a_lost_gap_bound_warns(self, binary):
        X, y, *_ = binary
        model = DVWUClassifier(alpha=0.05, perturbation="output", noise_scale=1e5, random_state=0).fit(X, y)
        with pytest.warns(RuntimeWarning, match="kappa"):
            result = model.unlearn(np.arange(120))
        assert result.parameter_gap_bound == pytest.approx(result.residual_bound / 0.05)


class TestRoles:
    @pytest.fixture
    def values(self):
        return np.random.default_rng(5).normal(size=200)

    def test_forget_pays_for_what_it_leaves(self, classify, values):
        model = classify(values, weight_role="forget", epsilon=1e6)
        np.testing.assert_array_equal(model.weights_, 1.0)
        s = value_weights(values, floor=0.0, direction="decreasing")
        gradient = (
            model._rows.X[:3]
            * (
                model._engine.loss.slope(model._rows.X[:3] @ model._theta[0], model._rows.y[:3]) * (1 - s[:3])
            )[:, None]
        )
        b1 = np.linalg.norm(gradient.sum(axis=0))
        result = model.unlearn([0, 1, 2])
        assert result.residual_bound >= b1
        assert model.exact_residual() <= result.residual_bound + 1e-11
        assert result.scope == "weights_independent"
        np.testing.assert_array_equal(model.weights_[3:], 1.0)

    def test_retain_takes_two_explicit_newton_steps_to_the_weighted_optimum(self, classify, values):
        model = classify(values, weight_role="retain", perturbation="none")
        np.testing.assert_array_equal(model.weights_, 1.0)
        kept = np.arange(20, 200)
        w = np.zeros(200)
        w[kept] = value_weights(values[kept])
        theta = model._theta[0]
        objective = model._engine.objective(copy.deepcopy(model._rows), w, 0, None)
        for _ in range(2):
            theta = theta - np.linalg.solve(objective.hessian(theta), objective.gradient(theta))
        result = model.unlearn(np.arange(20))
        np.testing.assert_allclose(model._theta[0], theta, rtol=1e-8)
        assert (
            result.residual_norm == result.residual_bound == pytest.approx(model.exact_residual(), rel=1e-6)
        )
        np.testing.assert_allclose(model.weights_, w, rtol=1e-12)
        # Values given as an array: from now on the weights are fixed, and requests pass over no data.
        frozen = model.weights_
        assert np.isnan(model.unlearn([30, 31]).residual_norm)
        frozen[[30, 31]] = 0.0
        np.testing.assert_array_equal(model.weights_, frozen)
        assert result.scope == "weights_frozen"

    def test_recomputed_weights_are_those_of_the_retained_rows(self, classify, binary):
        from mlpapers.unlearning import knn_shapley_values

        X, y, X_val, y_val = binary
        for params in ({"value_update": "recompute"}, {"weight_role": "retain"}):
            model = classify(value_function="knn_shapley", epsilon=1e6, **params)
            for U in (np.arange(10), [50, 51]):
                result = model.unlearn(U)
                R = model.retain_indices_
                expected = knn_shapley_values(X[R], y[R], X_val, y_val)
                np.testing.assert_allclose(model.data_values_[R], expected, atol=1e-15)
                np.testing.assert_allclose(model.weights_[R], value_weights(expected), rtol=1e-12)
                assert np.isnan(model.data_values_[model.forget_indices_]).all()
                assert model.exact_residual() <= result.residual_bound + 1e-11
                assert result.scope == "weights_recomputed"

    @pytest.mark.parametrize("certificate", ["data_dependent", "worst_case", "exact"])
    def test_recomputed_bounds_hold(self, classify, certificate):
        model = classify(
            value_function="influence", value_update="recompute", certificate=certificate, epsilon=1e9
        )
        for start in (0, 30, 60):
            result = model.unlearn(np.arange(start, start + 20))
            assert model.exact_residual() <= result.residual_bound + 1e-11

    def test_descent_on_recomputed_weights(self, classify):
        model = classify(
            value_function="knn_shapley", value_update="recompute", update="descent", epsilon=1e9
        )
        result = model.unlearn([1, 2])
        assert result.action == "descent"
        assert result.residual_norm == pytest.approx(model.exact_residual(), abs=1e-11)

    def test_frozen_weights_keep_their_normaliser(self, classify, values):
        model = classify(values)
        before = model.weights_
        model.unlearn(np.argsort(values)[:50])
        R = model.retain_indices_
        np.testing.assert_array_equal(model.weights_[R], before[R])
        assert model.weights_[R].mean() > 1.0

    def test_scopes(self, classify, values):
        def scope(data_values=values, **params):
            return classify(data_values, **params).certificate_.scope

        assert scope(None) == scope(weighting="uniform") == "weights_independent"
        assert scope() == "weights_frozen"
        # Ranks tie every row to all others, so a public rule helps only weights that look at one row.
        assert scope(values_public=True) == "weights_frozen"
        public = classify(values, values_public=True, weighting=np.exp)
        assert public.certificate_.scope == "weights_independent"
        np.testing.assert_allclose(public.weights_, np.exp(values))

    def test_registered_functions_get_features_and_labels_as_given(self, binary):
        X, y, *_ = binary
        names = np.array(["no", "yes"])[y]
        seen = []

        def distance(X, y, X_val, y_val):
            seen.append((X.shape, sorted(set(y)), X_val, y_val))
            return -np.linalg.norm(X, axis=1)

        register_value_function("test-distance", distance)
        model = DVWUClassifier(value_function="test-distance", random_state=0).fit(X, names)
        assert seen == [((200, 5), ["no", "yes"], None, None)]
        np.testing.assert_allclose(model.data_values_, -np.linalg.norm(X, axis=1))


def test_memory_of_a_request_does_not_grow_with_the_data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20_000, 20))
    model = DVWUClassifier(random_state=0, epsilon=1e6).fit(X, X[:, 0] > 0)
    model.unlearn([0])
    tracemalloc.start()
    model.unlearn([1])
    model.unlearn(np.arange(2, 12))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # X itself is 3.4 MB, an array of one number a row 160 kB


def test_verbose_reports_and_silence_is_silent(classify, capsys):
    classify().unlearn([1])
    assert capsys.readouterr().out == ""
    classify(verbose=1).unlearn([1])
    lines = capsys.readouterr().out.splitlines()
    assert "trained on 200 rows" in lines[0]
    assert "request-1: 1 rows, newton" in lines[1]
