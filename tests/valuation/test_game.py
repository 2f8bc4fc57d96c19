"""Exact values by enumeration: against all permutations, axioms, dividends."""

import numpy as np
import pytest
from brute_game import TableGame, brute_values, dividend_values, random_game
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.valuation.game import exact_shapley, harsanyi_dividends

# Sums of at most n 2^n products of standard normals and probabilities: rounding stays far below this.
TOLERANCE = 1e-12

sizes = st.integers(1, 6)
seeds = st.integers(0, 2**32 - 1)


def grouped(draw_n, seed, n_groups=3):
    rng = np.random.default_rng(seed)
    return rng.integers(-2, -2 + n_groups, size=draw_n), rng.uniform(0.1, 3.0, size=draw_n)


@given(sizes, seeds)
def test_groups_and_weights_average_over_consistent_permutations(n, seed):
    v = random_game(n, seed)
    groups, weights = grouped(n, seed)
    np.testing.assert_allclose(exact_shapley(v, n), brute_values(v, n), atol=TOLERANCE)
    np.testing.assert_allclose(exact_shapley(v, n, groups), brute_values(v, n, groups), atol=TOLERANCE)
    np.testing.assert_allclose(
        exact_shapley(v, n, groups, weights), brute_values(v, n, groups, weights), atol=TOLERANCE
    )


@given(sizes, seeds)
def test_precedence_averages_over_linear_extensions(n, seed):
    rng = np.random.default_rng(seed)
    v = random_game(n, seed)
    rank = rng.permutation(n)
    pairs = [(i, j) for i in range(n) for j in range(n) if rank[i] < rank[j] and rng.random() < 0.35]
    values = exact_shapley(v, n, precedence=pairs)
    np.testing.assert_allclose(values, brute_values(v, n, precedence=pairs), atol=TOLERANCE)


def test_precedence_of_whole_groups_is_the_ordered_partition():
    v = random_game(6, 1)
    groups = np.array([1, 0, 1, 2, 0, 1])
    pairs = [(i, j) for i in range(6) for j in range(6) if groups[i] < groups[j]]
    np.testing.assert_allclose(
        exact_shapley(v, 6, precedence=pairs), exact_shapley(v, 6, groups), atol=TOLERANCE
    )


@given(st.integers(1, 7), seeds)
def test_dividends_give_the_same_values(n, seed):
    v = random_game(n, seed)
    groups, weights = grouped(n, seed)
    dividends = harsanyi_dividends(v, n)
    np.testing.assert_allclose(
        exact_shapley(v, n, groups), dividend_values(dividends, groups, np.ones(n)), atol=TOLERANCE
    )
    np.testing.assert_allclose(
        exact_shapley(v, n, groups, weights), dividend_values(dividends, groups, weights), atol=TOLERANCE
    )


@given(st.integers(1, 7), seeds)
def test_dividends_sum_back_to_the_game(n, seed):
    v = random_game(n, seed)
    dividends = harsanyi_dividends(v, n)
    masks = np.arange(1 << n)
    for mask in masks:
        np.testing.assert_allclose(dividends[masks & mask == masks].sum(), v.table[mask], atol=TOLERANCE)


@given(st.integers(1, 8), seeds)
def test_groups_share_what_they_add_and_later_ones_change_nothing(n, seed):
    v = random_game(n, seed)
    codes = np.unique(grouped(n, seed)[0], return_inverse=True)[1]
    values = exact_shapley(v, n, codes)
    for group in range(codes.max() + 1):
        before, upto = np.flatnonzero(codes < group), np.flatnonzero(codes <= group)
        np.testing.assert_allclose(values[codes == group].sum(), v(upto) - v(before), atol=TOLERANCE)
    early = np.flatnonzero(codes < codes.max())
    if len(early):
        alone = exact_shapley(lambda players: v(early[players]), len(early), codes[early])
        np.testing.assert_allclose(values[early], alone, atol=TOLERANCE)


@given(st.integers(1, 7), seeds, st.floats(-3, 3), st.floats(-3, 3))
def test_values_are_linear_in_the_game(n, seed, a, b):
    v, w = random_game(n, seed), random_game(n, seed + 1)
    groups, weights = grouped(n, seed)
    mixed = TableGame(a * v.table + b * w.table)
    expected = a * exact_shapley(v, n, groups, weights) + b * exact_shapley(w, n, groups, weights)
    np.testing.assert_allclose(exact_shapley(mixed, n, groups, weights), expected, atol=10 * TOLERANCE)


@given(st.integers(2, 7), seeds)
def test_null_players_get_nothing_and_twins_of_a_group_the_same(n, seed):
    base = random_game(n - 1, seed)
    groups, weights = grouped(n, seed)
    # The last player adds nothing to any coalition.
    null = TableGame(np.tile(base.table, 2))
    assert abs(exact_shapley(null, n, groups, weights)[-1]) <= TOLERANCE
    # The utility sees only how many of the last two have entered.
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(1 << (n - 2), 3))
    masks = np.arange(1 << n)
    twins = TableGame(table[masks & ((1 << (n - 2)) - 1), np.bitwise_count(masks >> (n - 2))])
    groups[-1] = groups[-2]
    values = exact_shapley(twins, n, groups)
    assert abs(values[-1] - values[-2]) <= TOLERANCE


@given(st.integers(2, 7), seeds)
def test_mutually_dependent_players(n, seed):
    # Nowak and Radzik: neither of the last two adds anything without the other.
    rng = np.random.default_rng(seed)
    masks = np.arange(1 << n)
    others = masks & ((1 << (n - 2)) - 1)
    both = masks >> (n - 2) == 3
    rest, joint = rng.normal(size=1 << (n - 2)), rng.normal(size=1 << (n - 2))
    v = TableGame(rest[others] + both * joint[others])
    groups = grouped(n, seed)[0]
    values = exact_shapley(v, n, groups)
    if groups[-1] == groups[-2]:
        assert abs(values[-1] - values[-2]) <= TOLERANCE
    else:
        earlier = n - 1 if groups[-1] < groups[-2] else n - 2
        assert abs(values[earlier]) <= TOLERANCE


def test_equal_marginals_in_two_groups_are_paid_equally():
    # The premise "equal marginal contributions" alone says nothing about players of different groups.
    np.testing.assert_array_equal(exact_shapley(lambda S: float(len(S)), 2, groups=[0, 1]), [1.0, 1.0])


def test_first_of_three_identical_votes_takes_all():
    values = exact_shapley(lambda S: float(len(S) > 0), 3, groups=[0, 1, 2])
    np.testing.assert_array_equal(values, [1.0, 0.0, 0.0])


def test_each_coalition_is_evaluated_once():
    v = random_game(7, 0)
    exact_shapley(v, 7, [0, 0, 0, 1, 1, 2, 2])
    assert v.n_calls == 2**3 + (2**2 - 1) + (2**2 - 1)
    v = random_game(5, 0)
    exact_shapley(v, 5, precedence=[(0, 1), (1, 2), (2, 3), (3, 4)])
    assert v.n_calls == 6


def test_errors_name_the_argument():
    v = random_game(3, 0)
    with pytest.raises(ValueError, match="group 0 has 21"):
        exact_shapley(v, 21)
    with pytest.raises(ValueError, match="n_players"):
        harsanyi_dividends(v, 21)
    with pytest.raises(ValueError, match="groups must have shape"):
        exact_shapley(v, 3, [0, 1])
    with pytest.raises(ValueError, match="groups must hold integers"):
        exact_shapley(v, 3, [0.5, 1, 2])
    with pytest.raises(ValueError, match="player_weights must be finite and > 0; got 0"):
        exact_shapley(v, 3, None, [1, 0, 1])
    with pytest.raises(ValueError, match="player_weights must have shape"):
        exact_shapley(v, 3, None, [1, 1])
    with pytest.raises(ValueError, match="groups and precedence"):
        exact_shapley(v, 3, [0, 0, 1], precedence=[(0, 1)])
    with pytest.raises(ValueError, match="player_weights and precedence"):
        exact_shapley(v, 3, player_weights=[1, 1, 1], precedence=[(0, 1)])
    with pytest.raises(ValueError, match="subset of size 2 must be finite; got nan"):
        exact_shapley(lambda S: np.nan if len(S) == 2 else 0.0, 3)
    with pytest.raises(TypeError, match="v must be callable"):
        exact_shapley(3.0, 3)
