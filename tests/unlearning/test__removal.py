"""One removal step against a dense solve, in every route."""

import numpy as np
import pytest

from mlpapers.unlearning import _factor, _removal
from mlpapers.unlearning._newton import minimise
from mlpapers.unlearning._objective import Objective, weighted_gram
from mlpapers.unlearning._removal import (
    Setting,
    anchored,
    at_current_point,
    descend,
    full_newton_steps,
    newton_removal,
)
from mlpapers.unlearning.bounds import jacobian_slack

NAMES = ["log_loss", "softmax", "squared", "pseudo_huber", "smooth_hinge"]


class Case:
    """A trained problem, and rows to remove from it."""

    def __init__(self, problem, name, k, seed=0, d=4, n=60):
        rng = np.random.default_rng(seed)
        self.loss, self.X, self.y, self.w = problem(name, rng, n=n, d=d)
        self.setting = Setting(self.loss, 0.7, 1.0, "data_dependent", track_mu=True)
        self.p = d * self.loss.n_outputs
        self.b = rng.normal(size=self.p)
        self.full = Objective(self.loss, self.X, self.y, self.w, 0.7, self.b)
        minimum = minimise(self.full, np.zeros(self.p), tol=1e-8, max_iter=100)
        self.solution = anchored(self.setting, minimum, self.b)
        self.U = rng.choice(n, size=k, replace=False)
        self.after = self.w.copy()
        self.after[self.U] = 0.0
        self.rest = Objective(self.loss, self.X, self.y, self.after, 0.7, self.b)
        self.multipliers = rng.uniform(0.0, 2.0, size=k)

    def remove(self, multipliers=None):
        U = self.U
        return newton_removal(
            self.setting,
            self.solution,
            self.X[U],
            self.y[U],
            self.w[U],
            multipliers,
            weighted_gram(self.X, self.after),
            float(self.after.sum()),
        )

    def forget_gradient(self, scale):
        C = self.loss.slope(self.loss.scores(self.X[self.U], self.solution.theta), self.y[self.U])
        factor = self.w[self.U] * scale
        return self.loss.pull(self.X[self.U], C * (factor if C.ndim == 1 else factor[:, None]))


@pytest.mark.parametrize("k", [1, 3, 30])
@pytest.mark.parametrize("downdate_size", [512, 1])
@pytest.mark.parametrize("name", NAMES)
def test_step_is_the_dense_newton_step(problem, monkeypatch, name, downdate_size, k):
    monkeypatch.setattr(_removal, "DOWNDATE_SIZE", downdate_size)
    case = Case(problem, name, k)
    removal = case.remove()
    H_R = case.rest.hessian(case.solution.theta_ref)
    expected = np.linalg.solve(H_R, case.forget_gradient(1.0))
    np.testing.assert_allclose(removal.step, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(removal.solution.hessian, H_R, atol=1e-12)
    np.testing.assert_allclose(
        removal.solution.factor.solve(expected), np.linalg.solve(H_R, expected), rtol=1e-9, atol=1e-12
    )
    assert removal.solution.b is case.b


@pytest.mark.parametrize("name", NAMES)
def test_multipliers_scale_the_step_and_the_rest_is_in_the_bound(problem, name):
    case = Case(problem, name, 3)
    removal = case.remove(case.multipliers)
    H_R = case.rest.hessian(case.solution.theta)
    np.testing.assert_allclose(
        removal.step, np.linalg.solve(H_R, case.forget_gradient(case.multipliers)), rtol=1e-9, atol=1e-12
    )
    b1 = np.linalg.norm(case.forget_gradient(1.0 - case.multipliers))
    exact = np.linalg.norm(case.rest.gradient(removal.solution.theta))
    assert b1 <= removal.solution.residual
    assert exact <= removal.solution.residual + 1e-12
    assert np.isnan(removal.slack)


@pytest.mark.parametrize("name", ["log_loss", "softmax", "squared"])
def test_leverage_is_the_same_in_all_routes(problem, monkeypatch, name):
    """tr SK = tr H^{-1} (H - H_R), which the log-Jacobian bound sees."""
    case = Case(problem, name, 4)
    direct = case.remove()
    # The same rows four times at a quarter of the weight: more rows than parameters.
    copies = np.tile(case.U, 4)
    many = newton_removal(
        case.setting,
        case.solution,
        case.X[copies],
        case.y[copies],
        0.25 * case.w[copies],
        None,
        weighted_gram(case.X, case.after),
        float(case.after.sum()),
    )
    monkeypatch.setattr(_removal, "DOWNDATE_SIZE", 1)
    woodbury = case.remove()
    for other in (many, woodbury):
        np.testing.assert_allclose(other.step, direct.step, rtol=1e-9, atol=1e-13)
        assert other.slack == pytest.approx(direct.slack, rel=1e-9)
    H, H_R = case.solution.hessian, direct.solution.hessian
    leverage = np.trace(np.linalg.solve(H, H - H_R))
    eta = case.loss.constants.c * np.linalg.norm(direct.step)
    assert direct.slack == pytest.approx(jacobian_slack(eta, leverage, case.p), rel=1e-9)


@pytest.mark.parametrize("name", ["log_loss", "softmax"])
def test_large_models_downdate_their_factor(problem, monkeypatch, name):
    plain = Case(problem, name, 1, d=24)
    expected = plain.remove()
    for module in (_factor, _removal):
        monkeypatch.setattr(module, "DOWNDATE_SIZE", 8)
    removal = Case(problem, name, 1, d=24).remove()
    np.testing.assert_allclose(
        np.tril(removal.solution.factor.lower), np.tril(expected.solution.factor.lower), atol=1e-12
    )


def test_squared_loss_is_removed_exactly(problem):
    case = Case(problem, "squared", 6)
    removal = case.remove()
    best = minimise(case.rest, np.zeros(case.p), tol=1e-12, max_iter=10)
    np.testing.assert_allclose(removal.solution.theta, best.theta, atol=1e-8)
    assert removal.solution.residual <= case.solution.residual + 1e-11


@pytest.mark.parametrize("name", NAMES)
def test_full_steps_are_explicit_newton_steps(problem, name):
    case = Case(problem, name, 5)
    gram = weighted_gram(case.X, case.after)
    theta = case.solution.theta
    for n_steps in (1, 2):
        theta = theta - np.linalg.solve(case.rest.hessian(theta), case.rest.gradient(theta))
        for exact in (False, True):
            removal = full_newton_steps(
                case.setting, case.solution, case.rest, gram, float(case.after.sum()), n_steps, exact=exact
            )
            np.testing.assert_allclose(removal.solution.theta, theta, rtol=1e-8, atol=1e-10)
            norm = np.linalg.norm(case.rest.gradient(removal.solution.theta))
            assert norm <= removal.solution.residual + 1e-12
            if exact:
                assert removal.exact == removal.solution.residual == norm


def test_gradient_steps_descend_to_the_optimum(problem):
    case = Case(problem, "log_loss", 5)
    gram = weighted_gram(case.X, case.after)
    updated = case.remove().solution
    found = descend(case.setting, case.solution, updated, case.rest, gram, 1e-9, 2000)
    best = minimise(case.rest, np.zeros(case.p), tol=1e-10, max_iter=50)
    np.testing.assert_allclose(found.solution.theta, best.theta, atol=1e-7)
    short = descend(case.setting, case.solution, updated, case.rest, gram, 1e-9, 3)
    assert short.exact == np.linalg.norm(case.rest.gradient(short.solution.theta))
    before = np.linalg.norm(case.rest.gradient(case.solution.theta))
    assert found.exact < short.exact < before


def test_hessian_at_the_current_point(problem):
    case = Case(problem, "log_loss", 5)
    moved = case.remove().solution
    assert moved.drift is not None
    fresh = at_current_point(case.setting, moved, case.rest)
    assert fresh.drift is None
    np.testing.assert_array_equal(fresh.hessian, case.rest.hessian(moved.theta))
