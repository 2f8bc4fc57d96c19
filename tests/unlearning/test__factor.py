"""Factors and their downdates."""

import numpy as np
import pytest

from mlpapers.unlearning import _factor
from mlpapers.unlearning._downdate import downdate
from mlpapers.unlearning._factor import Factor


def spd(rng, p):
    A = rng.normal(size=(2 * p, p))
    return A.T @ A + np.eye(p)


def test_solve_is_the_inverse():
    rng = np.random.default_rng(0)
    H = spd(rng, 6)
    B = rng.normal(size=(6, 3))
    np.testing.assert_allclose(H @ Factor.of(H).solve(B), B, atol=1e-12)
    np.testing.assert_allclose(H @ Factor.of(H).solve(B[:, 0]), B[:, 0], atol=1e-12)


@pytest.mark.parametrize("p", [1, 7])
def test_trace_is_that_of_the_solution(p):
    rng = np.random.default_rng(p)
    H, B = spd(rng, p), rng.normal(size=(p, p))
    B += B.T
    factor = Factor.of(H)
    kept = factor.lower.copy()
    assert factor.trace(B) == pytest.approx(np.trace(np.linalg.solve(H, B)), rel=1e-12)
    np.testing.assert_array_equal(factor.lower, kept)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_downdated_factor_is_that_of_the_difference(monkeypatch, rank):
    rng = np.random.default_rng(rank)
    monkeypatch.setattr(_factor, "DOWNDATE_SIZE", 8)
    H = spd(rng, 40)
    V = 0.3 * rng.normal(size=(40, rank))
    V[3] = 0.0
    before = Factor.of(H)
    kept = before.lower.copy()
    after = before.without(V, H - V @ V.T)
    np.testing.assert_array_equal(before.lower, kept)
    np.testing.assert_allclose(np.tril(after.lower), np.linalg.cholesky(H - V @ V.T), atol=1e-12)


def test_a_vanishing_pivot_is_reported_and_refactored(monkeypatch):
    monkeypatch.setattr(_factor, "DOWNDATE_SIZE", 2)
    H = np.diag(np.full(12, 4.0))
    V = np.zeros((12, 1))
    V[5] = 2.0
    assert not downdate(np.ascontiguousarray(Factor.of(H).lower.T), V.T.copy(), 1e-12)
    # The factor itself is then taken of the matrix that is passed, here still positive definite.
    again = Factor.of(H).without(V, H)
    np.testing.assert_allclose(np.tril(again.lower), np.linalg.cholesky(H))
    with pytest.raises(np.linalg.LinAlgError):
        Factor.of(H).without(V, H - V @ V.T)
