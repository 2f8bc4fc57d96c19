"""Bounds: never exceeded by what they bound, and equal to their formulas."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.unlearning import LOSS_CONSTANTS, parameter_gap_bound, residual_bound
from mlpapers.unlearning._newton import minimise
from mlpapers.unlearning._objective import Objective, weighted_gram
from mlpapers.unlearning._removal import Setting, anchored, newton_removal
from mlpapers.unlearning.bounds import gap_and_kappa, jacobian_slack, residual_of_gap

# Gradients of these small problems are sums of at most 200 terms below 1: rounding stays under 1e-12.
ROUNDING = 1e-12


def after_removal(problem, name, seed, k, alpha, certificate="data_dependent", rounds=1):
    """Train, remove `rounds` batches of k rows; return the last Solution and the objective left."""
    rng = np.random.default_rng(seed)
    loss, X, y, w = problem(name, rng, n=40)
    w = w.copy()
    setting = Setting(loss, alpha, 1.0, certificate, track_mu=True)
    p = X.shape[1] * loss.n_outputs
    b = rng.normal(size=p)
    objective = Objective(loss, X, y, w, alpha, b)
    solution = anchored(setting, minimise(objective, np.zeros(p), tol=1e-8, max_iter=100), b)
    order = rng.permutation(40)
    for turn in range(rounds):
        U = order[turn * k : (turn + 1) * k]
        removed = w[U]
        w[U] = 0.0
        gram = weighted_gram(X, w)
        removal = newton_removal(setting, solution, X[U], y[U], removed, None, gram, float(w.sum()))
        solution = removal.solution
    return setting, solution, Objective(loss, X, y, w, alpha, b)


@pytest.mark.parametrize("certificate", ["data_dependent", "worst_case"])
@pytest.mark.parametrize("name", list(LOSS_CONSTANTS))
def test_exact_residual_and_gap_stay_below_their_bounds(problem, name, certificate):
    for seed in range(12):
        k, rounds = (1, 4) if seed % 3 else (5, 3)
        alpha = (0.3, 1.0, 10.0)[seed % 3]
        setting, solution, objective = after_removal(problem, name, seed, k, alpha, certificate, rounds)
        gradient = objective.gradient(solution.theta)
        norm = float(np.linalg.norm(gradient))
        assert norm <= solution.residual + ROUNDING
        eigenvalues = np.linalg.eigvalsh(objective.hessian(solution.theta))
        assert solution.mu <= eigenvalues[0] + ROUNDING
        best = minimise(objective, solution.theta, tol=1e-11, max_iter=50)
        gap = float(np.linalg.norm(solution.theta - best.theta))
        c = setting.loss.constants.c
        for rho in (norm, solution.residual):
            bound, _ = gap_and_kappa(rho, alpha, solution.mu, 1.0, c)
            assert gap <= bound + best.gradient_norm / alpha + ROUNDING


def test_data_dependent_beats_the_bound_of_guo_by_a_constant(problem):
    """(1/4) ||X||_2 ||Delta|| ||X Delta|| over (L3/2) B q is at least 3 sqrt(3) / B, for the same step."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        _, X, _, w = problem("log_loss", rng)
        step = rng.normal(size=4)
        A = X * np.sqrt(w)[:, None]
        ours = residual_bound("data_dependent", constants=LOSS_CONSTANTS["log_loss"], step=step, gram=A.T @ A)
        guo = 0.25 * np.linalg.norm(A, 2) * np.linalg.norm(step) * np.linalg.norm(A @ step)
        assert guo / ours >= 3 * math.sqrt(3) * (1 - 1e-12)


def test_public_bounds_are_their_formulas():
    constants = (2.0, 1.0, 0.5, 1.0)
    M = np.array([[2.0, 0.5], [0.5, 1.0]])
    step, drift = np.array([1.0, -2.0, 0.5, 0.0]), np.array([0.1, 0.0, 0.0, 0.2])
    big = np.kron(np.eye(2), M)
    q, e = step @ big @ step, drift @ big @ drift
    got = residual_bound(
        "data_dependent", constants=constants, B=3.0, rho=0.1, first_order=0.2, step=step, gram=M, drift=drift
    )
    assert got == pytest.approx(0.1 + 0.25 * 3.0 * q + 0.5 * 3.0 * math.sqrt(e * q) + 0.2, rel=1e-13)
    got = residual_bound(
        "worst_case",
        constants=constants,
        B=3.0,
        rho=0.1,
        alpha=4.0,
        weight_removed=1.5,
        weight_retained=20.0,
    )
    assert got == pytest.approx(0.1 + 0.25 * 3.0**5 * 20.0 * (1.5 * 2.0 / 4.0) ** 2, rel=1e-13)
    squared = LOSS_CONSTANTS["squared"]
    assert (
        residual_bound(
            "worst_case", constants=squared, rho=0.3, alpha=1.0, weight_removed=1, weight_retained=1
        )
        == 0.3
    )
    assert residual_bound("exact", gradient=[3.0, 4.0]) == 5.0


def test_worst_case_is_never_below_data_dependent(problem):
    for seed in range(8):
        for name in ("log_loss", "softmax", "pseudo_huber", "smooth_hinge"):
            _, near, _ = after_removal(problem, name, seed, 2, 3.0, "data_dependent", 2)
            _, far, _ = after_removal(problem, name, seed, 2, 3.0, "worst_case", 2)
            assert far.residual >= near.residual - ROUNDING


@given(
    st.floats(1e-9, 10.0),
    st.floats(0.01, 10.0),
    st.floats(1.0, 50.0),
    st.floats(0.0, 3.0),
    st.floats(0.1, 3.0),
)
def test_gap_bound_and_its_inverse(rho, alpha, times, c, B):
    mu = alpha * times
    gap, _ = gap_and_kappa(rho, alpha, mu, B, c)
    assert gap <= rho / alpha * (1 + 1e-12)
    # The inverse returns the largest residual with this gap: at least rho, and mapped back to the same gap.
    # For kappa below 1e-8 both replace a function by a safe one, kappa away.
    back = residual_of_gap(gap, alpha, mu, B, c)
    assert back >= rho * (1 - 1e-7)
    assert gap_and_kappa(back * (1 - 1e-9), alpha, mu, B, c)[0] <= gap * (1 + 1e-6) + 1e-300


def test_gap_bound_without_curvature_is_rho_over_mu():
    assert parameter_gap_bound(0.5, alpha=1.0, mu=4.0) == 0.125
    assert parameter_gap_bound(0.5, alpha=2.0) == 0.25


def test_large_kappa_warns_and_falls_back():
    with pytest.warns(RuntimeWarning, match="kappa"):
        assert parameter_gap_bound(5.0, alpha=2.0, mu=3.0, c=1.0) == 2.5


def log_jacobian(problem, name, seed, k):
    """Return the true log-Jacobian of one removal map by finite differences in b, and its bound.

    With T the removal map and theta(b) the trained point, J compares |det dT/db| of unlearning to that of
    retraining: J = log|det H_D(theta)| - log|det DT(theta)| - log|det H_R(T(theta))|.
    """
    rng = np.random.default_rng(seed)
    loss, X, y, w = problem(name, rng, n=40, d=3)
    alpha = 2.0
    setting = Setting(loss, alpha, 1.0, "data_dependent", track_mu=False)
    p = 3 * loss.n_outputs
    full = Objective(loss, X, y, w, alpha)
    theta = minimise(full, np.zeros(p), tol=1e-10, max_iter=100).theta
    U = rng.choice(40, size=k, replace=False)
    after = w.copy()
    after[U] = 0.0
    rest = Objective(loss, X, y, after, alpha)

    def removal_map(point):
        C = loss.slope(loss.scores(X[U], point), y[U])
        C = C * (w[U] if C.ndim == 1 else w[U][:, None])
        return point + np.linalg.solve(rest.hessian(point), loss.pull(X[U], C))

    h = 1e-5
    columns = [(removal_map(theta + h * e) - removal_map(theta - h * e)) / (2 * h) for e in np.eye(p)]
    true = (
        np.linalg.slogdet(full.hessian(theta))[1]
        - np.linalg.slogdet(np.column_stack(columns))[1]
        - np.linalg.slogdet(rest.hessian(removal_map(theta)))[1]
    )
    minimum = minimise(full, np.zeros(p), tol=1e-10, max_iter=100)
    removal = newton_removal(
        setting,
        anchored(setting, minimum, None),
        X[U],
        y[U],
        w[U],
        None,
        weighted_gram(X, after),
        float(after.sum()),
    )
    np.testing.assert_allclose(removal.solution.theta, removal_map(minimum.theta), atol=1e-12)
    return true, removal.slack


@pytest.mark.parametrize("name", ["log_loss", "softmax", "pseudo_huber", "smooth_hinge"])
def test_log_jacobian_stays_below_its_bound(problem, name):
    for seed in range(8):
        true, bound = log_jacobian(problem, name, seed, k=1 + seed % 4)
        # Central differences with h = 1e-5 leave about 1e-9 in each of at most 81 entries.
        assert abs(true) <= bound + 1e-7


def test_jacobian_slack_is_infinite_for_long_steps():
    assert jacobian_slack(1.0, 0.5, 3) == math.inf
    assert jacobian_slack(0.0, 0.5, 3) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: residual_bound("tight"), "kind must be one of 'data_dependent'"),
        (lambda: residual_bound("data_dependent"), "constants must be given"),
        (lambda: residual_bound("data_dependent", constants=(1, 1, 1)), "four numbers"),
        (lambda: residual_bound("data_dependent", constants=(1, 1, 1, 1)), "gram must be given"),
        (lambda: residual_bound("data_dependent", constants=(1, 1, 1, 1), gram=[1.0]), "square"),
        (
            lambda: residual_bound("data_dependent", constants=(1, 1, 1, 1), gram=[[1.0]]),
            "step must be given",
        ),
        (
            lambda: residual_bound("data_dependent", constants=(1, 1, 1, 1), gram=np.eye(2), step=[1.0]),
            "multiple of 2",
        ),
        (lambda: residual_bound("worst_case", constants=(1, 1, 1, 1)), "alpha must be given"),
        (lambda: residual_bound("exact"), "gradient must be given"),
        (lambda: parameter_gap_bound(-1.0, alpha=1.0), "rho"),
        (lambda: parameter_gap_bound(1.0, alpha=0.0), "alpha"),
        (lambda: parameter_gap_bound(1.0, alpha=1.0, mu=0.0), "mu"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
