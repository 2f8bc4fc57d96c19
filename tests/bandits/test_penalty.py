"""Proximal steps of knapsack penalties against a general solver."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.bandits import EstimatedKnapsack, LinearKnapsack


def objective(z, x, g, eta, psi):
    return g @ (z - x) - np.sum((z - x) ** 2) / (2 * eta) - psi(z)


@pytest.mark.parametrize("seed", range(12))
def test_prox_agrees_with_cvxpy(seed):
    import cvxpy as cp

    rng = np.random.default_rng(seed)
    m, d = int(rng.integers(1, 4)), int(rng.integers(1, 6))
    psi = LinearKnapsack(
        rng.normal(size=(m, d)), rng.normal(scale=0.5, size=m), float(rng.uniform(0.2, 20.0))
    )
    x, g, eta = rng.random(d), 3.0 * rng.normal(size=d), float(rng.uniform(0.05, 1.0))
    z, mu = psi.prox(x, g, eta)
    variable = cp.Variable(d)
    penalty = psi.rho * cp.sum(cp.pos(psi.A @ variable - psi.c))
    goal = g @ (variable - x) - cp.sum_squares(variable - x) / (2 * eta) - penalty
    cp.Problem(cp.Maximize(goal), [variable >= 0, variable <= 1]).solve(
        solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    np.testing.assert_allclose(z, variable.value, atol=1e-6)
    assert ((mu >= 0.0) & (mu <= psi.rho)).all()


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_no_point_near_the_prox_is_better(seed):
    rng = np.random.default_rng(seed)
    m, d = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    psi = LinearKnapsack(rng.random((m, d)), rng.uniform(0.2, 1.0, m), 10.0)
    x, g, eta = rng.random(d), rng.normal(size=d), float(rng.uniform(0.05, 1.0))
    z, _ = psi.prox(x, g, eta)
    assert ((z >= 0.0) & (z <= 1.0)).all()
    best = objective(z, x, g, eta, psi)
    for _ in range(30):
        other = (z + rng.normal(scale=10.0 ** rng.uniform(-4, 0), size=d)).clip(0, 1)
        assert objective(other, x, g, eta, psi) <= best + 1e-7


def test_a_slack_constraint_leaves_the_projected_gradient_step():
    psi = LinearKnapsack([[1.0, 1.0]], [5.0], 3.0)
    z, mu = psi.prox(np.array([0.5, 0.9]), np.array([1.0, 2.0]), 0.1)
    np.testing.assert_allclose(z, [0.6, 1.0], atol=1e-15)
    assert mu.tolist() == [0.0]


def test_a_matrix_of_zeros_moves_nothing():
    z, mu = LinearKnapsack([[0.0]], [-1.0], 3.0).prox(np.array([0.5]), np.array([1.0]), 0.1)
    assert z.tolist() == [0.6]
    assert mu.tolist() == [3.0]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: LinearKnapsack([1.0], [1.0], 1.0), "A must"),
        (lambda: LinearKnapsack([[1.0]], [1.0, 2.0], 1.0), "c must"),
        (lambda: LinearKnapsack([[1.0]], [1.0], 0.0), "rho"),
        (lambda: EstimatedKnapsack(-1.0), "rho"),
    ],
)
def test_impossible_penalties_are_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()
