"""Proposition 1 against numerical searches."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mlpapers.attention import prop1_lower_bound, prop1_min_norm, prop1_ssa_solution

seeds = st.integers(0, 2**20)


def case(seed):
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(2, 3))
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    gamma = rng.uniform(0.05, 0.95)
    return (
        gamma,
        rng.uniform(0.01, 1.0) * min(gamma, 1 - gamma) / 2,
        tokens / np.linalg.norm(tokens, axis=1, keepdims=True),
    )


@given(seeds)
@settings(max_examples=25)
def test_least_norm_is_that_of_a_numerical_search(seed):
    gamma, eps, (a, b) = case(seed)
    rho = a @ b
    low, high = (math.log(p / (1 - p)) for p in (gamma - eps, gamma + eps))
    floor = math.log((1 - eps) / eps)

    def cost(c):
        return (c[0] ** 2 + c[1] ** 2 - 2 * rho * c[0] * c[1]) / (1 - rho**2)

    found = minimize(cost, [low, floor], bounds=[(low, high), (floor, floor + 200)], tol=1e-14)
    exact = prop1_min_norm(gamma, eps, a, b)
    assert exact == pytest.approx(math.sqrt(found.fun) / np.linalg.norm(a - b), rel=1e-4)
    sharp, printed = (prop1_lower_bound(gamma, eps, a, b, sharp=flag) for flag in (True, False))
    assert exact >= sharp - 1e-9
    assert sharp == pytest.approx(printed * math.sqrt(2))


@given(seeds)
@settings(max_examples=60)
def test_temperatures_reach_the_map_at_the_least_cost(seed):
    gamma, eps, tokens = case(seed)
    W, tau = prop1_ssa_solution(gamma, eps, *tokens)
    logits = tau[:, None] * (tokens @ W @ tokens.T)
    second = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert abs(second[0] - gamma) <= eps + 1e-9
    assert second[1] >= 1 - eps - 1e-9
    cost = np.linalg.norm(W, 2) * np.abs(tau).max()
    assert cost <= prop1_min_norm(gamma, eps, *tokens) + 1e-9
    # No direction u does better: |tau_i| = |c_i / e_i.u| with the cheapest allowed c_1.
    low, high = (math.log(p / (1 - p)) for p in (gamma - eps, gamma + eps))
    smallest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    floor = math.log((1 - eps) / eps)
    basis = np.linalg.qr(tokens.T)[0]
    angles = np.linspace(0, math.pi, 20001)
    u = np.cos(angles)[:, None] * basis[:, 0] + np.sin(angles)[:, None] * basis[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.abs(smallest / (u @ tokens[0]))
        best = np.fmax(first, np.abs(floor / (u @ tokens[1]))).min()
    assert cost * np.linalg.norm(tokens[0] - tokens[1]) <= best * (1 + 1e-3)


def test_published_example():
    tokens = np.array([1.0, 0.0]), np.array([math.cos(0.3), math.sin(0.3)])
    W, tau = prop1_ssa_solution(0.4, 1e-3, *tokens)
    assert np.linalg.norm(W, 2) * np.abs(tau).max() == pytest.approx(23.11, abs=0.005)
    assert prop1_min_norm(0.4, 1e-3, *tokens) == pytest.approx(82.55, abs=0.005)


def test_uncorrelated_tokens_gain_nothing():
    tokens = np.eye(2)
    W, tau = prop1_ssa_solution(0.2, 0.01, *tokens)
    assert np.linalg.norm(W, 2) * np.abs(tau).max() == pytest.approx(prop1_min_norm(0.2, 0.01, *tokens))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: prop1_min_norm(0.4, 0.3, [1.0, 0.0], [0.0, 1.0]), "eps must be a finite number"),
        (lambda: prop1_min_norm(0.4, 0.1, [2.0, 0.0], [0.0, 1.0]), "e1 must be a unit vector; its norm is 2"),
        (lambda: prop1_min_norm(0.4, 0.1, [1.0, 0.0], [-1.0, 0.0]), "must not be parallel"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
