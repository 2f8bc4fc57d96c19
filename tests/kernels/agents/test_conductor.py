"""The state machine: pure, bounded, and a replay of its history leads to the same state."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.agents.conductor import (
    AUTHORS,
    EVENTS,
    PHASES,
    WORKFLOWS,
    Event,
    Workflow,
    initial,
    replay,
    transition,
)
from mlpapers.kernels.verify.report import ERROR_CLASSES

events = st.builds(
    Event,
    kind=st.sampled_from(EVENTS),
    error_class=st.sampled_from(["", *ERROR_CLASSES, "exception"]),
    detail=st.text(max_size=20),
    proposal=st.sampled_from(["", *PHASES]),
)
workflows = st.builds(
    lambda name, author, max_steps: replace(WORKFLOWS[name], author=author, max_steps=max_steps),
    st.sampled_from(sorted(WORKFLOWS)),
    st.sampled_from(AUTHORS),
    st.sampled_from([1, 2, 5, 20]),
)


def after(*kinds, workflow="default"):
    """Return the state after events given as "kind" or "failed:error class"."""
    sequence = [Event(kind.partition(":")[0], kind.partition(":")[2]) for kind in kinds]
    return replay("task", sequence, WORKFLOWS[workflow])


@given(workflows, st.lists(events, min_size=25, max_size=40))
def test_every_sequence_ends_within_the_limit(workflow, sequence):
    state = initial("task", workflow)
    for event in sequence:
        before, state = state, transition(state, event, workflow)
        assert state.step <= workflow.max_steps
        assert state.phase in PHASES
        assert state.phase == state.action.next
        if before.done:
            assert state is before
        elif state.author != before.author:
            # The rules begin anew.
            assert state.author == "rules"
            assert state.done or state.phase == workflow.start
        elif not state.done and state.phase != before.phase:
            assert workflow.allows(before.phase, state.phase)
    assert state.done


@given(workflows, st.lists(events, max_size=30))
def test_replay_gives_the_same_state(workflow, sequence):
    state = initial("task", workflow)
    for event in sequence:
        state = transition(state, event, workflow)
    assert replay("task", state.history, workflow) == state
    # Half of it and the rest, as after a restart.
    half = replay("task", state.history[: len(state.history) // 2], workflow)
    for event in state.history[len(state.history) // 2 :]:
        half = transition(half, event, workflow)
    assert half == state


@given(workflows, st.lists(events, max_size=12), events)
def test_transition_is_pure(workflow, sequence, event):
    state = replay("task", sequence, workflow)
    copy = replay("task", sequence, workflow)
    assert transition(state, event, workflow) == transition(state, event, workflow)
    assert state == copy


def test_the_straight_way():
    assert after().phase == "designer"
    assert after("designed").phase == "coder"
    assert after("designed", "coded").phase == "verifier"
    assert after("designed", "coded", "passed").phase == "tuner"
    state = after("designed", "coded", "passed", "tuned")
    assert state.done
    assert state.succeeded


@pytest.mark.parametrize("kind", ["syntax", "import", "static_policy", "compile", "launch", "hack"])
def test_the_coder_mends_its_errors(kind):
    state = after("designed", "coded", f"failed:{kind}")
    assert state.phase == "coder"
    assert state.action.reason == kind


@pytest.mark.parametrize("kind", ["timeout", "oom"])
def test_the_designer_changes_the_tiling(kind):
    assert after("designed", "coded", f"failed:{kind}").phase == "designer"


def test_the_second_wrong_result_goes_to_the_designer():
    once = ("designed", "coded", "failed:wrong_result")
    assert after(*once).phase == "coder"
    assert after(*once, "coded", "failed:wrong_result").phase == "designer"
    # In a row: another failure between starts the count again.
    assert after(*once, "coded", "failed:compile", "coded", "failed:wrong_result").phase != "tuner"
    assert after("designed", "coded", "failed:compile", "coded", "failed:wrong_result").phase == "coder"
    # The paper sends it back at once.
    assert after(*once, workflow="paper").phase == "designer"


def test_retries_end_with_the_designer_once_and_then_for_good():
    round_ = ("designed", *("coded", "failed:compile") * 3)
    assert after(*round_).phase == "designer"
    assert after(*round_[:-2]).phase == "coder"
    state = after(*round_, *round_)
    assert state.done
    assert state.action.reason == "retries are spent"
    assert not state.succeeded


def test_slow_goes_to_the_tuner():
    state = after("designed", "coded", "passed:slow")
    assert state.phase == "tuner"
    assert state.action.reason == "right, but slow"


@pytest.mark.parametrize("kind", ["llm_error", "budget"])
def test_the_rules_go_on_without_a_model(kind):
    state = after("designed", kind)
    assert state.phase == "coder"
    assert state.rules_only
    assert not after("designed").rules_only


def test_exhausted():
    assert after("exhausted").done
    assert after("designed", "exhausted").phase == "designer"
    assert after("designed", "exhausted", "designed", "exhausted").done


def test_proposals_need_an_edge():
    failed = Event("failed", "compile", proposal="designer")
    state = transition(after("designed", "coded"), failed, WORKFLOWS["default"])
    assert state.phase == "designer"
    assert not state.action.overruled
    skipping = Event("coded", proposal="done")
    state = transition(after("designed"), skipping, WORKFLOWS["default"])
    assert state.phase == "verifier"
    assert state.action.overruled == "done"
    without = Event("failed", "compile", proposal="designer")
    state = replay("task", [Event("coded"), without], WORKFLOWS["coder_only"])
    assert state.phase == "coder"
    assert state.action.overruled == "designer"


def test_workflows_without_an_edge():
    assert after("passed", workflow="verifier_only").done
    assert after("failed:compile", workflow="verifier_only").done
    # No designer: time-outs stay with the coder.
    assert after("coded", "failed:timeout", workflow="coder_only").phase == "coder"


def test_long_errors_keep_both_ends():
    text = "\n".join(f"line {k}" for k in range(200))
    state = replay(
        "t", [Event("designed"), Event("coded"), Event("failed", "compile", text)], WORKFLOWS["default"]
    )
    kept = state.action.feedback.splitlines()
    assert kept[:30] == text.splitlines()[:30]
    assert kept[-30:] == text.splitlines()[-30:]
    assert kept[30] == "[140 lines left out]"


@given(workflows, st.lists(events, min_size=20, max_size=30))
def test_a_model_without_success_hands_over_in_time(workflow, sequence):
    """Steps are left for the rules, and no model ends a run without success before they had their turn."""
    state = initial("task", workflow)
    for event in sequence:
        state = transition(state, event, workflow)
        if state.author == "llm" and not state.succeeded:
            assert not state.done
            assert state.phase == "verifier" or state.step < workflow.max_steps - min(
                6, workflow.max_steps // 2
            )


def model_after(*kinds, **options):
    workflow = replace(WORKFLOWS["default"], author="llm", **options)
    return replay("task", [Event(kind.partition(":")[0], kind.partition(":")[2]) for kind in kinds], workflow)


@pytest.mark.parametrize("kind", ["llm_error", "budget"])
def test_the_rules_take_over(kind):
    state = model_after("designed", kind)
    assert (state.author, state.phase, state.since) == ("rules", "designer", 2)
    assert state.action.reason == f"{kind}: the rules go on"
    assert state.own_history == ()
    # What the model did wrong is not counted against the rules.
    round_ = ("designed", *("coded", "failed:compile") * 3)
    assert model_after(*round_).author == "llm"
    assert model_after(*round_, *round_[:-1]).author == "llm"
    handed = model_after(*round_, *round_)
    assert (handed.author, handed.phase) == ("rules", "designer")
    assert handed.action.reason == "retries are spent: the rules go on"
    assert model_after(*round_, *round_, "designed", "coded", "failed:compile").phase == "coder"


def test_answers_that_cannot_be_used():
    assert model_after("failed:answer").phase == "designer"
    assert model_after("designed", "failed:answer").phase == "coder"
    assert model_after("designed", *["failed:answer"] * 3).author == "rules"
    assert model_after("designed", "coded", "failed:sketch").phase == "coder"
    # By rules there are no such answers.
    assert after("designed", "failed:answer").done


def test_a_model_that_has_won_is_not_replaced():
    assert model_after("designed", "coded", "passed", "llm_error").author == "llm"
    state = model_after("designed", "coded", "passed", "tuned")
    assert state.done
    assert state.author == "llm"


def test_bad_values():
    with pytest.raises(ValueError, match="author"):
        Workflow("mine", "coder", {}, author="me")
    with pytest.raises(TypeError, match="analysis"):
        Workflow("mine", "coder", {}, analysis=1)
    with pytest.raises(ValueError, match="kind"):
        Event("finished")
    with pytest.raises(ValueError, match="error_class"):
        Event("failed", "sad")
    with pytest.raises(ValueError, match="edges"):
        Workflow("mine", "coder", {"coder": ("tester",)})
    with pytest.raises(ValueError, match="max_steps"):
        Workflow("mine", "coder", {}, max_steps=0)
