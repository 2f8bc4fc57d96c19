"""Evolution of a kernel that a language model wrote: it rewrites the best, and what is right is timed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mlpapers.kernels.agents.conductor import Event
from mlpapers.kernels.agents.messages import BadAnswer
from mlpapers.kernels.agents.mutation import Measured, read_strategy
from mlpapers.kernels.search.evolve import tiers
from mlpapers.kernels.search.session import FINALISTS, PARALLEL, relative_costs

if TYPE_CHECKING:
    from mlpapers.kernels._session import Entry, Session

# Rounds of timing are numbered; those of the race that follows, and of the knobs' search, come first.
_FIRST_ROUND = 2000
_SHOWN_FAILURE = 300


@dataclass(frozen=True)
class Written:
    """A kernel of the model's.

    Attributes
    ----------
    code : str
    cost : float
        Its time relative to the first kernel's; inf where it is wrong.
    island : int
    remark : str
        Why it is wrong, or "".
    """

    code: str
    cost: float
    island: int = 0
    remark: str = ""


def rewritten(session: Session, incumbent: Entry, code: str) -> tuple[list[Entry], list[str]]:
    """Return the incumbent and the fastest right versions of it that a model wrote, with their sources.

    Parameters
    ----------
    session : Session
        With a language model.
    incumbent : Entry
    code : str
        Its source.

    Returns
    -------
    entries : list of Entry
    codes : list of str
    """
    agent, author = session.agent, session.author
    assert author is not None
    rng = np.random.default_rng(session.seed)
    islands = agent.num_islands if agent.elite_size else 1
    history = [Written(code, 1.0, island) for island in range(islands)]
    asked, round_, strategy = 0, 0, ""
    while asked < agent.n_candidates and session.time_left():
        children: list[Written] = []
        for k in range(min(PARALLEL, agent.n_candidates - asked)):
            island = k % islands
            migrates = islands > 1 and round_ and round_ % agent.migration_interval == 0
            parent = _parent(history, island, bool(migrates), rng, agent.elite_size, agent.parent_prob)
            answer = author.rewrite(
                asked, history[parent].code, _inspirations(history, parent, rng), strategy
            )
            asked += 1
            if isinstance(answer, Event):
                session.search_notes.append(f"rewriting {asked}: {answer.kind}: {answer.detail}")
                asked = agent.n_candidates
                break
            strategy = read_strategy(answer.text) or strategy
            if isinstance(answer.result, BadAnswer):
                session.search_notes.append(f"rewriting {asked}: {answer.result.detail}")
                continue
            children.append(_judged(session, answer.result.code, island, history))
            said = children[-1].remark or "right"
            session.search_notes.append(f"rewriting {asked}: {said.splitlines()[0]}")
        history += _timed(session, code, children, _FIRST_ROUND + round_)
        round_ += 1
    best = {one.code: one for one in sorted(history, key=lambda one: one.cost) if math.isfinite(one.cost)}
    chosen = [text for text in best if text != code][:FINALISTS]
    return [incumbent, *(type(incumbent)(-1, {}, text) for text in chosen)], [code, *chosen]


def _judged(session: Session, code: str, island: int, history: list[Written]) -> Written:
    """Return a child that may be timed, or why it may not: nobody looks at results in a race."""
    if any(one.code == code for one in history):
        return Written(code, math.inf, island, "the same as one before")
    entry = session.entry_of(code)
    verdict = session.verifier.run(session.candidate(entry), timing=False)
    remark = "" if verdict.ok else f"{verdict.report.error_class}: {verdict.report.error}"[:_SHOWN_FAILURE]
    return Written(code, 1.0 if verdict.ok else math.inf, island, remark)


def _timed(session: Session, code: str, children: list[Written], number: int) -> list[Written]:
    right = [one.code for one in children if not one.remark]
    if not right:
        return children
    costs = relative_costs(session, number, code, right)
    return [replace(one, cost=math.inf if one.remark else costs.get(one.code, math.inf)) for one in children]


def _parent(
    history: list[Written], island: int, migrates: bool, rng: np.random.Generator, elite: int, own: float
) -> int:
    """Return the place of the fastest of the own island, or one of the elite of all."""
    order = sorted(range(len(history)), key=lambda k: (history[k].cost, k))
    right = [k for k in order if math.isfinite(history[k].cost)]
    if elite and (migrates or rng.random() >= own):
        return int(rng.choice(right[:elite]))
    return next(k for k in right if history[k].island == island)


def _inspirations(history: list[Written], parent: int, rng: np.random.Generator) -> dict[str, list[Measured]]:
    """Return one kernel of each tier, the parent and its copies left out, and what cheated dropped."""
    code = history[parent].code
    exclude = [k for k, one in enumerate(history) if one.code == code or one.remark.startswith("hack")]
    found = {}
    for name, places in tiers([one.cost for one in history], exclude).items():
        if places:
            one = history[int(rng.choice(places))]
            found[name] = [Measured(one.code, one.cost, one.remark)]
    return found
