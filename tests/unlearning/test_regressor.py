"""The regressor: ridge regression that forgets exactly, and a robust loss."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import Ridge

from mlpapers.unlearning import DVWURegressor


def test_squared_loss_is_ridge_before_and_after(binary):
    X = binary[0]
    y = X @ np.arange(5.0) + np.random.default_rng(1).normal(size=200)
    values = np.random.default_rng(2).normal(size=200)
    model = DVWURegressor(alpha=2.0, perturbation="none", fit_intercept=False).fit(X, y, data_values=values)
    removed = []
    for U in ([5], [7, 8, 9], np.arange(20, 80)):
        result = model.unlearn(U)
        removed.extend(np.atleast_1d(U).tolist())
        assert (result.action, result.certified, result.epsilon_spent) == ("exact", True, 0.0)
        kept = np.setdiff1d(np.arange(200), removed)
        ridge = Ridge(alpha=2.0, fit_intercept=False).fit(
            X[kept], y[kept], sample_weight=model.weights_[kept]
        )
        np.testing.assert_allclose(model.coef_, ridge.coef_, atol=1e-9)
        assert model.exact_residual() <= model.residual_bound_ + 1e-11
    assert model.certificate_.valid
    assert isinstance(model.intercept_, float)
    assert model.intercept_ == 0.0


def test_reanchored_without_noise_is_not_called_certified(regress):
    model = regress(perturbation="none")
    model.unlearn([1])
    assert not model.reanchor().certified


def test_pseudo_huber_is_the_minimiser_of_its_loss(binary):
    X = binary[0]
    rng = np.random.default_rng(1)
    y = X @ np.arange(5.0) + rng.standard_t(1.5, size=200)
    model = DVWURegressor(loss="pseudo_huber", huber_delta=0.8, alpha=0.5, perturbation="none").fit(X, y)
    A = np.column_stack([X, np.ones(200)])

    def objective(t):
        r = A @ t - y
        return (0.64 * (np.sqrt(1 + (r / 0.8) ** 2) - 1)).sum() + 0.25 * t @ t

    found = minimize(objective, np.zeros(6), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(np.append(model.coef_, model.intercept_), found.x, atol=1e-5)
    assert model.unlearn([1, 2]).action == "newton"
    assert not model.certificate_.valid


def test_squared_loss_with_noise_or_multipliers(regress):
    noisy = regress(perturbation="objective", noise_scale=2.0)
    assert noisy.unlearn([3]).action == "exact"
    values = np.random.default_rng(0).normal(size=200)
    model = regress(data_values=values, weight_role="forget", epsilon=1e6)
    result = model.unlearn([3, 4, 5])
    assert result.action == "newton"
    assert result.epsilon_spent > 0.0
    assert model.exact_residual() <= result.residual_bound + 1e-10


def test_value_functions_see_numbers(binary):
    X, _, X_val, _ = binary
    y, y_val = X @ np.arange(5.0), X_val @ np.arange(5.0)
    for name in ("influence", "gradient_alignment"):
        model = DVWURegressor(value_function=name, perturbation="none").fit(X, y, X_val=X_val, y_val=y_val)
        assert np.all(np.isfinite(model.data_values_))
        assert model.unlearn([0]).scope == "weights_frozen"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss": "log_loss"}, "loss must be one of 'squared', 'pseudo_huber'"),
        ({"huber_delta": 0.0}, "huber_delta"),
    ],
)
def test_bad_parameters_are_named(binary, params, message):
    with pytest.raises(ValueError, match=message):
        DVWURegressor(**params).fit(*binary[:2])
