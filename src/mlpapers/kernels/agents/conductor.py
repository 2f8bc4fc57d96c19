"""The conductor: an explicit state machine that says which agent works next.

``transition`` is a pure function of a state and an event. Events are stored before they take effect, so that
a run which was killed is replayed to the same state and goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from mlpapers.core.validation import check_bool, check_choice, check_int
from mlpapers.kernels.verify.report import ERROR_CLASSES

PHASES = ("designer", "coder", "verifier", "tuner", "done")
EVENTS = ("designed", "coded", "passed", "failed", "tuned", "exhausted", "llm_error", "budget")

# What may be wrong with an answer of a language model, beside what may be wrong with a candidate.
ANSWER_CLASSES = ("answer", "sketch")
AUTHORS = ("rules", "llm")
# A designed, coded and verified candidate, a race, and one more try: what the rules need of a run's steps.
_STEPS_OF_RULES = 6

# Error classes by who can mend them.
_TO_CODER = frozenset({"syntax", "import", "static_policy", "compile", "launch", "hack"})
_TO_DESIGNER = frozenset({"timeout", "oom"})
_KEPT_LINES = 30


@dataclass(frozen=True)
class Event:
    """What an agent did.

    Attributes
    ----------
    kind : str
        ``designed``, ``coded``, ``passed``, ``failed``, ``tuned``, ``exhausted`` (the agent has nothing left
        to offer), ``llm_error``, ``budget``.
    error_class : str
        Of a failed, or a passed but slow, candidate.
    detail : str
        Text for the next agent.
    subject : str
        What the event is about, e.g. the hash of a candidate's code.
    proposal : str
        The phase that a language model would like next; honoured where the workflow has such an edge.
    answer : str
        What a language model answered, as it came.
    notes : tuple of str
        What went wrong before the answer came.
    """

    kind: str
    error_class: str = ""
    detail: str = ""
    subject: str = ""
    proposal: str = ""
    answer: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, EVENTS)
        if self.error_class:
            check_choice("error_class", self.error_class, (*ERROR_CLASSES, *ANSWER_CLASSES, "exception"))


@dataclass(frozen=True)
class Action:
    """What happens next and why.

    Attributes
    ----------
    next : str
        A phase.
    feedback : str
        What the next agent is told.
    reason : str
    overruled : str
        A proposal that the workflow does not allow, or "".
    """

    next: str
    feedback: str = ""
    reason: str = ""
    overruled: str = ""


@dataclass(frozen=True)
class Workflow:
    """Which agent may follow which, and when to stop.

    Attributes
    ----------
    name : str
    start : str
    edges : dict of str to tuple of str
        Phase -> phases that may follow; the first is taken where the routing wants one that is missing.
    wrong_results : int
        So many wrong results in a row go to the designer (the paper: 1).
    max_steps : int
    max_coder_retries : int
        So many failures in a row of coder and verifier go to the designer, once; after as many more the run
        ends.
    author : {"rules", "llm"}
        Who designs and codes first. After a language model that fails, or has spent its steps, the rules
        begin anew, so that a run never ends worse than without it.
    analysis : bool
        Whether the model is asked what to do about a failure; what it proposes needs an edge.
    """

    name: str
    start: str
    edges: Mapping[str, tuple[str, ...]]
    wrong_results: int = 2
    max_steps: int = 20
    max_coder_retries: int = 3
    author: str = "rules"
    analysis: bool = False

    def __post_init__(self) -> None:
        check_choice("start", self.start, PHASES)
        for phase, following in self.edges.items():
            check_choice("edges", phase, PHASES)
            for other in following:
                check_choice("edges", other, PHASES)
        check_int("wrong_results", self.wrong_results, minimum=1)
        check_int("max_steps", self.max_steps, minimum=1)
        check_int("max_coder_retries", self.max_coder_retries, minimum=1)
        check_choice("author", self.author, AUTHORS)
        check_bool("analysis", self.analysis)

    def allows(self, phase: str, following: str) -> bool:
        """Return whether the workflow has this edge; every phase may end the run."""
        return following == "done" or following in self.edges.get(phase, ())


_FULL: Mapping[str, tuple[str, ...]] = {
    "designer": ("coder",),
    "coder": ("verifier", "designer"),
    "verifier": ("tuner", "coder", "designer"),
    "tuner": ("verifier", "coder"),
}
WORKFLOWS: dict[str, Workflow] = {
    "default": Workflow("default", "designer", _FULL),
    "paper": Workflow("paper", "designer", _FULL, wrong_results=1, analysis=True),
    "coder_only": Workflow(
        "coder_only",
        "coder",
        {"coder": ("verifier",), "verifier": ("tuner", "coder"), "tuner": ("verifier",)},
    ),
    "verifier_only": Workflow("verifier_only", "verifier", {}),
    "evolve": Workflow("evolve", "designer", _FULL),
    "ucb": Workflow("ucb", "designer", _FULL),
    "connected": Workflow(
        "connected",
        "designer",
        {phase: tuple(other for other in PHASES[:4] if other != phase) for phase in PHASES[:4]},
        analysis=True,
    ),
}


@dataclass(frozen=True)
class State:
    """Where a run stands; everything in it follows from the events.

    Attributes
    ----------
    task_id : str
    phase : str
    step : int
        Events so far.
    history : tuple of Event
    action : Action
        The last decision.
    author : {"rules", "llm"}
        Who designs and codes.
    since : int
        The event of the history with which they began.
    """

    task_id: str
    phase: str
    step: int = 0
    history: tuple[Event, ...] = ()
    action: Action = field(default_factory=lambda: Action("designer"))
    author: str = "rules"
    since: int = 0

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self.phase == "done"

    @property
    def own_history(self) -> tuple[Event, ...]:
        """The events since the author began."""
        return self.history[self.since :]

    @property
    def rules_only(self) -> bool:
        """Whether the language model failed or is spent, so that the rules go on alone."""
        return any(event.kind in ("llm_error", "budget") for event in self.history)

    @property
    def succeeded(self) -> bool:
        """Whether a candidate passed."""
        return any(event.kind in ("passed", "tuned") for event in self.history)


def initial(task_id: str, workflow: Workflow) -> State:
    """Return the state before the first event."""
    author = workflow.author if workflow.max_steps > _reserve(workflow) else "rules"
    return State(task_id, workflow.start, action=Action(workflow.start, reason="start"), author=author)


def transition(state: State, event: Event, workflow: Workflow) -> State:
    """Return the state after `event`.

    Parameters
    ----------
    state : State
    event : Event
    workflow : Workflow

    Returns
    -------
    state : State
        After at most ``workflow.max_steps`` events its phase is "done"; a state that is done stays as it is.
    """
    if state.done:
        return state
    history = (*state.history, event)
    seen = replace(state, history=history)
    action = _decide(seen, event, workflow)
    action = _permitted(state.phase, action, event, workflow)
    step, author, since = state.step + 1, state.author, state.since
    reason = _handover(seen, event, action, step, workflow)
    if reason:
        author, since = "rules", len(history)
        # The rules begin anew, whether or not the workflow has an edge from here to its start.
        action = Action(workflow.start, reason=f"{reason}: the rules go on", overruled=action.overruled)
    if step >= workflow.max_steps and action.next != "done":
        action = Action("done", reason=f"{workflow.max_steps} steps are spent")
    return State(state.task_id, action.next, step, history, action, author, since)


def replay(task_id: str, events: Iterable[Event], workflow: Workflow) -> State:
    """Return the state that the events lead to."""
    state = initial(task_id, workflow)
    for event in events:
        state = transition(state, event, workflow)
    return state


def _reserve(workflow: Workflow) -> int:
    """Return the steps that a language model leaves to the rules."""
    return min(_STEPS_OF_RULES, (workflow.max_steps + 1) // 2)


def _handover(state: State, event: Event, action: Action, step: int, workflow: Workflow) -> str:
    """Return why the rules take over from the language model after `event`, or ""."""
    if state.author == "rules" or state.succeeded:
        return ""
    if event.kind in ("llm_error", "budget"):
        return event.kind
    if action.next == "done":
        return action.reason
    left = workflow.max_steps - step
    # A candidate that is there is verified before.
    if left <= _reserve(workflow) and action.next != "verifier":
        return "the model has had its steps"
    return ""


def _decide(state: State, event: Event, workflow: Workflow) -> Action:
    """Choose the next phase by what happened, whether or not the workflow has the edge."""
    if event.kind == "designed":
        return Action("coder", event.detail, "a design is there")
    if event.kind == "coded":
        return Action("verifier", reason="a candidate is there")
    if event.kind == "tuned":
        return Action("done", reason="tuned")
    if event.kind == "passed":
        reason = "right, but slow" if event.error_class == "slow" else "right"
        return Action("tuner" if state.phase == "verifier" else "done", event.detail, reason)
    if event.kind in ("llm_error", "budget"):
        return Action(state.phase, reason=f"{event.kind}: the rules go on")
    if event.kind == "exhausted":
        if state.phase == "coder" and not _sent_back(state):
            return Action("designer", event.detail, "the coder has nothing left")
        return Action("done", reason=f"the {state.phase} has nothing left")
    return _route_failure(state, event, workflow)


def _route_failure(state: State, event: Event, workflow: Workflow) -> Action:
    kind = event.error_class
    text = trimmed(event.detail)
    if state.author == "llm" and state.phase == "designer":
        # The session takes the rules' design after the second.
        return Action("designer", text, f"{kind}: another answer")
    if state.author == "llm" and state.phase == "coder" and kind in ANSWER_CLASSES:
        if _failures_in_a_row(state) >= workflow.max_coder_retries:
            return Action("done", text, "no answer can be used")
        return Action("coder", text, f"{kind}: another answer")
    if state.phase != "verifier":
        return Action("done", text, f"the {state.phase} failed")
    failures = _failures_in_a_row(state)
    if failures >= workflow.max_coder_retries:
        if _sent_back(state):
            return Action("done", text, "retries are spent")
        return Action("designer", text, f"{failures} failures in a row")
    if kind in _TO_DESIGNER:
        return Action("designer", text, f"{kind}: another tiling")
    if kind == "wrong_result":
        wrong = _wrong_in_a_row(state)
        to = "designer" if wrong >= workflow.wrong_results else "coder"
        return Action(to, text, f"{wrong} wrong results in a row")
    if kind in _TO_CODER:
        return Action("coder", text, kind)
    return Action("coder", text, kind or "failed")


def _permitted(phase: str, action: Action, event: Event, workflow: Workflow) -> Action:
    """Replace an edge that the workflow lacks; honour a proposal where it has that edge."""
    overruled = ""
    # A proposal may choose between agents, not end a run or skip the verifier.
    if event.proposal and event.proposal != action.next and action.next != "done":
        free = workflow.allows(phase, event.proposal) and event.proposal in ("designer", "coder")
        if free and action.next in ("designer", "coder"):
            return replace(action, next=event.proposal, reason=f"{action.reason}; proposed")
        overruled = event.proposal
    if action.next != phase and not workflow.allows(phase, action.next):
        following = workflow.edges.get(phase, ())
        # Who wants the tuner where there is none has a right candidate and is done.
        fallback = following[0] if following and action.next != "tuner" else "done"
        if action.next == "designer" and "coder" in following:
            fallback = "coder"
        action = replace(action, next=fallback, reason=f"{action.reason}; no edge to the {action.next}")
    return replace(action, overruled=overruled)


def _failures_in_a_row(state: State) -> int:
    count = 0
    for event in reversed(state.own_history):
        if event.kind == "failed":
            count += 1
        elif event.kind in ("passed", "designed"):
            break
    return count


def _wrong_in_a_row(state: State) -> int:
    count = 0
    for event in reversed(state.own_history):
        if event.kind == "failed":
            if event.error_class != "wrong_result":
                break
            count += 1
        elif event.kind in ("passed", "designed"):
            break
    return count


def _sent_back(state: State) -> bool:
    """Return whether the designer was asked more than once already."""
    return sum(event.kind == "designed" for event in state.own_history) > 1


def trimmed(text: str) -> str:
    """Return the first and last lines of an error, as it goes to the author of the candidate.

    Parameters
    ----------
    text : str

    Returns
    -------
    text : str
    """
    lines = text.splitlines()
    if len(lines) <= 2 * _KEPT_LINES:
        return text
    left_out = len(lines) - 2 * _KEPT_LINES
    return "\n".join([*lines[:_KEPT_LINES], f"[{left_out} lines left out]", *lines[-_KEPT_LINES:]])
