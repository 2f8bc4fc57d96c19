"""Random orders: every consistent one, with its probability, and nothing else."""

import math
from itertools import pairwise

import numpy as np
import pytest
from brute_game import consistent_orders
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from mlpapers.valuation._precedence import PartialOrder, PrecedenceSampler, _Chain, _Counted, count_extensions
from mlpapers.valuation.permutation import GroupSampler, open_uniform, required_permutations

SEED = 20240711
# One test in a thousand would fail by chance for another seed; this one is fixed.
LEVEL = 1e-3

V_SHAPE = [(0, 2), (1, 2)]
N_SHAPE = [(0, 2), (1, 2), (1, 3)]
TREE = [(0, 1), (0, 2), (2, 3), (2, 4)]
PARTS = [(0, 1), (2, 3), (2, 4)]


def goodness_of_fit(draws, orders, probabilities):
    """p-value of the draws as a sample from the orders; fails on an order that is not among them."""
    index = {tuple(order): k for k, order in enumerate(orders)}
    counts = np.zeros(len(orders))
    for draw in draws:
        counts[index[tuple(draw)]] += 1
    return chisquare(counts, probabilities * len(draws)).pvalue


def draw_many(sampler, n_draws, *, mirrored=False):
    seeds = np.random.SeedSequence(SEED).spawn(n_draws)
    return [sampler.sample(np.random.default_rng(seed), mirrored=mirrored) for seed in seeds]


@pytest.mark.parametrize("mirrored", [False, True])
def test_groups_are_shuffled_uniformly(mirrored):
    groups = np.array([1, 0, 1, 0, 1])
    draws = draw_many(GroupSampler(groups), 3000, mirrored=mirrored)
    assert goodness_of_fit(draws, *consistent_orders(5, groups)) > LEVEL


@pytest.mark.parametrize("mirrored", [False, True])
def test_weights_give_the_kalai_samet_distribution(mirrored):
    groups, weights = np.array([0, 1, 0, 0, 1]), np.array([0.5, 2.0, 1.0, 3.0, 0.7])
    draws = draw_many(GroupSampler(groups, weights), 6000, mirrored=mirrored)
    assert goodness_of_fit(draws, *consistent_orders(5, groups, weights)) > LEVEL


def test_mirrored_draws_reverse_each_group():
    groups = np.array([0, 0, 0, 1, 1])
    sampler = GroupSampler(groups)
    for order, mirror in zip(draw_many(sampler, 20), draw_many(sampler, 20, mirrored=True)):
        np.testing.assert_array_equal(mirror, np.concatenate([order[:3][::-1], order[3:][::-1]]))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("pairs", "n", "name"),
    [
        ([], 4, "forest"),
        (V_SHAPE, 4, "forest"),
        (TREE, 5, "forest"),
        ([(b, a) for a, b in TREE], 5, "forest"),
        ([*TREE, (0, 3)], 5, "forest"),
        (PARTS, 6, "forest"),
        (N_SHAPE, 5, "counting"),
        ([*N_SHAPE, (4, 5)], 6, "counting"),
    ],
)
def test_linear_extensions_are_uniform(pairs, n, name, mirrored):
    sampler = PrecedenceSampler(PartialOrder(pairs, n))
    assert sampler.name == name
    orders, probabilities = consistent_orders(n, precedence=pairs)
    draws = draw_many(sampler, 20 * len(orders), mirrored=mirrored)
    assert goodness_of_fit(draws, orders, probabilities) > LEVEL


@pytest.mark.parametrize("pairs", [N_SHAPE, TREE, V_SHAPE])
def test_chain_and_counting_are_uniform_on_any_order(pairs):
    n = max(max(pair) for pair in pairs) + 1
    orders, probabilities = consistent_orders(n, precedence=pairs)
    for kind in (_Chain, _Counted):
        part = kind(PartialOrder(pairs, n))
        rng = np.random.default_rng(SEED)
        draws = [part.sample(rng, mirrored=False) for _ in range(3000)]
        assert goodness_of_fit(draws, orders, probabilities) > LEVEL


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_extensions_are_counted(n, seed):
    rng = np.random.default_rng(seed)
    rank = rng.permutation(n)
    pairs = [(i, j) for i in range(n) for j in range(n) if rank[i] < rank[j] and rng.random() < 0.4]
    order = PartialOrder(pairs, n)
    assert count_extensions(order)[-1] == len(consistent_orders(n, precedence=pairs)[0])
    for sampler in (PrecedenceSampler(order),):
        place = np.argsort(sampler.sample(rng))
        assert all(place[a] < place[b] for a, b in pairs)


def test_twenty_free_players_have_twenty_factorial_orders():
    assert count_extensions(PartialOrder([], 20))[-1] == math.factorial(20)


def test_large_interlaced_orders_use_the_chain():
    # A ladder of 24: each player before the next but one, and before its neighbour on every other rung.
    pairs = [(i, i + 2) for i in range(22)] + [(i, i + 3) for i in range(0, 21, 2)]
    sampler = PrecedenceSampler(PartialOrder(pairs, 24))
    assert sampler.name == "mcmc"
    for order in draw_many(sampler, 5):
        place = np.argsort(order)
        assert sorted(order) == list(range(24))
        assert all(place[a] < place[b] for a, b in pairs)
    with pytest.warns(UserWarning, match="ties 201 players together"):
        _Chain(PartialOrder(list(pairwise(range(201))), 201))


def test_boundaries_are_the_coalitions_that_all_orders_pass():
    sampler = GroupSampler(np.array([1, 0, 1, 2]))
    assert [prefix.tolist() for prefix in sampler.boundaries()] == [[], [1], [0, 1, 2], [0, 1, 2, 3]]
    sampler = PrecedenceSampler(PartialOrder([(0, 1)], 3))
    assert [prefix.tolist() for prefix in sampler.boundaries()] == [[], [0, 1, 2]]


def test_uniforms_lie_inside_and_mirror_exactly():
    draws = open_uniform(np.random.default_rng(SEED), 1000)
    mirrored = open_uniform(np.random.default_rng(SEED), 1000, mirrored=True)
    assert draws.min() > 0.0
    assert draws.max() < 1.0
    np.testing.assert_array_equal(mirrored, 1.0 - draws)


def test_required_permutations_is_the_published_number():
    assert required_permutations(1000, 0.05, 0.05) == 2120
    assert required_permutations(1000, 0.05, 0.05, r=2.0) == 8478
    assert required_permutations(2, 0.1, 0.1) == 185
    assert required_permutations(2, 0.1, 0.1, r=2.0) == 738
    assert required_permutations(20, 0.05, 0.1) == 1199


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 0.1, 0.1), "n"), ((5, 0.0, 0.1), "epsilon"), ((5, 0.1, 1.0), "delta"), ((5, 0.1, 0.1, 0.0), "r")],
)
def test_required_permutations_names_what_is_wrong(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must"):
        required_permutations(*arguments)


def test_precedence_names_what_is_wrong():
    # The cycle may be told from any of its members, but in the order of the pairs.
    with pytest.raises(ValueError, match=r"cycle: (0 -> 1 -> 2 -> 0|1 -> 2 -> 0 -> 1|2 -> 0 -> 1 -> 2)$"):
        PartialOrder([(0, 1), (1, 2), (2, 0)], 3)
    with pytest.raises(ValueError, match="precedence has a cycle: 1 -> 1"):
        PartialOrder([(1, 1)], 3)
    with pytest.raises(ValueError, match=r"precedence must name players in \[0, 3\); got 3"):
        PartialOrder([(0, 3)], 3)
    for malformed in ([(0, 1, 2)], [(0,), (1, 2)], [("a", "b")], [0, 1]):
        with pytest.raises(ValueError, match="precedence must be a list of"):
            PartialOrder(malformed, 3)
