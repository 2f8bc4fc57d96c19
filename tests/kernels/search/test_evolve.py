"""Evolutionary search: islands, upper confidence bounds, one population, chance."""

import math

import numpy as np
import pytest

from mlpapers.kernels.claims.search import SPACE, costs
from mlpapers.kernels.search.evolve import STRATEGIES, search


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_measures_the_same_settings(strategy):
    runs = [search(SPACE, costs, strategy=strategy, n_evaluations=40, random_state=3) for _ in range(2)]
    assert [one.params for one in runs[0].history] == [one.params for one in runs[1].history]
    other = search(SPACE, costs, strategy=strategy, n_evaluations=40, random_state=4)
    assert [one.params for one in other.history] != [one.params for one in runs[0].history]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_more_than_asked_nothing_twice_and_all_admissible(strategy):
    found = search(SPACE, costs, strategy=strategy, n_evaluations=50, random_state=0)
    keys = [tuple(one.params.values()) for one in found.history]
    assert len(keys) == 50
    assert len(set(keys)) == 50
    assert all(value in SPACE[name] for one in found.history for name, value in one.params.items())
    assert found.best.cost == min(costs([one.params for one in found.history]))
    assert np.all(np.diff(found.best_so_far) <= 0)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_small_space_is_exhausted(strategy):
    space = {"a": (1, 2, 4), "b": (0, 1)}
    found = search(
        space,
        lambda some: [p["a"] + p["b"] for p in some],
        strategy=strategy,
        n_evaluations=60,
        random_state=1,
    )
    assert len(found.history) == 6
    assert found.best.params == {"a": 1, "b": 0}


def _total(some):
    return [params["a"] + params["b"] for params in some]


def test_it_begins_at_the_start_and_survives_settings_that_do_not_run():
    def measure(some):
        return [None if p["knob0"] > 3 else c for p, c in zip(some, costs(some))]

    start = dict.fromkeys(SPACE, 2)
    for strategy in STRATEGIES:
        found = search(SPACE, measure, strategy=strategy, n_evaluations=30, start=start, random_state=0)
        assert found.history[0].params == start
        assert found.best.cost <= costs([start])[0]
        assert any(math.isinf(one.cost) for one in found.history)
        assert found.best.params["knob0"] <= 3


def test_islands_keep_to_their_own_and_exchange():
    found = search(SPACE, costs, num_islands=3, n_parallel=6, parent_prob=1.0, migration_interval=2,
                   n_evaluations=90, random_state=0)  # fmt: skip
    assert {one.island for one in found.history} == {0, 1, 2}
    pairs = [(one.island, found.history[one.parent].island) for one in found.history if one.parent >= 0]
    assert sum(a == b for a, b in pairs) > len(pairs) / 2
    alone = search(SPACE, costs, num_islands=3, n_parallel=6, parent_prob=1.0, migration_interval=1000,
                   n_evaluations=90, random_state=0)  # fmt: skip
    pairs = [(one.island, alone.history[one.parent].island) for one in alone.history if one.parent >= 0]
    assert all(a == b for a, b in pairs)


def test_without_an_elite_there_is_one_population():
    found = search(SPACE, costs, num_islands=3, elite_size=0, n_parallel=6, random_state=0)
    assert {one.island for one in found.history} == {0}
    one = search(SPACE, costs, num_islands=1, elite_size=0, n_parallel=6, random_state=0)
    assert [one.params for one in found.history] == [one.params for one in one.history]


def test_choosing_a_setting_whose_children_do_not_run_is_no_visit():
    space = {f"knob{k}": tuple(range(8)) for k in range(6)}
    start = dict.fromkeys(space, 3)

    def measure(some):
        # One of the first four settings runs.
        measured.extend(some)
        return [1.0 if len(measured) in (1, 4) else None for _ in some]

    measured: list = []
    found = search(space, measure, strategy="ucb", n_evaluations=4, start=start, random_state=0)
    assert [one.parent for one in found.history] == [-1, 0, 0, 0]
    # Three choices of the start, of which the first two do not count: with the fourth setting as good as the
    # start, Q is 1 and 2/3, n_v is 1 and 0, N is 1, and the fresh setting has the greater bound for c > 1.37.
    gap = 1 / 3 / (math.sqrt(math.log(2)) * (1 - math.sqrt(0.5)))
    for c, parent in ((0.95 * gap, 0), (1.05 * gap, 3)):
        measured.clear()
        found = search(space, measure, strategy="ucb", ucb_c=c, n_evaluations=5, start=start, random_state=0)
        assert found.history[4].parent == parent


def test_it_stops_when_told():
    found = search(SPACE, costs, n_evaluations=90, n_parallel=4, go_on=lambda: True, random_state=0)
    assert len(found.history) == 90
    found = search(SPACE, costs, n_evaluations=90, n_parallel=4, go_on=lambda: False, random_state=0)
    assert len(found.history) == 4


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"strategy": "annealing"}, "strategy"),
        ({"n_evaluations": 0}, "n_evaluations"),
        ({"num_islands": 0}, "num_islands"),
        ({"parent_prob": 1.5}, "parent_prob"),
        ({"ucb_c": -1.0}, "ucb_c"),
    ],
)
def test_mistakes_are_named(options, name):
    with pytest.raises(ValueError, match=name):
        search(SPACE, costs, **options)
    with pytest.raises(ValueError, match="space"):
        search({}, costs)
