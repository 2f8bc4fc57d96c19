"""Losses: derivatives against finite differences, constants against the functions, algebra against loops."""

import math

import numpy as np
import pytest

from mlpapers.unlearning import LOSS_CONSTANTS
from mlpapers.unlearning.losses import make_loss

NAMES = list(LOSS_CONSTANTS)
SCALAR = [name for name in NAMES if name != "softmax"]
SCALES = (0.5, 1.0, 2.5)


def scores_and_targets(name, rng, n=40):
    if name == "softmax":
        return rng.normal(scale=2.0, size=(n, 3)), rng.integers(0, 3, size=n)
    y = rng.normal(size=n) if name in ("squared", "pseudo_huber") else rng.choice([-1.0, 1.0], size=n)
    return rng.normal(scale=2.0, size=n), y


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_slope_and_curvature_are_derivatives(name, scale):
    rng = np.random.default_rng(0)
    loss = make_loss(name, scale=scale, n_classes=3)
    Z, y = scores_and_targets(name, rng)
    h = 1e-5
    for _ in range(3):
        direction = rng.normal(size=Z.shape)
        ahead, behind = Z + h * direction, Z - h * direction
        along = loss.slope(Z, y) * direction
        along = along.sum(axis=1) if Z.ndim == 2 else along
        # Central differences err by h^2 |f'''| / 6 and the rounding of f over h, both below 1e-8 here.
        np.testing.assert_allclose((loss.value(ahead, y) - loss.value(behind, y)) / (2 * h), along, atol=1e-8)
        S = loss.curvature(Z, y)
        turned = np.einsum("iab,ib->ia", S, direction) if Z.ndim == 2 else S * direction
        difference = (loss.slope(ahead, y) - loss.slope(behind, y)) / (2 * h)
        np.testing.assert_allclose(difference, turned, atol=1e-7)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", SCALAR)
def test_constants_are_the_suprema(name, scale):
    loss = make_loss(name, scale=scale)
    L1, L2, L3, c = loss.constants
    z = np.linspace(-40.0, 40.0, 400_001)
    y = np.ones_like(z)
    S = loss.curvature(z, y)
    third = np.diff(S) / np.diff(z)
    middle = 0.5 * (S[1:] + S[:-1])
    assert np.abs(loss.slope(z, y)).max() <= (L1 if math.isfinite(L1) else np.inf)
    assert S.max() == pytest.approx(L2, rel=1e-6)
    assert np.abs(third).max() <= L3 * (1 + 1e-9) + 1e-12
    assert np.abs(third).max() == pytest.approx(L3, rel=1e-6, abs=1e-12)
    # A chord of phi'' over a step of 2e-4 lies within 1e-7 of its derivative, relative to phi''.
    assert np.all(np.abs(third) <= c * middle * (1 + 1e-6) + 1e-12)


def test_softmax_constants_hold_and_are_reached():
    """L3 by maximising the third cumulant over unit vectors; it is reached by two classes at unequal odds."""
    rng = np.random.default_rng(1)
    _, L2, L3, c = LOSS_CONSTANTS["softmax"]
    worst = 0.0
    for n_classes in (2, 3, 4, 6):
        P = rng.dirichlet(np.full(n_classes, 0.4), size=4000)
        U = rng.normal(size=P.shape)
        U /= np.linalg.norm(U, axis=1, keepdims=True)
        centred = U - (P * U).sum(axis=1, keepdims=True)
        second = (P * centred**2).sum(axis=1)
        third = (P * centred**3).sum(axis=1)
        assert second.max() <= L2
        assert np.abs(third).max() <= L3
        assert np.all(np.abs(third) <= c * second + 1e-15)
        worst = max(worst, np.abs(third).max())
    u, p = math.sqrt(0.5), 0.5 * (1 - math.sqrt(1 / 3))
    values, odds = np.array([u, -u]), np.array([1 - p, p])
    at_maximum = odds @ (values - odds @ values) ** 3
    assert abs(at_maximum) == pytest.approx(L3, rel=1e-12)
    assert worst <= abs(at_maximum)


def test_table_of_constants():
    assert LOSS_CONSTANTS["log_loss"][2] == pytest.approx(0.0962250, abs=5e-8)
    assert LOSS_CONSTANTS["softmax"][2] == pytest.approx(0.2721655, abs=5e-8)
    assert LOSS_CONSTANTS["pseudo_huber"][2] == pytest.approx(0.8586501, abs=5e-8)
    assert LOSS_CONSTANTS["squared"][2:] == (0.0, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_row_algebra_is_that_of_loops(name, problem):
    rng = np.random.default_rng(2)
    loss, X, y, w = problem(name, rng, n=7, d=3)
    p = 3 * loss.n_outputs
    theta = rng.normal(size=p)
    Z = loss.scores(X, theta)
    C, S = loss.slope(Z, y), loss.curvature(Z, y)
    c, s = C.reshape(7, -1), S.reshape(7, loss.n_outputs, loss.n_outputs)
    gradient = sum(np.kron(c[i], X[i]) for i in range(7))
    gram = sum(np.kron(s[i], np.outer(X[i], X[i])) for i in range(7))
    hessian = sum(w[i] * np.kron(s[i], np.outer(X[i], X[i])) for i in range(7))
    np.testing.assert_allclose(loss.pull(X, C), gradient, atol=1e-13)
    np.testing.assert_allclose(loss.lift(X) @ C.ravel(), gradient, atol=1e-13)
    np.testing.assert_allclose(loss.gram(X, S), gram, atol=1e-13)
    np.testing.assert_array_equal(loss.gram(X, S), loss.gram(X, S).T)
    np.testing.assert_allclose(loss.hessian(X, y, w, Z), hessian, atol=1e-13)
    V = loss.root(X, S)
    np.testing.assert_allclose(V @ V.T, gram, atol=1e-13)
    A = loss.lift(X)
    blocks = np.zeros((A.shape[1], A.shape[1]))
    for i in range(7):
        part = slice(i * loss.n_outputs, (i + 1) * loss.n_outputs)
        blocks[part, part] = s[i]
    np.testing.assert_allclose(A @ blocks @ A.T, gram, atol=1e-13)
    K = rng.normal(size=(A.shape[1], 5))
    np.testing.assert_allclose(loss.scale_rows(S, K), blocks @ K, atol=1e-13)
    np.testing.assert_allclose(loss.largest_curvature(S), np.linalg.eigvalsh(s)[:, -1], atol=1e-14)
    M = X.T @ X
    step = rng.normal(size=p)
    assert loss.energy(M, step) == pytest.approx(step @ np.kron(np.eye(loss.n_outputs), M) @ step, rel=1e-12)


@pytest.mark.parametrize("name", ["log_loss", "smooth_hinge", "softmax"])
def test_extreme_scores_do_not_overflow(name):
    loss = make_loss(name, scale=0.01, n_classes=3)
    Z = np.array([-1e5, 1e5, 0.0])
    y = np.array([1.0, 1.0, -1.0])
    if name == "softmax":
        Z, y = np.column_stack([Z, -Z, 0 * Z]), np.array([0, 1, 2])
    for part in (loss.value(Z, y), loss.slope(Z, y), loss.curvature(Z, y)):
        assert np.all(np.isfinite(part))


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss must be one of 'log_loss', 'softmax'"):
        make_loss("hinge")


def test_the_table_is_read_only():
    assert list(LOSS_CONSTANTS) == NAMES
    assert len(LOSS_CONSTANTS) == 5
    with pytest.raises(TypeError):
        LOSS_CONSTANTS["log_loss"] = (1.0, 1.0, 1.0, 1.0)
    assert "log_loss" in repr(LOSS_CONSTANTS)
