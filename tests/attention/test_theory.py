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
        (lambda: prop2_temperature([0.0], 0.5), "kappa must be positive"),
        (lambda: prop2_flat_loss([0.5]), "is_minority must be a non-empty 1-D array of bool"),
        (lambda: lemma2_sparsity(0.5, 1, 1, 1), "n must be a finite number >= 1"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()
