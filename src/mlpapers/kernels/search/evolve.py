r"""Evolutionary search over knobs: islands, upper confidence bounds, one population, and chance.

All of them see the same thing, a space of admissible values per knob and a function that measures settings,
and spend the same number of measurements; the same random state gives the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlpapers.core.validation import check_choice, check_int, check_real, check_rng

Params = dict[str, Any]
Space = Mapping[str, Sequence[Any]]
# Settings -> a cost each; None for one that does not run.
Measure = Callable[[Sequence[Params]], Sequence[float | None]]
# (what was measured, settings wanted) -> settings.
Propose = Callable[[Sequence["Individual"], int], Sequence[Params]]

STRATEGIES = ("islands", "ucb", "population", "random")
# Children that are crossed from two parents; the rest are mutated.
_CROSSED = 0.2
# Share of a population whose members become parents.
_PARENTS = 0.3
_POPULATION = 10
_TRIES = 50


@dataclass(frozen=True)
class Individual:
    """A measured setting.

    Attributes
    ----------
    params : dict
    cost : float
        inf for one that does not run.
    island : int
    parent : int
        Its place in the history, -1 for one without.
    proposed : bool
        Whether it came from outside, not from a mutation here.
    """

    params: Params
    cost: float
    island: int = 0
    parent: int = -1
    proposed: bool = False


@dataclass(frozen=True)
class SearchOutcome:
    """How a search went.

    Attributes
    ----------
    best : Individual
    history : tuple of Individual
        In the order of measurement.
    """

    best: Individual
    history: tuple[Individual, ...]

    @property
    def best_so_far(self) -> list[float]:
        """The least cost after each measurement."""
        return [float(x) for x in np.minimum.accumulate([one.cost for one in self.history])]


def search(
    space: Space,
    measure: Measure,
    *,
    strategy: str = "islands",
    n_evaluations: int = 96,
    start: Params | None = None,
    n_parallel: int = 4,
    num_islands: int = 2,
    migration_interval: int = 2,
    elite_size: int = 5,
    parent_prob: float = 0.5,
    ucb_c: float = 0.3,
    go_on: Callable[[], bool] = lambda: True,
    propose: Propose | None = None,
    random_state: Any = None,
) -> SearchOutcome:
    """Look for the setting of least cost.

    Parameters
    ----------
    space : mapping of str to sequence
        Admissible values of each knob, in their natural order.
    measure : callable
        Costs of some settings.
    strategy : {"islands", "ucb", "population", "random"}
        Populations that exchange their best; the setting whose rank and number of visits promise most;
        one greedy population of the ten best; or settings drawn at random.
    n_evaluations : int
        Settings that are measured at most.
    start : dict, optional
        Where to begin; by default at random.
    n_parallel : int
        Settings that are measured at once.
    num_islands, migration_interval, elite_size : int
        Populations, rounds between exchanges, and best members that are open to all; without such members
        there is one population.
    parent_prob : float
        Share of parents from a child's own island; the others come from the elite.
    ucb_c : float
        Weight of the unvisited.
    go_on : callable
        Asked before each round; where it says False the search ends.
    propose : callable, optional
        ``propose(history, n)`` gives up to n settings for a round after the first; what is new and admissible
        is measured, and the round is filled up by mutation.
    random_state : int, Generator, RandomState or None

    Returns
    -------
    outcome : SearchOutcome

    Raises
    ------
    ValueError
        For an unknown strategy, an empty space or a number out of range.

    Examples
    --------
    >>> space = {"tile": (16, 32, 64, 128), "warps": (1, 2, 4)}
    >>> found = search(space, lambda some: [abs(p["tile"] - 64) + p["warps"] for p in some], random_state=0)
    >>> found.best.params
    {'tile': 64, 'warps': 1}
    """
    check_choice("strategy", strategy, STRATEGIES)
    check_int("n_evaluations", n_evaluations, minimum=1)
    check_int("n_parallel", n_parallel, minimum=1)
    check_int("num_islands", num_islands, minimum=1)
    check_int("migration_interval", migration_interval, minimum=1)
    check_int("elite_size", elite_size, minimum=0)
    check_real("parent_prob", parent_prob, low=0.0, high=1.0)
    check_real("ucb_c", ucb_c, low=0.0)
    if not space or not all(len(values) for values in space.values()):
        raise ValueError(f"space must give every knob a value; got {dict(space)!r}")
    if elite_size == 0:
        num_islands = 1
    state = _State(space, measure, check_rng(random_state), n_evaluations, start)
    proposers: dict[str, Callable[[int, int], list[_Child]]] = {
        "islands": lambda number, n: _islands(
            state, number, n, num_islands, migration_interval, elite_size, parent_prob
        ),
        "ucb": lambda _, n: [_ucb(state, ucb_c) for _ in range(min(n, 1))],
        "population": lambda _, n: _population(state, n),
        "random": lambda _, n: [_Child(state.draw()) for _ in range(n)],
    }
    number = 0
    while state.left > 0 and (not state.history or go_on()):
        given: list[_Child] = []
        n = min(n_parallel, state.left)
        if propose is not None and state.history:
            given = state.adopted(propose(tuple(state.history), n), num_islands)[:n]
        children = [*given, *proposers[strategy](number, n - len(given))][: state.left]
        if not children:
            break
        state.take(children)
        number += 1
    return SearchOutcome(min(state.history, key=lambda one: one.cost), tuple(state.history))


@dataclass(frozen=True)
class _Child:
    params: Params
    island: int = 0
    parent: int = -1
    proposed: bool = False


@dataclass
class _State:
    """What has been measured, and the means to propose more."""

    space: Space
    measure: Measure
    rng: np.random.Generator
    budget: int
    start: Params | None
    history: list[Individual] = field(default_factory=list)
    seen: set[tuple[Any, ...]] = field(default_factory=set)
    visits: list[int] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Measurements that may still be made."""
        total = math.prod(len(values) for values in self.space.values())
        return min(self.budget, total) - len(self.history)

    def key(self, params: Params) -> tuple[Any, ...]:
        return tuple(params[name] for name in self.space)

    def draw(self) -> Params:
        """Return a setting that is new, at random; the given start comes first."""
        if self.start is not None and not self.seen:
            params = {name: self.start.get(name, values[0]) for name, values in self.space.items()}
            self.seen.add(self.key(params))
            return params
        return self.new(
            lambda: {name: values[int(self.rng.integers(len(values)))] for name, values in self.space.items()}
        )

    def new(self, propose: Callable[[], Params]) -> Params:
        """Return a proposal that was not made before, the last one where there is none."""
        for _ in range(_TRIES):
            params = propose()
            if self.key(params) not in self.seen:
                break
        self.seen.add(self.key(params))
        return params

    def mutated(self, parent: Params) -> Params:
        """Return a neighbour: one or two knobs moved by one or two values."""
        names = list(self.space)
        child = dict(parent)
        for k in self.rng.choice(
            len(names), size=min(int(self.rng.integers(1, 3)), len(names)), replace=False
        ):
            values = list(self.space[names[int(k)]])
            at = values.index(child[names[int(k)]]) if child[names[int(k)]] in values else 0
            move = int(self.rng.choice([-2, -1, 1, 2]))
            child[names[int(k)]] = values[min(max(at + move, 0), len(values) - 1)]
        return child

    def crossed(self, one: Params, other: Params) -> Params:
        """Return a setting with each knob of one of two parents."""
        return {name: (one if self.rng.random() < 0.5 else other)[name] for name in self.space}

    def adopted(self, settings: Sequence[Params], islands: int) -> list[_Child]:
        """Return the settings that are new and admissible as children, dealt onto the islands."""
        found: list[_Child] = []
        for params in settings:
            known = {name: params.get(name) for name in self.space}
            if any(value not in self.space[name] for name, value in known.items()):
                continue
            if self.key(known) not in self.seen:
                self.seen.add(self.key(known))
                found.append(_Child(known, len(found) % islands, proposed=True))
        return found

    def take(self, children: Sequence[_Child]) -> None:
        """Measure proposals and file them."""
        costs = self.measure([child.params for child in children])
        for child, cost in zip(children, costs, strict=True):
            value = math.inf if cost is None or not math.isfinite(cost) else float(cost)
            self.history.append(Individual(child.params, value, child.island, child.parent, child.proposed))
            self.visits.append(0)
            if child.parent >= 0 and self.visits[child.parent] > 0 and self.barren(child.parent):
                self.visits[child.parent] -= 1

    def barren(self, parent: int) -> bool:
        """Return whether no child of a setting runs: its choice then does not count as a visit."""
        return all(math.isinf(one.cost) for one in self.history if one.parent == parent)

    def child_of(self, pool: Sequence[int], island: int = 0) -> _Child:
        """Return a child of one (or two) of some members of the history."""
        parent = int(self.rng.choice(pool))
        if len(pool) > 1 and self.rng.random() < _CROSSED:
            other = int(self.rng.choice([k for k in pool if k != parent]))
            pair = (self.history[parent].params, self.history[other].params)
            return _Child(self.new(lambda: self.mutated(self.crossed(*pair))), island, parent)
        return _Child(self.new(lambda: self.mutated(self.history[parent].params)), island, parent)


def _islands(
    state: _State, number: int, n_parallel: int, islands: int, interval: int, elite_size: int, own: float
) -> list[_Child]:
    """Return a round's children, shared evenly among the islands."""
    if number == 0:
        return [_Child(state.draw(), k % islands) for k in range(max(n_parallel, islands))]
    order = sorted(range(len(state.history)), key=lambda k: (state.history[k].cost, k))
    elite = order[:elite_size]
    found = []
    for k in range(n_parallel):
        island = k % islands
        members = [m for m in order if state.history[m].island == island]
        if islands > 1 and number % interval == 0:
            # Migration: the best of the others settle here as parents.
            guests = [m for m in order if state.history[m].island != island][:1]
            members = sorted({*members, *guests}, key=lambda m: (state.history[m].cost, m))
        pool = members[: max(1, math.ceil(_PARENTS * len(members)))]
        if elite and state.rng.random() >= own:
            pool = elite
        found.append(state.child_of(pool or order[:1], island))
    return found


def _ucb(state: _State, c: float) -> _Child:
    r"""Return a child of the setting v with the greatest Q(v) + c sqrt(ln(N + 1) / (n_v + 1)).

    Q falls from 1 for the fastest to 0 for the slowest, by rank; n_v counts how often v was chosen, but not
    for children none of which runs; N is the sum of the n_v.
    """
    n = len(state.history)
    if n == 0:
        return _Child(state.draw())
    order = sorted(range(n), key=lambda k: (state.history[k].cost, k))
    quality = {k: 1.0 if n == 1 else (n - 1 - rank) / (n - 1) for rank, k in enumerate(order)}
    total = sum(state.visits)
    bound = {k: quality[k] + c * math.sqrt(math.log(total + 1) / (state.visits[k] + 1)) for k in order}
    chosen = max(order, key=lambda k: bound[k])
    state.visits[chosen] += 1
    return _Child(state.new(lambda: state.mutated(state.history[chosen].params)), parent=chosen)


def _population(state: _State, n_parallel: int) -> list[_Child]:
    """Return children of the ten best."""
    if not state.history:
        return [_Child(state.draw()) for _ in range(n_parallel)]
    order = sorted(range(len(state.history)), key=lambda k: (state.history[k].cost, k))
    return [state.child_of(order[:_POPULATION]) for _ in range(n_parallel)]


def tiers(costs: Sequence[float], exclude: Sequence[int] = ()) -> dict[str, list[int]]:
    """Return the places of the fastest three tenths, the middle four, and the slowest three.

    Parameters
    ----------
    costs : sequence of float
    exclude : sequence of int
        Places that are left out.

    Returns
    -------
    tiers : dict of str to list of int
        "good", "medium" and "poor", each by cost.

    Examples
    --------
    >>> tiers([3.0, 1.0, 2.0, 5.0, 4.0])
    {'good': [1, 2], 'medium': [0], 'poor': [4, 3]}
    """
    order = sorted((k for k in range(len(costs)) if k not in exclude), key=lambda k: (costs[k], k))
    n = len(order)
    first, last = math.ceil(0.3 * n) if n else 0, math.floor(0.7 * n)
    first = min(first, max(last, 1)) if n else 0
    return {"good": order[:first], "medium": order[first:last], "poor": order[max(first, last) :]}
