"""Evolutionary search inside a run: settings of the knobs are built side by side and timed in turns."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mlpapers.kernels.agents.conductor import Event
from mlpapers.kernels.agents.messages import BadAnswer
from mlpapers.kernels.agents.mutation import Measured, Proposal
from mlpapers.kernels.dsl.base import get_dsl
from mlpapers.kernels.search.evolve import Individual, Params, Propose, Space, search, tiers

if TYPE_CHECKING:
    from mlpapers.kernels._session import Entry, Session
    from mlpapers.kernels.designs import Design

# What an agent's parameter `search` is called here.
STRATEGIES = {"evolve": "islands", "ucb": "ucb"}
# Rounds of timing are numbered; those of the race that follows come first.
_FIRST_ROUND = 1000
_RUNS = 3
PARALLEL = 4
FINALISTS = 3


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
    agent, design = session.agent, session.designs[incumbent.design]
    sketch = design.sketch
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
        known = relative_costs(session, next(rounds), code, ready)
        costs: list[float | None] = []
        for text, entry in zip(codes, entries):
            cost = known.get(text)
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
        n_parallel=min(PARALLEL, agent.n_candidates),
        num_islands=agent.num_islands,
        migration_interval=agent.migration_interval,
        elite_size=agent.elite_size,
        parent_prob=agent.parent_prob,
        ucb_c=agent.ucb_c,
        go_on=session.time_left,
        propose=_proposer(session, design, space),
        random_state=session.seed,
    )
    best = sorted(found.items(), key=lambda pair: (pair[1][0], pair[0]))[:FINALISTS]
    chosen = [(text, entry) for text, (cost, entry) in best if math.isfinite(cost)]
    return [incumbent, *(entry for _, entry in chosen)], [code, *(text for text, _ in chosen)]


def relative_costs(session: Session, number: int, code: str, others: Sequence[str]) -> dict[str, float]:
    """Return the times of sources relative to the incumbent's in the same batch, for those that ran.

    Parameters
    ----------
    session : Session
    number : int
        Of the round.
    code : str
        The incumbent.
    others : sequence of str

    Returns
    -------
    costs : dict of str to float
    """
    lanes = list(dict.fromkeys([code, *others]))
    times = dict(zip(lanes, session.measured(number, lanes, _RUNS)))
    base = times[code]
    if not base:
        return {}
    return {text: float(np.median(seconds) / np.median(base)) for text, seconds in times.items() if seconds}


def _proposer(session: Session, design: Design, space: Space) -> Propose | None:
    """Return the language model's part of the search, None for a run without one.

    A model that fails, or whose budget is over, is asked no more: the rules go on alone.
    """
    author = session.author
    if author is None:
        return None
    numbers = itertools.count()
    strategy, silent = [""], [False]

    def propose(history: Sequence[Individual], n: int) -> Sequence[Params]:
        if silent[0]:
            return ()
        number = next(numbers)
        costs = [one.cost for one in history]
        shown = {
            name: [Measured(json.dumps(history[k].params, sort_keys=True), costs[k]) for k in places]
            for name, places in tiers(costs).items()
        }
        best = min(history, key=lambda one: one.cost)
        answer = author.settings(number, design, space, best.params, shown, n, strategy[0])
        if isinstance(answer, Event):
            silent[0] = True
            session.search_notes.append(f"round {number + 1}: {answer.kind}: {answer.detail}")
            return ()
        if isinstance(answer.result, BadAnswer):
            session.search_notes.append(f"round {number + 1}: {answer.result.detail}")
            return ()
        found: Proposal = answer.result
        strategy[0] = found.strategy
        said = f"; {found.strategy}" if found.strategy else ""
        session.search_notes.append(f"round {number + 1}: the model proposed {len(found.settings)}{said}")
        return found.settings

    return propose
