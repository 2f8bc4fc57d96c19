"""Training and the way back to the optimum."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from mlpapers.unlearning import _newton
from mlpapers.unlearning._factor import Factor
from mlpapers.unlearning._newton import minimise, return_to_optimum
from mlpapers.unlearning._objective import Objective, weighted_gram

NAMES = ["log_loss", "softmax", "squared", "pseudo_huber", "smooth_hinge"]


def objective_of(problem, name, seed=0, alpha=0.5, with_noise=True):
    rng = np.random.default_rng(seed)
    loss, X, y, w = problem(name, rng)
    b = rng.normal(size=X.shape[1] * loss.n_outputs) if with_noise else None
    return Objective(loss, X, y, w, alpha, b)


@pytest.mark.parametrize("name", NAMES)
def test_minimum_is_that_of_a_general_optimiser(problem, name):
    objective = objective_of(problem, name)
    zero = np.zeros(objective.n_parameters)
    found = minimise(objective, zero, tol=1e-8, max_iter=100)
    target = 1e-8 * max(1.0, np.linalg.norm(objective.gradient(zero)))
    assert found.gradient_norm <= target
    assert found.gradient_norm == np.linalg.norm(objective.gradient(found.theta))
    np.testing.assert_array_equal(found.hessian, objective.hessian(found.theta))
    other = minimize(
        lambda t: objective.value(t, objective.loss.scores(objective.X, t)),
        zero,
        jac=objective.gradient,
        method="BFGS",
        options={"gtol": 1e-9, "maxiter": 500},
    )
    # Both gradients are below 1e-7, and strong convexity turns that into at most 2e-7/alpha.
    np.testing.assert_allclose(found.theta, other.x, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_of_the_objective(problem, name):
    objective = objective_of(problem, name)
    rng = np.random.default_rng(1)
    theta, v = rng.normal(size=(2, objective.n_parameters))
    h = 1e-5
    Z = objective.loss.scores(objective.X, theta)

    def value(t):
        return objective.value(t, objective.loss.scores(objective.X, t))

    slope = (value(theta + h * v) - value(theta - h * v)) / (2 * h)
    assert slope == pytest.approx(objective.gradient(theta) @ v, rel=1e-6, abs=1e-7)
    turned = (objective.gradient(theta + h * v) - objective.gradient(theta - h * v)) / (2 * h)
    np.testing.assert_allclose(objective.hessian(theta) @ v, turned, atol=1e-6)
    np.testing.assert_allclose(objective.hessian_product(Z, v), objective.hessian(theta) @ v, atol=1e-12)


def test_blocks_of_rows_add_up(problem, monkeypatch):
    from mlpapers.unlearning import losses

    objective = objective_of(problem, "softmax")
    theta = np.random.default_rng(2).normal(size=objective.n_parameters)
    whole = objective.hessian(theta)
    monkeypatch.setattr(losses, "_BLOCK_ENTRIES", 7 * objective.n_parameters)
    np.testing.assert_allclose(objective.hessian(theta), whole, rtol=1e-13, atol=1e-13)
    X, w = objective.X, objective.w
    np.testing.assert_allclose(weighted_gram(X, w), X.T @ (w[:, None] * X), atol=1e-13)


@pytest.mark.parametrize("name", ["log_loss", "softmax"])
def test_large_models_train_without_a_factorisation(problem, monkeypatch, name):
    objective = objective_of(problem, name)
    zero = np.zeros(objective.n_parameters)
    direct = minimise(objective, zero, tol=1e-8, max_iter=100)
    monkeypatch.setattr(_newton, "_DIRECT_SIZE", 0)
    indirect = minimise(objective, zero, tol=1e-8, max_iter=100)
    assert indirect.gradient_norm <= 1e-8 * max(1.0, np.linalg.norm(objective.gradient(zero)))
    np.testing.assert_allclose(indirect.theta, direct.theta, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_return_to_optimum_reaches_it_from_near_and_far(problem, name):
    objective = objective_of(problem, name)
    zero = np.zeros(objective.n_parameters)
    best = minimise(objective, zero, tol=1e-8, max_iter=100)
    rng = np.random.default_rng(3)
    for distance in (1e-3, 30.0):
        start = best.theta + distance * rng.normal(size=zero.size)
        back = return_to_optimum(objective, start, best.factor, tol=1e-8, max_iter=100)
        assert back.gradient_norm <= 1e-8 * max(1.0, np.linalg.norm(objective.gradient(zero)))
        np.testing.assert_allclose(back.theta, best.theta, atol=1e-6)
        np.testing.assert_array_equal(back.hessian, objective.hessian(back.theta))


def test_too_few_iterations_warn_and_the_norm_is_exact(problem):
    objective = objective_of(problem, "log_loss", alpha=1e-4)
    with pytest.warns(ConvergenceWarning, match="max_iter=1"):
        found = minimise(objective, np.zeros(objective.n_parameters), tol=1e-10, max_iter=1)
    assert found.gradient_norm == np.linalg.norm(objective.gradient(found.theta))


def test_an_indefinite_matrix_is_refused():
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        Factor.of(np.diag([1.0, -1.0]))
