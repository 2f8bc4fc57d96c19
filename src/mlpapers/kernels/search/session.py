"""Evolutionary search inside a run: settings of the knobs are built side by side and timed in turns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlpapers.kernels.dsl.base import get_dsl
from mlpapers.kernels.search.evolve import Params, search

if TYPE_CHECKING:
    from mlpapers.kernels._session import Entry, Session

# What an agent's parameter `search` is called here.
STRATEGIES = {"evolve": "islands", "ucb": "ucb"}
# Rounds of timing are numbered; those of the race that follows come first.
_FIRST_ROUND = 1000
_RUNS = 3
_PARALLEL = 4
_FINALISTS = 3


def evolved(session: Session, incumbent: Entry, code: str) -> tuple[list[Entry], list[str]]:
    """Return the incumbent and the best settings that a search found, with their sources.

    Times of different batches are compared through the incumbent, which runs in every batch.

    Parameters
    ----------
    session : Session
    incumbent : Entry
    code : str
        Its source.

    Returns
    -------
    entries : list of Entry
    codes : list of str
    """
    agent, sketch = session.agent, session.designs[incumbent.design].sketch
    space = get_dsl(session.dsl).space(sketch, session.backend)
    if not space:
        return [incumbent], [code]
    rounds = itertools.count(_FIRST_ROUND)
    found: dict[str, tuple[float, Entry]] = {}

    def entry_of(params: Params) -> Entry:
        return type(incumbent)(incumbent.design, {**incumbent.params, **params})

    def measure(some: Sequence[Params]) -> list[float | None]:
        entries = [entry_of(params) for params in some]
        codes = [session.candidate(entry).code for entry in entries]
        ready = [text for text, ok in zip(codes, session.built(codes)) if ok and text != code]
        lanes = list(dict.fromkeys([code, *ready]))
        times = dict(zip(lanes, session.measured(next(rounds), lanes, _RUNS)))
        base = times[code]
        costs: list[float | None] = []
        for text, entry in zip(codes, entries):
            seconds = times.get(text)
            cost = float(np.median(seconds) / np.median(base)) if seconds and base else None
            costs.append(cost)
            if text != code and cost is not None:
                found.setdefault(text, (cost, entry))
        return costs

    search(
        space,
        measure,
        strategy=STRATEGIES[agent.search],
        n_evaluations=agent.n_candidates,
        start=dict(incumbent.params),
        n_parallel=min(_PARALLEL, agent.n_candidates),
        num_islands=agent.num_islands,
        migration_interval=agent.migration_interval,
        elite_size=agent.elite_size,
        parent_prob=agent.parent_prob,
        ucb_c=agent.ucb_c,
        go_on=session.time_left,
        random_state=session.seed,
    )
    best = sorted(found.items(), key=lambda pair: (pair[1][0], pair[0]))[:_FINALISTS]
    chosen = [(text, entry) for text, (cost, entry) in best if math.isfinite(cost)]
    return [incumbent, *(entry for _, entry in chosen)], [code, *(text for text, _ in chosen)]
