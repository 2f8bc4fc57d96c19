r"""Successive halving: many candidates are run a few times, few candidates many times.

All candidates run 3 times and the best third stays; it runs 9 times and the best three stay; these run 31
times in turns. With n candidates that is about 3n + 3n + 93 runs instead of 31n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Runs of a round, and how many of n candidates go on.
ROUNDS: tuple[tuple[int, Callable[[int], int]], ...] = (
    (3, lambda n: max(3, math.ceil(n / 3))),
    (9, lambda n: min(3, n)),
    (31, lambda _: 1),
)

# (round, indices of candidates, runs) -> seconds per candidate; None for one that does not run.
Measure = Callable[[int, Sequence[int], int], Sequence[Sequence[float] | None]]


@dataclass(frozen=True)
class HalvingOutcome:
    """How a race ended.

    Attributes
    ----------
    order : tuple of int
        Candidates of the last round that was run, fastest first.
    times : dict of int to tuple of float
        The seconds that each candidate showed in the last round it took part in.
    rounds : int
        That were run.
    """

    order: tuple[int, ...]
    times: dict[int, tuple[float, ...]]
    rounds: int


def successive_halving(
    n_candidates: int, measure: Measure, *, keep: Sequence[int] = (), go_on: Callable[[], bool] = lambda: True
) -> HalvingOutcome:
    """Find the fastest of some candidates.

    Parameters
    ----------
    n_candidates : int
    measure : callable
        ``measure(round, indices, runs)`` returns the seconds of each.
    keep : sequence of int
        Candidates that stay in the race whatever they show, e.g. the one to be beaten.
    go_on : callable
        Asked before each round after the first; where it says False the race ends with what is known.

    Returns
    -------
    outcome : HalvingOutcome

    Raises
    ------
    ValueError
        If there is no candidate.

    Examples
    --------
    >>> clock = [5.0, 1.0, 3.0]
    >>> successive_halving(3, lambda _, who, runs: [[clock[i]] * runs for i in who]).order
    (1, 2, 0)
    """
    if n_candidates < 1:
        raise ValueError(f"n_candidates must be at least 1; got {n_candidates}")
    alive = list(range(n_candidates))
    times: dict[int, tuple[float, ...]] = {}
    done = 0
    for number, (runs, keeps) in enumerate(ROUNDS):
        if number and (len(alive) < 2 or not go_on()):
            break
        found = measure(number, alive, runs)
        for index, seconds in zip(alive, found):
            if seconds:
                times[index] = tuple(seconds)
        alive = sorted(
            (index for index, seconds in zip(alive, found) if seconds),
            key=lambda index: (float(np.median(times[index])), index),
        )
        done = number + 1
        if number < len(ROUNDS) - 1:
            best = alive[: keeps(len(alive))]
            alive = best + [index for index in alive if index in keep and index not in best]
    return HalvingOutcome(tuple(alive), times, done)
