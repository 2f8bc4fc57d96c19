"""The matrix of the model: what moves teach it, and steps of models that have one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.optim import Box, L1Ball, L2Ball, LinearFiniteSum, LInfBall, Simplex, minimize_fw_zo
from mlpapers.optim._metric import Metric
from mlpapers.optim._sliding import proximal_step, takes_matrix


def spd(rng, d, condition):
    Q = np.linalg.qr(rng.normal(size=(d, d)))[0]
    return (Q * np.geomspace(1.0, 1.0 / condition, d)) @ Q.T


def test_exact_moves_teach_the_curvature():
    rng = np.random.default_rng(0)
    H, metric = spd(rng, 5, 100.0), Metric(5)
    for _ in range(60):
        s = rng.normal(size=5)
        metric.learn(s, H @ s, 0.0, 1.0)
    # The prior L I weighs 1 against about 20 moves of weights d / (0.1 |y|)^2 each, 500 and more.
    assert np.linalg.norm(metric.B / metric.kappa - H, 2) <= 5e-3


def test_the_matrix_solves_its_least_squares_problem():
    rng = np.random.default_rng(1)
    H, metric, L = spd(rng, 4, 10.0), Metric(4), 2.0
    for error in (1e-3, 0.5, 1e-1):
        s = rng.normal(size=4)
        metric.learn(s, H @ s, error, L)
    B = metric._solve(L)
    P = metric.P + np.eye(4) / L**2
    np.testing.assert_allclose(
        B @ P + P @ B, metric.Q + metric.Q.T + 2.0 / L * np.eye(4), atol=1e-12 * np.abs(P).max() * 100
    )


def test_what_was_not_moved_along_keeps_the_scalar_and_noise_teaches_nothing():
    metric, e = Metric(3), np.eye(3)
    metric.learn(e[0], 0.1 * e[0], 0.0, 2.0)
    np.testing.assert_allclose(metric.B[1:, 1:], 2.0 * np.eye(2), rtol=1e-12)
    assert metric.B[0, 0] == pytest.approx(0.1, rel=1e-2)
    deaf = Metric(3)
    deaf.learn(e[0], 0.1 * e[0], 1e12, 2.0)
    np.testing.assert_allclose(deaf.B, 2.0 * np.eye(3), rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), L=st.floats(1e-8, 1e8), noise=st.floats(0.0, 10.0))
def test_the_matrix_is_positive_definite_whatever_is_seen(seed, L, noise):
    rng = np.random.default_rng(seed)
    metric = Metric(4)
    for _ in range(6):
        metric.learn(rng.normal(size=4), L * rng.normal(size=4), noise * L**2, L)
        values = np.linalg.eigvalsh(metric.B)
        assert values.min() >= 0.999e-3 * L
        np.testing.assert_allclose(metric.B, metric.B.T, rtol=0, atol=1e-12 * values.max())
        assert 1.0 <= metric.kappa <= 10.0


def test_moves_of_no_length_and_extreme_scales_are_left_out():
    metric = Metric(2)
    metric.learn(np.zeros(2), np.ones(2), 0.0, 1.0)
    metric.learn(np.ones(2), np.ones(2), 0.0, 0.0)
    metric.learn(np.ones(2), np.ones(2), 0.0, 1e200)
    assert metric.B is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), which=st.sampled_from(["l1", "simplex", "linf", "box"]))
def test_steps_of_a_matrix_model_minimise_it(seed, which):
    rng = np.random.default_rng(seed)
    d = 6
    B, v = spd(rng, d, 50.0), rng.normal(size=d)
    C = {
        "l1": L1Ball(1.5),
        "simplex": Simplex(2.0),
        "linf": LInfBall(0.7),
        "box": Box(-rng.uniform(0.1, 1.0, d), rng.uniform(0.1, 1.0, d)),
    }[which]
    x = C.project(rng.normal(size=d))
    u, used, gap, _ = proximal_step(C, x, v, B, tolerance=1e-6)
    assert C.contains(u)
    assert used >= 1
    assert gap == pytest.approx(v @ (x - C.lmo(v)))
    slope = v + B @ (u - x)
    # The gap of the model bounds how far u is from its minimum.
    assert slope @ (u - C.lmo(slope)) <= 1e-6 * gap + 1e-12


def test_a_multiple_of_the_identity_is_the_scalar_model():
    rng = np.random.default_rng(3)
    v, C = rng.normal(size=8), L1Ball(1.0)
    x = C.project(rng.normal(size=8))
    by_matrix = proximal_step(C, x, v, 3.0 * np.eye(8), tolerance=1e-10)[0]
    np.testing.assert_allclose(by_matrix, proximal_step(C, x, v, 3.0, tolerance=1e-10)[0], atol=1e-5)


def test_sets_whose_edges_are_no_coordinates_keep_the_scalar():
    assert takes_matrix(L1Ball(1.0))
    assert takes_matrix(LInfBall(1.0))
    assert not takes_matrix(L2Ball(1.0))


@pytest.mark.parametrize("C", [L1Ball(20.0), LInfBall(8.0)], ids=["l1", "linf"])
def test_collinear_features_gain_from_the_matrix(C, monkeypatch):
    rng = np.random.default_rng(0)
    n, d = 300, 10
    A = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) + 0.1 * rng.normal(size=(n, d))
    y = A @ rng.normal(size=d) / 2 + 0.1 * rng.normal(size=n)
    total, best = LinearFiniteSum(A, y, "squared"), np.linalg.lstsq(A, y, rcond=None)[0]
    assert C.contains(best)

    def excess():
        result = minimize_fw_zo(total, None, C, method="auto", max_queries=50 * n * d, random_state=0)
        return result.fun - total.mean(best)

    with_matrix = excess()
    monkeypatch.setattr("mlpapers.optim._auto.takes_matrix", lambda _: False)
    assert 100.0 * with_matrix <= excess()
