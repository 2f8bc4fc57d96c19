"""Variance estimates against slow implementations of their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from mlpapers.valuation._subsets import draw_families, draw_subsets
from mlpapers.valuation.variance import (
    double_monte_carlo,
    infinitesimal_jackknife,
    ks_distance,
    pick_and_freeze,
    recommend_variance,
)

# Sums of some hundred products of numbers of order 1.
EXACT = 1e-12


def naive_jackknife(h, subsets, n):
    """The formula, as two loops over points and subsets."""
    n_subsets, s = len(subsets), len(subsets[0])
    theta = sum(h) / n_subsets
    zeta_tot = sum((value - theta) ** 2 for value in h) / (n_subsets - 1)
    total = 0.0
    for i in sorted({i for subset in subsets for i in subset}):
        inside = [1.0 if i in subset else 0.0 for subset in subsets]
        mean_inside = sum(inside) / n_subsets
        c = sum((inside[b] - mean_inside) * (h[b] - theta) for b in range(n_subsets)) / n_subsets
        total += c**2
    noise = n * (s / n) * (1 - s / n) * zeta_tot / n_subsets
    factor = ((n - 1) / n) * (n / (n - s)) ** 2
    return max(total - noise, 0.0) * factor + zeta_tot / n_subsets, total < noise


@given(st.integers(4, 12), st.integers(2, 30), st.integers(0, 2**32 - 1), st.data())
@settings(max_examples=40)
def test_jackknife_is_the_double_loop(n, n_subsets, seed, data):
    s = data.draw(st.integers(1, n // 2 if n % 2 else n // 2 - 1))
    rng = np.random.default_rng(seed)
    tuples = draw_subsets(n, s, n_subsets, False, rng).tuples
    target = int(rng.integers(n))
    effect = rng.normal(size=n)
    h = np.stack([effect[tuples[:, :-1]].sum(axis=1), rng.normal(size=n_subsets)])
    estimate = infinitesimal_jackknife(h, tuples, n, targets=[-1, target])
    subsets = tuples[:, :-1].tolist()
    # A training point is valued by the n - 1 others, the spare standing in for it.
    others = [[row[-1] if i == target else i for i in row[:-1]] for row in tuples.tolist()]
    for t, (members, size) in enumerate(((subsets, n), (others, n - 1))):
        expected, clipped = naive_jackknife(h[t].tolist(), members, size)
        assert estimate.variance[t] == pytest.approx(expected, rel=1e-9, abs=EXACT)
        assert estimate.clipped[t] == clipped
        recomposed = s**2 * estimate.zeta1[t] / size + estimate.zeta_tot[t] / n_subsets
        assert recomposed == pytest.approx(estimate.variance[t], rel=1e-9, abs=EXACT)


def test_jackknife_finds_the_variance_of_a_linear_kernel():
    # h(S) = mean over S of a_i: the complete statistic is the sample mean, of variance var(a) / n.
    n, s = 60, 6
    rng = np.random.default_rng(0)
    a = rng.normal(size=n)
    tuples = draw_subsets(n, s, 40_000, False, 1).tuples
    estimate = infinitesimal_jackknife(a[tuples[:, :-1]].mean(axis=1)[None], tuples, n)
    expected = a.var(ddof=1) / n
    # (n - 1) / n * sum((a - mean)^2) / n^2 * ... differs from it by a factor (1 + O(1 / n)).
    assert estimate.variance[0] == pytest.approx(expected, rel=3 / n)


@given(st.floats(0.01, 100.0), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_variances_scale_with_the_square_of_the_utility(c, seed):
    rng = np.random.default_rng(seed)
    n, s, n_subsets = 12, 3, 40
    tuples = draw_subsets(n, s, n_subsets, False, seed).tuples
    h = rng.normal(size=(2, n))[:, tuples[:, :-1]].sum(axis=2) + rng.normal(size=(2, n_subsets))
    inner = rng.normal(size=(2, 5, 4)) + rng.normal(size=(2, 5, 1))
    pairs, total = inner[:, :, :2], h.var(axis=1, ddof=1)
    for estimate, scaled in (
        (infinitesimal_jackknife(h, tuples, n), infinitesimal_jackknife(c * h, tuples, n)),
        (
            double_monte_carlo(inner, total, n, s, n_subsets, bias_correct=True),
            double_monte_carlo(c * inner, c**2 * total, n, s, n_subsets, bias_correct=True),
        ),
        (
            pick_and_freeze(pairs, total, n, s, n_subsets),
            pick_and_freeze(c * pairs, c**2 * total, n, s, n_subsets),
        ),
    ):
        for name in ("variance", "zeta1", "zeta_tot"):
            np.testing.assert_allclose(
                getattr(scaled, name), c**2 * getattr(estimate, name), rtol=1e-7, atol=EXACT
            )


@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_double_monte_carlo_formula(n_outer, n_inner, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_outer, n_inner)) + rng.normal(size=(n_outer, 1))
    means = [sum(row) / n_inner for row in values]
    grand = sum(means) / n_outer
    between = sum((m - grand) ** 2 for m in means) / (n_outer - 1)
    inside = [sum((v - m) ** 2 for v in row) / (n_inner - 1) for row, m in zip(values, means)]
    within = sum(inside) / n_outer
    raw = double_monte_carlo(values[None], [2.0], 50, 7, 100)
    assert raw.zeta1[0] == pytest.approx(between, rel=1e-10)
    assert raw.variance[0] == pytest.approx(49 * between / 50 + 2.0 / 100, rel=1e-10)
    assert not raw.clipped[0]
    corrected = double_monte_carlo(values[None], [2.0], 50, 7, 100, bias_correct=True)
    assert corrected.zeta1[0] == pytest.approx(max(between - within / n_inner, 0.0), rel=1e-9, abs=EXACT)
    assert corrected.clipped[0] == (between < within / n_inner)


@given(st.integers(2, 30), st.floats(-1e3, 1e3), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_pick_and_freeze_formula(n_pairs, shift, seed):
    rng = np.random.default_rng(seed)
    pairs = rng.normal(size=(n_pairs, 2)) + 2 * rng.normal(size=(n_pairs, 1)) + shift
    product = sum(a * b for a, b in pairs) / n_pairs
    middle = sum((a + b) / 2 for a, b in pairs) / n_pairs
    estimate = pick_and_freeze(pairs[None], [1.0], 40, 5, 100)
    # The printed form cancels shift^2.
    assert estimate.zeta1[0] == pytest.approx(
        max(product - middle**2, 0.0), rel=1e-8, abs=1e-9 * (1 + shift**2)
    )
    assert estimate.variance[0] == pytest.approx(25 * estimate.zeta1[0] / 40 + 0.01, rel=1e-12)


def test_families_find_the_variance_of_a_linear_kernel():
    # h(S) = mean over S of a_i: E[h | Z] = a_Z / s + the mean of the others, which falls as a_Z rises:
    # hence the factor 1 - (s - 1) / (n - 1).
    n, s = 200, 5
    a = np.random.default_rng(0).normal(size=n)
    expected = a.var() * (1 - (s - 1) / (n - 1)) ** 2 / s**2
    families = draw_families(n, s, 3000, 10, False, 1)
    inner = a[families.tuples[:, :-1]].mean(axis=1).reshape(1, 3000, 10)
    corrected = double_monte_carlo(inner, [1.0], n, s, 100, bias_correct=True)
    raw = double_monte_carlo(inner, [1.0], n, s, 100)
    pairs = draw_families(n, s, 30_000, 2, False, 2)
    frozen = pick_and_freeze(a[pairs.tuples[:, :-1]].mean(axis=1).reshape(1, -1, 2), [1.0], n, s, 100)
    # Relative standard errors: about (1 + s / 10) sqrt(2 / 3000) = 4 %, and s sqrt(1 / 30000) = 3 %.
    assert corrected.zeta1[0] == pytest.approx(expected, rel=0.16)
    assert frozen.zeta1[0] == pytest.approx(expected, rel=0.12)
    assert raw.zeta1[0] > corrected.zeta1[0]


def test_jackknife_needs_small_subsets():
    tuples = draw_subsets(7, 4, 10, False, 0).tuples
    with pytest.raises(ValueError, match="at most n / 2"):
        infinitesimal_jackknife(np.zeros((1, 10)), tuples, 7)
    with pytest.raises(ValueError, match="more than 2 rows"):
        infinitesimal_jackknife(np.zeros((1, 2)), [[0, 1], [1, 0]], 2, targets=[0])


def test_ks_distance_agrees_with_scipy():
    sample = np.random.default_rng(0).normal(0.3, 1.2, size=37)
    assert ks_distance(sample) == pytest.approx(kstest(sample, "norm").statistic, abs=EXACT)


@pytest.mark.parametrize(
    ("n", "s", "budget", "expected"),
    [
        (1000, 31, 0, {"variance": "ij"}),
        (1000, 31, 300, {"variance": "ij"}),
        (100, 10, 1000, {"variance": "dmc", "n_outer": 100, "n_inner": 10, "bias_correct": False}),
        (100, 10, 9999, {"variance": "dmc", "n_outer": 999, "n_inner": 10, "bias_correct": False}),
        (100, 10, 10_000, {"variance": "dmc", "n_outer": 1000, "n_inner": 10, "bias_correct": True}),
        (10, 6, 0, {"variance": "dmc", "n_outer": 10, "n_inner": 6, "bias_correct": False}),
        (10, 1, 40, {"variance": "dmc", "n_outer": 20, "n_inner": 2, "bias_correct": False}),
    ],
)
def test_recommendation(n, s, budget, expected):
    assert recommend_variance(n, s, budget) == expected


@pytest.mark.parametrize(
    ("n", "s", "budget", "name"), [(1, 1, 0, "n"), (10, 0, 0, "s"), (10, 10, 0, "s"), (10, 2, -1, "budget")]
)
def test_recommendation_of_nothing(n, s, budget, name):
    with pytest.raises(ValueError, match=f"^{name} must be an integer"):
        recommend_variance(n, s, budget)
