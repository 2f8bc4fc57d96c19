"""Tests of the inner steps over sets that have nothing but a linear minimisation oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.optim import (
    Birkhoff,
    GroupL1Ball,
    Hull,
    KSparsePolytope,
    L1Ball,
    L2Ball,
    NuclearNormBall,
    Product,
    Simplex,
    Spectrahedron,
)
from mlpapers.optim._sliding import LARGEST_MATRIX, _pairwise_simplex, proximal_step

SETS = {
    "l2": (L2Ball(1.3), 6),
    "ksparse": (KSparsePolytope(2, 0.7), 6),
    "group": (GroupL1Ball([[0, 1], [2, 3, 4], [5]], 1.1), 6),
    "nuclear": (NuclearNormBall((2, 3), 1.2), 6),
    "spectrahedron": (Spectrahedron(3), 9),
    "birkhoff": (Birkhoff(3), 9),
}


def point(C, d, rng):
    weights = rng.dirichlet(np.ones(4))
    return weights @ C.lmo(rng.normal(size=(4, d)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), which=st.sampled_from(sorted(SETS)))
def test_a_step_is_the_projection_of_the_gradient_step(seed, which):
    C, d = SETS[which]
    rng = np.random.default_rng(seed)
    x, v, L = point(C, d, rng), rng.normal(size=d), float(rng.uniform(0.3, 3.0))
    u, used, gap, corners = proximal_step(C, x, v, L, tolerance=1e-8)
    assert C.contains(u)
    assert used >= 1
    # The model is L-strongly convex: its gap bounds L/2 times the squared distance from its minimiser.
    bound = np.sqrt(2.0 * 1e-8 * gap / L) if used < 60 else 1e-3
    assert np.linalg.norm(u - C.project(x - v / L)) <= bound + 1e-7
    assert all(C.contains(corner) for corner in corners)


@pytest.mark.parametrize("C", [L1Ball(3.0), Simplex(2.0)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_many_coordinates_end_where_the_pairwise_steps_do(C, seed):
    d, rng = LARGEST_MATRIX + 44, np.random.default_rng(seed)
    x, v, L = point(C, d, rng), rng.normal(size=d), float(rng.uniform(0.3, 30.0))
    u, used, gap, _ = proximal_step(C, x, v, L, tolerance=1e-4)
    slope = v + L * (u - x)
    assert C.contains(u)
    assert slope @ (u - C.lmo(slope)) <= 1e-13 * gap
    assert used == 1
    signed = isinstance(C, L1Ball)
    walked, _ = _pairwise_simplex(x, v, L, np.zeros((0, 0)), C.radius, signed, 1e-12 * gap, 10**6)
    np.testing.assert_allclose(u, walked, atol=np.sqrt(2e-12 * gap / L))


@pytest.mark.parametrize("which", ["ksparse", "birkhoff"])
def test_on_a_polytope_the_end_is_exact(which):
    C, d = SETS[which]
    rng = np.random.default_rng(5)
    for _ in range(20):
        x, v = point(C, d, rng), rng.normal(size=d)
        u, _, gap, _ = proximal_step(C, x, v, 1.0, tolerance=1e-12)
        slope = v + u - x
        assert slope @ (u - C.lmo(slope)) <= 1e-12 * gap + 1e-13


def test_corners_of_the_last_step_spare_oracle_calls():
    C, rng = Birkhoff(5), np.random.default_rng(0)
    x, v = point(C, 25, rng), rng.normal(size=25)
    u, cold, _, corners = proximal_step(C, x, v, 1.0, tolerance=1e-6)
    again, warm, _, _ = proximal_step(C, x, v, 1.0, tolerance=1e-6, corners=corners)
    assert warm < cold
    # One call for the gap at x, one that proves the end.
    assert warm == 2
    np.testing.assert_allclose(again, u, rtol=0, atol=1e-7)


def test_a_point_inside_a_face_is_left_exactly():
    # x is inside the edge that the minimiser is on: steps between corners would zigzag around it.
    C = Hull(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    x, v = np.array([0.5, 0.0]), np.array([-1e-6, 1.0])
    u, used, _, _ = proximal_step(C, x, v, 1.0, tolerance=1e-9)
    np.testing.assert_allclose(u, [0.5 + 1e-6, 0.0], rtol=0, atol=1e-15)
    assert used <= 3


def test_a_product_steps_in_every_block():
    parts = [(L2Ball(1.3), 6), (Birkhoff(3), 9)]
    C = Product([part for part, _ in parts], [d for _, d in parts])
    rng = np.random.default_rng(2)
    x = np.concatenate([point(part, d, rng) for part, d in parts])
    v = rng.normal(size=15)
    u = proximal_step(C, x, v, 2.0, tolerance=1e-8).u
    np.testing.assert_allclose(u, C.project(x - v / 2.0), rtol=0, atol=1e-3)
    assert C.contains(u)


@pytest.mark.parametrize(
    "C", [L1Ball(1.0), Simplex(1.0), L2Ball(1.0), Product([L1Ball(1.0), L2Ball(1.0)], [299, 1])]
)
def test_without_curvature_the_model_is_least_at_a_vertex(C):
    rng = np.random.default_rng(0)
    v = rng.normal(size=300)
    step = proximal_step(C, C.center(300), v, 0.0, tolerance=1e-4)
    np.testing.assert_array_equal(step.u, C.lmo(v))
