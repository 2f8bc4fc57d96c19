"""Constraint sets against linear and cone programs, brute force, and the inequalities that define them."""

import itertools

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from mlpapers.optim import minimize_fw_zo
from mlpapers.optim.constraints import (
    Birkhoff,
    Box,
    BoxL1,
    BoxL2,
    CappedSimplex,
    ConstraintSet,
    GroupL1Ball,
    Hull,
    KSparsePolytope,
    L1Ball,
    L2Ball,
    LInfBall,
    LpBall,
    NuclearNormBall,
    Product,
    Scaled,
    Shifted,
    Simplex,
    Spectrahedron,
)

LOW, HIGH = np.array([-1.0, -0.5, 0.0, -2.0, -1.0, -0.2]), np.array([0.5, 1.0, 0.7, 0.0, 2.0, 0.1])
POINTS = np.random.default_rng(5).normal(size=(9, 6))

SETS = {
    "l1": L1Ball(1.5),
    "l2": L2Ball(2.0),
    "linf": LInfBall(0.7),
    "l1.5": LpBall(1.5, 1.2),
    "l3": LpBall(3.0, 0.8),
    "lp1": LpBall(1.0, 0.8),
    "lpinf": LpBall(np.inf, 0.8),
    "simplex": Simplex(2.0),
    "capped": CappedSimplex(2),
    "ksparse": KSparsePolytope(2, 1.3),
    "group": GroupL1Ball([[0, 3], [1], [2, 4, 5]], 1.1),
    "nuclear": NuclearNormBall((2, 3), 1.4),
    "box": Box(LOW, HIGH),
    "boxl2": BoxL2(LOW, HIGH, 1.1),
    "boxl1": BoxL1(LOW, HIGH, 1.4),
    "hull": Hull(POINTS),
    "product": Product([L1Ball(1.0), Simplex(1.0)], [4, 2]),
    "scaled": Scaled(Simplex(1.0), -2.0),
    "shifted": Shifted(L2Ball(1.0), np.arange(6.0)),
}
FLAT = {"spectrahedron": Spectrahedron(3, 1.5), "birkhoff": Birkhoff(3)}
ALL = {**SETS, **FLAT}


def dim_of(name):
    return 9 if name in FLAT else 6


def cone_constraints(name, x):
    """The set in cvxpy's words."""
    if name == "spectrahedron":
        X = cp.reshape(x, (3, 3), order="C")
        return [X >> 0, cp.trace(X) == 1.5, X == X.T]
    if name == "birkhoff":
        X = cp.reshape(x, (3, 3), order="C")
        return [X >= 0, cp.sum(X, axis=0) == 1, cp.sum(X, axis=1) == 1]
    if name == "hull":
        weights = cp.Variable(9, nonneg=True)
        return [x == POINTS.T @ weights, cp.sum(weights) == 1]
    words = {
        "l1": lambda: [cp.norm1(x) <= 1.5],
        "l2": lambda: [cp.norm2(x) <= 2.0],
        "linf": lambda: [cp.norm_inf(x) <= 0.7],
        "l1.5": lambda: [cp.pnorm(x, 1.5) <= 1.2],
        "l3": lambda: [cp.pnorm(x, 3) <= 0.8],
        "lp1": lambda: [cp.norm1(x) <= 0.8],
        "lpinf": lambda: [cp.norm_inf(x) <= 0.8],
        "simplex": lambda: [x >= 0, cp.sum(x) == 2.0],
        "capped": lambda: [x >= 0, x <= 1, cp.sum(x) == 2],
        "ksparse": lambda: [cp.norm1(x) <= 2.6, cp.norm_inf(x) <= 1.3],
        "group": lambda: [cp.norm2(x[[0, 3]]) + cp.abs(x[1]) + cp.norm2(x[[2, 4, 5]]) <= 1.1],
        "nuclear": lambda: [cp.normNuc(cp.reshape(x, (2, 3), order="C")) <= 1.4],
        "box": lambda: [x >= LOW, x <= HIGH],
        "boxl2": lambda: [x >= LOW, x <= HIGH, cp.norm2(x) <= 1.1],
        "boxl1": lambda: [x >= LOW, x <= HIGH, cp.norm1(x) <= 1.4],
        "product": lambda: [cp.norm1(x[:4]) <= 1.0, x[4:] >= 0, cp.sum(x[4:]) == 1.0],
        "scaled": lambda: [x <= 0, cp.sum(x) == -2.0],
        "shifted": lambda: [cp.norm2(x - np.arange(6.0)) <= 1.0],
    }
    return words[name]()


@pytest.mark.parametrize("name", ALL)
def test_lmo_and_projection_are_those_of_a_cone_program(name):
    C, d = ALL[name], dim_of(name)
    rng = np.random.default_rng(1)
    x = cp.Variable(d)
    for _ in range(2):
        g = rng.normal(size=d)
        program = cp.Problem(cp.Minimize(g @ x), cone_constraints(name, x))
        program.solve(solver=cp.CLARABEL)
        s = C.lmo(g)
        # The solver's own tolerance is 1e-8; values are of order 1.
        assert g @ s == pytest.approx(program.value, abs=1e-6)
        assert C.contains(s, 1e-9)
    y = 2.0 * rng.normal(size=d)
    cp.Problem(cp.Minimize(cp.sum_squares(x - y)), cone_constraints(name, x)).solve(solver=cp.CLARABEL)
    nearest = C.project(y)
    assert C.contains(nearest, 1e-9)
    # A distance that is optimal to 1e-8 leaves the point uncertain by its root.
    assert np.linalg.norm(nearest - y) <= np.linalg.norm(x.value - y) + 1e-6


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_lmo_is_least_and_does_not_depend_on_scale(name, seed, scale):
    C, d = ALL[name], dim_of(name)
    rng = np.random.default_rng(seed)
    g = rng.normal(size=d)
    s = C.lmo(g)
    np.testing.assert_allclose(C.lmo(scale * g), s, atol=1e-7)
    others = [C.sample(rng, d) for _ in range(20)]
    assert all(g @ s <= g @ z + 1e-9 * (1 + abs(g @ z)) for z in others)
    assert all(C.contains(z) for z in others[:3])
    D = C.diameter(d)
    assert all(np.linalg.norm(a - b) <= D * (1 + 1e-9) for a, b in itertools.combinations(others[:8], 2))


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_projection_is_idempotent_nonexpansive_and_variational(name, seed):
    C, d = ALL[name], dim_of(name)
    rng = np.random.default_rng(seed)
    x, y = 3.0 * rng.normal(size=(2, d))
    px, py = C.project(x), C.project(y)
    np.testing.assert_allclose(C.project(px), px, atol=1e-8)
    assert np.linalg.norm(px - py) <= np.linalg.norm(x - y) + 1e-8
    for z in (C.sample(rng, d) for _ in range(10)):
        assert (x - px) @ (z - px) <= 1e-7


@pytest.mark.parametrize("name", ALL)
def test_zero_costs_give_a_feasible_point_and_balls_fit_inside(name):
    C, d = ALL[name], dim_of(name)
    assert C.contains(C.lmo(np.zeros(d)))
    center, r = C.center(d), C.inradius(d)
    assert C.contains(center)
    for u in np.random.default_rng(0).normal(size=(50, d)):
        assert C.contains(center + r * u / np.linalg.norm(u), 1e-9)


@pytest.mark.parametrize(
    ("C", "d"),
    [(Simplex(2.0), 5), (CappedSimplex(2), 5), (Spectrahedron(3, 1.5), 9), (Birkhoff(3), 9)],
    ids=["simplex", "capped", "spectrahedron", "birkhoff"],
)
def test_tangent_directions_stay_in_flat_sets(C, d):
    basis, r = C.tangent_basis(d)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
    rng = np.random.default_rng(0)
    for _ in range(100):
        u = basis @ rng.normal(size=basis.shape[1])
        assert C.contains(C.center(d) + r * u / np.linalg.norm(u), 1e-9)
    # Differences of points of the set lie in the span.
    z = C.sample(1, d) - C.sample(2, d)
    np.testing.assert_allclose(basis @ (basis.T @ z), z, atol=1e-10)


@pytest.mark.parametrize("m", [1, 2, 7, 25])
def test_projections_on_doubly_stochastic_matrices_are_exact(m):
    rng = np.random.default_rng(m)
    C = Birkhoff(m)
    for size in (0.01, 1.0, 30.0):
        Y = size * rng.normal(size=(m, m))
        X = C.project(Y)
        assert X.shape == (m, m)
        assert C.contains(X, 1e-11 * (1 + size))
        # The variational inequality at the worst corner is the whole optimality condition.
        corner = C.lmo(X - Y)
        assert ((Y - X) * (corner - X)).sum() <= 1e-10 * m * (1 + size)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), m=st.integers(1, 12), d=st.integers(1, 5))
def test_projections_on_hulls_are_exact(seed, m, d):
    rng = np.random.default_rng(seed)
    # Small integers: repeated and affinely dependent points, points on faces.
    points = rng.integers(-2, 3, size=(m, d)).astype(float)
    C = Hull(points)
    y = rng.integers(-4, 5, size=d).astype(float)
    x = C.project(y)
    assert C.contains(x, 1e-9)
    assert ((points - x) @ (y - x)).max() <= 1e-9
    np.testing.assert_allclose(C.project(points[0]), points[0], atol=1e-9)


def test_diameters_are_attained():
    corners = {
        "l1": [[1.5, 0, 0], [-1.5, 0, 0]],
        "linf": [[0.7] * 3, [-0.7] * 3],
        "simplex": [[2.0, 0, 0], [0, 2.0, 0]],
    }
    for name, (a, b) in corners.items():
        assert SETS[name].diameter(3) == pytest.approx(np.linalg.norm(np.subtract(a, b)))
    a, b = np.full(4, 0.25 ** (1 / 3)), -np.full(4, 0.25 ** (1 / 3))
    assert LpBall(3.0).diameter(4) == pytest.approx(np.linalg.norm(a - b))
    assert CappedSimplex(2).diameter(4) == pytest.approx(2.0)
    assert KSparsePolytope(2, 1.0).diameter(5) == pytest.approx(2 * np.sqrt(2))
    assert Birkhoff(3).diameter() == pytest.approx(np.sqrt(6))


def test_capped_simplex_and_birkhoff_lmos_are_those_of_enumeration():
    rng = np.random.default_rng(3)
    for _ in range(20):
        g = rng.normal(size=6)
        best = min(sum(g[list(c)]) for c in itertools.combinations(range(6), 2))
        assert g @ CappedSimplex(2).lmo(g) == pytest.approx(best)
        G = rng.normal(size=(4, 4))
        best = min(sum(G[i, p[i]] for i in range(4)) for p in itertools.permutations(range(4)))
        assert float((G * Birkhoff(4).lmo(G)).sum()) == pytest.approx(best)


def test_boxl1_lmo_is_that_of_a_linear_program():
    rng = np.random.default_rng(4)
    for _ in range(20):
        g = rng.normal(size=6)
        answer = linprog(
            np.concatenate([g, -g]),
            A_ub=np.ones((1, 12)),
            b_ub=[1.4],
            bounds=[(0, h) for h in HIGH] + [(0, -l) for l in LOW],
        )
        assert g @ SETS["boxl1"].lmo(g) == pytest.approx(answer.fun, abs=1e-9)


def test_ties_and_signs_are_as_documented():
    assert L1Ball(1.0).lmo(np.array([1.0, -1.0])).tolist() == [-1.0, 0.0]
    assert L1Ball(1.0).lmo(np.zeros(3)).tolist() == [-1.0, 0.0, 0.0]
    assert LInfBall(1.0).lmo(np.array([0.0, 2.0])).tolist() == [1.0, -1.0]
    assert Simplex().lmo(np.array([1.0, 0.0, 0.0])).tolist() == [0.0, 1.0, 0.0]
    assert L2Ball(1.0).lmo(np.zeros(2)).tolist() == [-1.0, 0.0]
    assert L2Ball(1.0).lmo(np.full(2, 1e-200)) == pytest.approx(-np.full(2, np.sqrt(0.5)))


@settings(max_examples=100, deadline=None)
@given(m=st.integers(1, 4), d=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_the_vertex_of_the_l1_ball_has_the_lowest_index_of_the_largest_cost(m, d, seed):
    # Few different values: ties are the rule, also between signs.
    g = np.random.default_rng(seed).integers(-2, 3, (m, d)).astype(float)
    expected = np.zeros((m, d))
    k = np.abs(g).argmax(axis=1)
    expected[np.arange(m), k] = np.where(g[np.arange(m), k] < 0.0, 3.0, -3.0)
    np.testing.assert_array_equal(L1Ball(3.0).lmo(g), expected)


@pytest.mark.parametrize("name", ALL)
def test_one_row_of_costs_is_a_batch_of_one(name):
    # Integers have ties, also between signs.
    for g in np.random.default_rng(0).integers(-1, 2, size=(20, dim_of(name))).astype(float):
        np.testing.assert_array_equal(ALL[name]._vertex(g), ALL[name]._lmo(g[None])[0])


def test_costs_may_be_so_large_that_their_sum_is_not_finite():
    assert L1Ball(1.0).lmo(np.array([1e308, -1.5e308, 1e308])).tolist() == [0.0, 1.0, 0.0]
    for bad in ([np.inf, -np.inf], [np.nan, 0.0], [np.inf, 1.0]):
        with pytest.raises(ValueError, match="g must be finite"):
            L1Ball(1.0).lmo(np.array(bad))


def test_best_vertices_of_the_l1_ball_are_sorted():
    g = np.array([1.0, -3.0, 0.5])
    vertices = L1Ball(2.0).vertices_of(g, 6)
    values = vertices @ g
    assert values.tolist() == sorted(values)
    assert values.tolist() == [-6.0, -2.0, -1.0, 1.0, 2.0, 6.0]


@pytest.mark.parametrize("name", ["l1", "l2", "boxl2", "nuclear", "group"])
def test_kinds_dtypes_shapes_and_batches_come_back(name):
    C = SETS[name]
    g = np.random.default_rng(0).normal(size=(4, 6))
    rows = np.stack([C.lmo(row) for row in g])
    np.testing.assert_array_equal(C.lmo(g), rows)
    np.testing.assert_array_equal(C.lmo(np.asfortranarray(g)), rows)
    tensor = torch.tensor(g, dtype=torch.float32)
    out = C.lmo(tensor)
    assert out.dtype == torch.float32
    assert out.shape == (4, 6)
    np.testing.assert_allclose(out.numpy(), rows, atol=1e-5)
    assert C.lmo(g.astype(np.float32)).dtype == np.float32


def test_matrices_are_accepted_in_their_shape():
    C = NuclearNormBall((2, 3), 1.0)
    G = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(C.lmo(G), C.lmo(G.ravel()).reshape(2, 3))


def test_large_nuclear_lmo_is_the_dense_one():
    C = NuclearNormBall((210, 205), 1.0)
    G = np.random.default_rng(0).normal(size=(210, 205))
    top = np.linalg.svd(G, compute_uv=False)[0]
    assert float((G * C.lmo(G)).sum()) == pytest.approx(-top, rel=1e-8)


@pytest.mark.parametrize("name", ["l1", "l2", "linf", "l3", "ksparse", "group", "nuclear", "scaled2"])
def test_gauges_measure_balls(name):
    C = Scaled(L1Ball(1.0), 3.0) if name == "scaled2" else SETS[name]
    x = np.random.default_rng(2).normal(size=6)
    t = C.gauge(x)
    assert C.contains(x / t, 1e-9)
    assert not C.contains(x / t * 1.01, 1e-6)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: L1Ball(0.0), "radius"),
        (lambda: L2Ball(-1.0), "radius"),
        (lambda: LpBall(0.5), "p must"),
        (lambda: KSparsePolytope(0), "k must"),
        (lambda: KSparsePolytope(7).lmo(np.ones(6)), "k must"),
        (lambda: CappedSimplex(7).lmo(np.ones(6)), "k must"),
        (lambda: Box([1.0], [0.0]), "lower"),
        (lambda: BoxL2([0.5], [1.0], 1.0), "lower"),
        (lambda: GroupL1Ball([[0, 1], [1, 2]]), "overlap"),
        (lambda: GroupL1Ball([[0], [2]]), "cover"),
        (lambda: Product([L1Ball()], [2, 3]), "sizes"),
        (lambda: Scaled(L1Ball(), 0.0), "scale"),
        (lambda: Hull([1.0, 2.0]), "points"),
        (lambda: L1Ball().diameter(0), "dim"),
        (lambda: L1Ball().inradius(), "dim must be given"),
        (lambda: Birkhoff(2).lmo(np.ones(5)), "4 coordinates"),
        (lambda: L1Ball().lmo(np.array([np.nan])), "finite"),
        (lambda: NuclearNormBall((0, 2)), "shape"),
        (lambda: Box("a", 1.0), "lower must be an array"),
        (lambda: Shifted(L1Ball(), "a"), "shift must be an array"),
        (lambda: Hull("a"), "points must be an array"),
    ],
)
def test_impossible_sets_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: GroupL1Ball(3), "groups must be"),
        (lambda: Product(L1Ball(), [1]), "sets must be a sequence"),
        (lambda: Product([L1Ball()], 1), "sizes must be a sequence"),
    ],
    ids=["groups", "sets", "sizes"],
)
def test_what_is_no_sequence_is_named(make, match):
    with pytest.raises(TypeError, match=match):
        make()


def test_sets_show_their_parameters():
    assert repr(L1Ball(2.0)) == "L1Ball(radius=2.0)"
    assert repr(Box([0.0, -1.0], [1.0, 2.0])) == "Box(lower=[0.0, -1.0], upper=[1.0, 2.0])"
    assert repr(Box(np.zeros(9), 1.0)) == "Box(lower=array of shape (9,), upper=array of shape (9,))"
    assert repr(GroupL1Ball([[0, 1], [2]])) == "GroupL1Ball(groups=[[0, 1], [2]], radius=1.0)"
    both = Product([L1Ball(), Scaled(Simplex(), 3.0)], [2, 3])
    assert eval(repr(both)).contains([1.0, 0.0, 3.0, 0.0, 0.0])
    assert all(repr(C).startswith(type(C).__name__ + "(") for C in SETS.values())


def _is_extreme(active, d):
    """Whether the normals of the active inequalities span the space, so that x is no middle of a segment."""
    return len(active) >= d and np.linalg.matrix_rank(np.array(active)) == d


@pytest.mark.parametrize("radius", [0.5, 1.2, 2.5, 100.0])
@pytest.mark.parametrize("g", list(itertools.product([-1.0, 0.0, 2.0], repeat=3)), ids=str)
def test_cut_boxes_answer_extreme_points_also_where_costs_are_zero(g, radius):
    lower, upper = np.array([-1.0, 0.0, -0.5]), np.array([1.0, 2.0, 0.0])
    g = np.array(g)
    # The faces of |x|_1 <= r at x have all signs that agree with it; a zero has both.
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=3)))
    s = BoxL1(lower, upper, radius).lmo(g)
    assert BoxL1(lower, upper, radius).contains(s, 1e-12)
    active = [np.eye(3)[k] for end in (lower, upper) for k in np.flatnonzero(s == end)]
    active += [row for row in signs if abs(row @ s - radius) <= 1e-12]
    assert _is_extreme(active, 3)
    s = BoxL2(lower, upper, radius).lmo(g)
    assert BoxL2(lower, upper, radius).contains(s, 1e-12)
    at_end = ((s == lower) | (s == upper)).all()
    # Every point of a sphere is extreme in its ball.
    assert at_end or np.linalg.norm(s) == pytest.approx(radius, rel=1e-9)


class Bare(ConstraintSet):
    """The ball of radius 1 with no more than must be there."""

    def _lmo(self, g):
        return L2Ball(1.0)._lmo(g)

    def _violation(self, x):
        return np.maximum(np.linalg.norm(x, axis=1) - 1.0, 0.0)

    def _diameter(self, _d):
        return 2.0

    def _center(self, d):
        return np.zeros(d)


def test_a_set_of_ones_own_needs_four_methods():
    def fun(x):
        asked.append(x)
        return float(((x - 0.3) ** 2).sum())

    asked = []
    result = minimize_fw_zo(fun, None, Product([Bare(), L2Ball(1.0)], [2, 2]), method="auto", max_queries=400)
    np.testing.assert_allclose(result.x, 0.3, atol=1e-4)
    asked.clear()
    refused = {
        r"method='zo_svrg' needs a constraint with a projection: Bare has no": {"method": "zo_svrg"},
        "query_domain='feasible' needs a set with an interior; Bare": {"query_domain": "feasible"},
        "'project_x0': True} needs a constraint with": {"x0": np.ones(3), "options": {"project_x0": True}},
    }
    for match, given_too in refused.items():
        with pytest.raises(ValueError, match=match):
            minimize_fw_zo(fun, **{"x0": np.zeros(3), "constraint": Bare(), "max_queries": 99, **given_too})
    assert asked == []
