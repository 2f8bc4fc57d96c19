"""Closed forms against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from mlpapers.attention import (
    dilution_bound,
    lemma2_sparsity,
    prop1_lower_bound,
    prop1_min_norm,
    prop1_ssa_solution,
    prop2_flat_loss,
    prop2_temperature,
    required_norm,
    specificity,
    specificity_norm_bound,
)

seeds = st.integers(0, 2**20)


def unit(rng, n, d):
    x = rng.normal(size=(n, d))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def case(seed):
    rng = np.random.default_rng(seed)
    gamma = rng.uniform(0.05, 0.95)
    return gamma, rng.uniform(0.01, 1.0) * min(gamma, 1 - gamma) / 2, unit(rng, 2, 3)


@given(seeds)
@settings(max_examples=60)
def test_specificity_needs_norm(seed):
    rng = np.random.default_rng(seed)
    W, a, b = rng.normal(size=(4, 4)), rng.normal(size=4), rng.normal(size=4)
    gap = specificity(W, a) - specificity(W, b)
    assert specificity(W, a) == pytest.approx(np.sqrt(a @ W @ W.T @ a))
    assert specificity_norm_bound(gap, a, b) <= np.linalg.norm(W, 2) + 1e-12


@given(st.integers(2, 500), st.floats(0, 8), seeds)
@settings(max_examples=60)
def test_dilution(length, norm, seed):
    rng = np.random.default_rng(seed)
    keys = unit(rng, length, 5)
    W = rng.normal(size=(5, 5))
    W *= norm / np.linalg.norm(W, 2)
    p = np.exp(keys @ W @ unit(rng, 1, 5)[0])
    assert p.max() / p.sum() <= dilution_bound(length, norm) * (1 + 1e-12)
    # Attained by one key along the query and all others against it.
    assert dilution_bound(length, norm) == pytest.approx(
        math.exp(norm) / (math.exp(norm) + (length - 1) * math.exp(-norm))
    )


@given(st.integers(2, 10**6), st.floats(1e-3, 0.999))
@settings(max_examples=60)
def test_required_norm_inverts_the_bound(length, mass):
    norm = required_norm(length, mass)
    if norm > 0:
        assert dilution_bound(length, norm) == pytest.approx(mass, rel=1e-9)
    else:
        assert mass <= 1 / length + 1e-12


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


@given(st.floats(0.05, 20), st.floats(0.05, 0.95))
@settings(max_examples=60)
def test_prop2_temperature_gives_the_target(kappa, alpha):
    tau = float(prop2_temperature(kappa, alpha))
    assert 1 / (1 + kappa * math.exp(-tau)) == pytest.approx(alpha, rel=1e-12)


def test_flat_loss_is_the_least_over_both_factors():
    flags = np.random.default_rng(0).random(60) < 0.35
    n, n_a = np.arange(1, 61), np.cumsum(flags)

    def loss(log_m):
        with np.errstate(divide="ignore"):
            kappa = (n - n_a) / n_a
        m = np.where(flags, np.exp(log_m[0]), np.exp(log_m[1]))
        return 2 * ((0.5 - 1 / (1 + m * kappa)) ** 2).mean()

    found = min(minimize(loss, start, method="Nelder-Mead").fun for start in ([0, 0], [2, -2], [-2, 2]))
    assert prop2_flat_loss(flags) == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize(("n", "power", "gamma", "a"), [(100, 0.5, 1.0, 0.5), (5000, 0.8, 2.0, 0.2)])
def test_lemma2(n, power, gamma, a):
    share = n**-power
    hot = share * math.exp(gamma * (1 + a * math.log(n)))
    kept = share * math.exp(gamma)
    kappa = lemma2_sparsity(n, power, gamma, a)
    assert hot / (hot + 1 - share) == pytest.approx(kept / (kept + kappa - share), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: specificity(np.eye(2), [1.0]), "as many rows as a has entries"),
        (lambda: specificity_norm_bound(1.0, [1.0], [1.0]), "the two tokens must differ"),
        (lambda: dilution_bound(0, 1.0), "length must be a finite number >= 1"),
        (lambda: required_norm(4, 1.0), "mass must be a finite number"),
        (lambda: prop1_min_norm(0.4, 0.3, [1.0, 0.0], [0.0, 1.0]), "eps must be a finite number"),
        (lambda: prop1_min_norm(0.4, 0.1, [2.0, 0.0], [0.0, 1.0]), "e1 must be a unit vector; its norm is 2"),
        (lambda: prop1_min_norm(0.4, 0.1, [1.0, 0.0], [-1.0, 0.0]), "must not be parallel"),
        (lambda: prop2_temperature([0.0], 0.5), "kappa must be positive"),
        (lambda: prop2_flat_loss([0.5]), "is_minority must be a non-empty 1-D array of bool"),
        (lambda: lemma2_sparsity(0.5, 1, 1, 1), "n must be a finite number >= 1"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
