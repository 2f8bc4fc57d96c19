"""The language model's part of a run: what was said is read from the events, what comes is one more."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.agents.conductor import ANSWER_CLASSES, Event, State
from mlpapers.kernels.agents.language import (
    Adviser,
    Ask,
    LanguageCoder,
    LanguageDesigner,
    Reply,
    own_part,
    preamble,
)
from mlpapers.kernels.agents.messages import BadAnswer, Feedback, TaskSpec, from_json, to_json
from mlpapers.kernels.agents.mutation import LanguageMutator, LanguageRewriter, Measured
from mlpapers.kernels.agents.prompts import Material, cleaned, gather
from mlpapers.kernels.llm.budget import BudgetExceeded, Meter
from mlpapers.kernels.llm.client import Completion, LLMError, Message
from mlpapers.kernels.store import code_sha

if TYPE_CHECKING:
    from mlpapers.kernels.agents.sketches import SketchVerdict
    from mlpapers.kernels.designs import Design
    from mlpapers.kernels.sketch import Sketch

# So many sketches that are wrong, and the coder gets the rules' design.
_BAD_DESIGNS = 2
# Questions that one step may ask: a continuation is a second.
_QUESTIONS_PER_STEP = 4
_FIRST_OF_SEARCH = 1 << 20


class LanguageAuthor:
    """Designs and codes by a language model; every answer becomes an event, every failure too.

    Parameters
    ----------
    meter : Meter
    spec : TaskSpec
    drafts : callable
        Gives the rules' designs; none where an operation has no template.
    docs : path-like, optional
        Further documents.
    random_state : int
        For the inputs on which sketches are tested.
    """

    def __init__(
        self,
        meter: Meter,
        spec: TaskSpec,
        drafts: Callable[[], tuple[Design, ...]],
        docs: str | os.PathLike[str] | None = None,
        random_state: int = 0,
    ) -> None:
        self._meter, self._spec, self._drafts = meter, spec, drafts
        self._docs, self._random_state = docs, random_state

    @functools.cached_property
    def material(self) -> Material:
        """The documents for the task."""
        return gather(self._spec, self._docs)

    @functools.cached_property
    def _draft(self) -> Design | None:
        designs = self._drafts()
        return designs[0] if designs else None

    def design(self, state: State) -> Event:
        """Return a design as an event, or what came instead of one.

        Parameters
        ----------
        state : State

        Returns
        -------
        event : Event
            designed, failed, llm_error or budget.
        """
        recent = state.own_history
        bad = 0
        for event in reversed(recent):
            if event.kind != "failed" or event.error_class not in ANSWER_CLASSES:
                break
            bad += 1
        if bad >= _BAD_DESIGNS:
            detail = "" if self._draft is None else to_json(self._draft)
            return Event("designed", detail=detail, subject="rules")
        designer = LanguageDesigner(self._asker(state), self._spec, self.material, self._draft, self._judge)
        reply = self._tried(lambda: designer.run(_feedback(recent, self._spec.dsl)))
        if isinstance(reply, Event):
            return reply
        if isinstance(reply.result, BadAnswer):
            return _failed(reply, reply.result)
        return Event(
            "designed", detail=to_json(reply.result), subject="llm", answer=reply.text, notes=reply.notes
        )

    def code(self, state: State) -> Event:
        """Return a kernel as an event, or what came instead of one.

        Parameters
        ----------
        state : State

        Returns
        -------
        event : Event
            coded, failed, llm_error or budget.
        """
        recent = state.own_history
        design = self._last_design(recent)
        coder = LanguageCoder(self._asker(state), self._spec, self.material, self._meter.model)
        feedback = _feedback(recent, self._spec.dsl)
        previous = self._previous(recent)
        reply = self._tried(lambda: coder.run(design, feedback, previous))
        if isinstance(reply, Event):
            return reply
        if isinstance(reply.result, BadAnswer):
            return _failed(reply, reply.result)
        code = reply.result.code
        detail = json.dumps({"design": -1, "params": {}, "code": code}, sort_keys=True)
        return Event("coded", detail=detail, subject=code_sha(code), answer=reply.text, notes=reply.notes)

    def analysed(self, event: Event, state: State, code: str) -> Event:
        """Return a failure with what the model proposes; as it was where the model says nothing.

        Parameters
        ----------
        event : Event
            A failure.
        state : State
        code : str

        Returns
        -------
        event : Event
        """
        adviser = Adviser(self._asker(state), self._spec)
        told = Feedback(event.error_class, cleaned(event.detail, _offset(self._spec.dsl)))
        reply = self._tried(lambda: adviser.run(own_part(code, self._spec.dsl), told))
        if isinstance(reply, Event):
            return replace(event, notes=(f"no analysis: {reply.detail}",))
        advice = reply.result
        detail = f"{event.detail}\nSuggestion: {advice.text}" if advice.text else event.detail
        return replace(event, detail=detail, proposal=advice.next, answer=reply.text, notes=reply.notes)

    def settings(
        self,
        number: int,
        design: Design,
        space: Mapping[str, Sequence[Any]],
        parent: dict[str, Any],
        tiers: Mapping[str, Sequence[Measured]],
        n: int,
        strategy: str = "",
    ) -> Reply | Event:
        """Return settings that a search should measure next, or what came instead.

        Parameters
        ----------
        number : int
            Of the question within the search.
        design : Design
        space : mapping of str to sequence
        parent : dict
        tiers : mapping of str to sequence of Measured
        n : int
        strategy : str

        Returns
        -------
        answer : Reply or Event
            A Reply of a Proposal or a BadAnswer; an event llm_error or budget.
        """
        mutator = LanguageMutator(self._search_asker(number), self._spec, self.material, design, space)
        return self._tried(lambda: mutator.run(parent, tiers, n, strategy))

    def rewrite(
        self, number: int, code: str, tiers: Mapping[str, Sequence[Measured]], strategy: str = ""
    ) -> Reply | Event:
        """Return a version of a kernel that may be faster, or what came instead.

        Parameters
        ----------
        number : int
            Of the question within the search.
        code : str
            A kernel that the model wrote.
        tiers : mapping of str to sequence of Measured
            Others, their sources whole.
        strategy : str

        Returns
        -------
        answer : Reply or Event
            A Reply of a Candidate or a BadAnswer; an event llm_error or budget.
        """
        coder = LanguageCoder(self._search_asker(number), self._spec, self.material, self._meter.model)
        dsl = self._spec.dsl
        own = {
            name: [
                replace(one, what=own_part(one.what, dsl), remark=cleaned(one.remark, _offset(dsl)))
                for one in some
            ]
            for name, some in tiers.items()
        }
        rewriter = LanguageRewriter(coder, self._draft)
        return self._tried(lambda: rewriter.run(own_part(code, dsl), own, strategy))

    def _search_asker(self, number: int) -> Ask:
        """Return the meter's question; those of a search are numbered beyond those of the steps."""
        asked = 0

        def ask(messages: list[Message]) -> Completion:
            nonlocal asked
            asked += 1
            return self._meter.ask(messages, turn=_FIRST_OF_SEARCH + _QUESTIONS_PER_STEP * number + asked)

        return ask

    def _judge(self, sketch: Sketch) -> SketchVerdict:
        from mlpapers.kernels.agents.sketches import judge_sketch

        return judge_sketch(sketch, self._spec.task, random_state=self._random_state)

    def _asker(self, state: State) -> Ask:
        """Return the meter's question; each question of a run has a number that is the same in a replay."""
        asked = 0

        def ask(messages: list[Message]) -> Completion:
            nonlocal asked
            asked += 1
            return self._meter.ask(messages, turn=_QUESTIONS_PER_STEP * state.step + asked)

        return ask

    @staticmethod
    def _tried(run: Callable[[], Reply]) -> Reply | Event:
        try:
            return run()
        except BudgetExceeded as error:
            return Event("budget", detail=str(error))
        except LLMError as error:
            return Event("llm_error", detail=str(error), notes=error.notes)

    def _last_design(self, recent: tuple[Event, ...]) -> Design | None:
        for event in reversed(recent):
            if event.kind == "designed" and event.detail:
                found: Design = from_json(event.detail)
                return found
        return self._draft

    def _previous(self, recent: tuple[Event, ...]) -> str:
        """Return the model's last kernel; "" where there is none yet, or it was dropped for a hack."""
        for event in reversed(recent):
            if event.kind == "failed" and event.error_class == "hack":
                return ""
            if event.kind == "designed":
                return ""
            if event.kind == "coded":
                return own_part(json.loads(event.detail)["code"], self._spec.dsl)
        return ""


def _feedback(recent: tuple[Event, ...], dsl: str) -> Feedback | None:
    """Return what the last failure says, if nothing has been right since."""
    for event in reversed(recent):
        if event.kind == "failed":
            return Feedback(event.error_class, cleaned(event.detail, _offset(dsl)))
        if event.kind in ("coded", "designed"):
            return None
    return None


def _offset(dsl: str) -> int:
    return preamble(dsl).count("\n")


def _failed(reply: Reply, bad: BadAnswer) -> Event:
    kind = "sketch" if bad.reason == "sketch" else "answer"
    return Event("failed", kind, f"{bad.reason}: {bad.detail}", answer=reply.text, notes=reply.notes)
