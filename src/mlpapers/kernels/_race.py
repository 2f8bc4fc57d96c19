"""The race of a run: other settings and other designs against what the run has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mlpapers.kernels.agents.conductor import Event
from mlpapers.kernels.search.halving import ROUNDS, HalvingOutcome, successive_halving
from mlpapers.kernels.search.rewriting import rewritten
from mlpapers.kernels.search.session import STRATEGIES, evolved
from mlpapers.kernels.search.space import Params
from mlpapers.kernels.store import code_sha
from mlpapers.kernels.verify.timing import faster

if TYPE_CHECKING:
    from mlpapers.kernels._session import Session

# Of each further design, so many settings enter a race whose first design has the rest.
_PER_ALTERNATIVE = 2
# Pairs of runs of the incumbent and one challenger, and how many challengers get them.
_DUEL_RUNS = 31
_DUELS = 2


@dataclass(frozen=True)
class Entry:
    """A design, by its number, and a setting of its knobs; or the code that a language model wrote."""

    design: int
    params: Params
    code: str = ""

    def to_json(self) -> str:
        known = {"design": self.design, "params": self.params}
        return json.dumps({**known, "code": self.code} if self.code else known, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Entry:
        found = json.loads(text)
        return cls(found["design"], found["params"], found.get("code", ""))


def race(session: Session, incumbent: Entry, code: str) -> Event:
    """Race other settings, and other designs, against the incumbent.

    Parameters
    ----------
    session : Session
    incumbent : Entry
    code : str
        Its source.

    Returns
    -------
    event : Event
        "tuned", with the winner: the incumbent, unless something is right and clearly faster.
    """
    kept = Event("tuned", detail=incumbent.to_json(), subject=code_sha(code))
    # What a model wrote races against what the rules write even where nothing else is searched.
    versus = bool(incumbent.code) and session.agent.who == "both"
    evolves = session.agent.search in STRATEGIES
    idle = session.agent.search == "none" or session.agent.n_candidates < 2
    if not versus and (idle or (incumbent.code and not evolves)):
        return kept
    if not session.time_left():
        return kept
    if incumbent.code and evolves:
        entries, codes = rewritten(session, incumbent, code)
    elif evolves:
        entries, codes = evolved(session, incumbent, code)
    else:
        entries, codes = [incumbent], [code]
    if versus or not evolves:
        more = [pair for pair in zip(*_field(session, incumbent, code)) if pair[1] not in codes]
        entries, codes = [*entries, *(pair[0] for pair in more)], [*codes, *(pair[1] for pair in more)]
    kept = replace(kept, notes=tuple(session.search_notes))
    if len(entries) < 2:
        return kept

    def measure(number: int, who: Sequence[int], runs: int) -> list[list[float] | None]:
        return session.measured(number, [codes[k] for k in who], runs)

    outcome = successive_halving(len(entries), measure, keep=(0,), go_on=session.time_left)
    won = _winner(session, outcome, entries, codes)
    return kept if won is None else replace(won, notes=kept.notes)


def _winner(
    session: Session, outcome: HalvingOutcome, entries: Sequence[Entry], codes: Sequence[str]
) -> Event | None:
    """Return the event of the fastest entry that is right and beats the incumbent; None where none does.

    What led the race was chosen for its times, so these flatter it: it meets the incumbent once more, the
    two alone and in turns, whatever is left of the budget. Only these new times decide.
    """
    for index in outcome.order[:_DUELS]:
        if index == 0:
            return None
        number = len(ROUNDS) + index
        mine, theirs = session.measured(number, [codes[0], codes[index]], _DUEL_RUNS)
        if not mine or not theirs:
            continue
        n = min(len(mine), len(theirs))
        if not faster(theirs[:n], mine[:n]):
            continue
        if session.verifier.run(session.candidate(entries[index])).ok:
            ms = 1e3 * float(np.median(theirs))
            if not entries[index].code:
                session.store.set_knobs(
                    session.bucket(entries[index].design), session.arch, entries[index].params, ms
                )
            return Event("tuned", detail=entries[index].to_json(), subject=code_sha(codes[index]))
    return None


def _field(session: Session, incumbent: Entry, code: str) -> tuple[list[Entry], list[str]]:
    """Return the entries of a race and their sources; the incumbent is the first."""
    n = session.agent.n_candidates
    if incumbent.code:
        n = 2 if session.agent.search == "none" else max(2, n)
    others = [k for k in range(len(session.designs)) if k != incumbent.design]
    entries = [Entry(k, params) for k in others for params in session.settings(k, _PER_ALTERNATIVE)]
    own = [] if incumbent.code else session.settings(incumbent.design, n)
    entries = ([Entry(incumbent.design, params) for params in own] + entries)[: n + len(entries)]
    fields: dict[str, Entry] = {code: incumbent}
    for entry in entries:
        fields.setdefault(session.candidate(entry).code, entry)
    chosen = list(fields.items())
    # Alternatives of the design take the places of the last settings.
    alternatives = [pair for pair in chosen if pair[1].design != incumbent.design]
    same = [pair for pair in chosen if pair[1].design == incumbent.design]
    chosen = (same[: max(1, n - len(alternatives))] + alternatives)[:n]
    built = session.built([text for text, _ in chosen])
    kept = [pair for pair, ok in zip(chosen, built) if ok or pair[0] == code]
    return [entry for _, entry in kept], [text for text, _ in kept]
