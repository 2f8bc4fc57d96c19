"""Runs with a language model: the routing of its failures, the rules as the floor, and what it is told."""

import json
from dataclasses import replace

import pytest
from fake_examiner import HINTS, install, kernel

from mlpapers.core.requirements import missing_requirement
from mlpapers.kernels import (
    Budget,
    Completion,
    KernelAgent,
    KernelResult,
    LLMError,
    ScriptedClient,
    Task,
    UnsupportedOp,
    Workflow,
)
from mlpapers.kernels import design as designed
from mlpapers.kernels.agents.conductor import WORKFLOWS
from mlpapers.kernels.store import Store

pytestmark = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")

TASK = Task.from_source(
    "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return torch.relu(x)\n"
    "def get_inputs():\n    return [torch.randn(6, 5)]\n",
    "relu",
)


@pytest.fixture(autouse=True, scope="module")
def fake():
    undo = install()
    yield
    undo()


def run(answers, task=TASK, **options):
    """Return the result of a run on these answers, and the client."""
    client = answers if callable(answers) else ScriptedClient(answers)
    given = {"dsl": "cpp", "strategy": "llm", "search": "none", "store": ":memory:", "random_state": 0}
    return KernelAgent(llm=client, **{**given, "time_budget": 3600, **options}).generate(task), client


def routes(result):
    """Return the trace as (author, agent, event) triples."""
    return [(step.origin, step.agent, step.event) for step in result.trace]


def test_the_straight_way():
    result, client = run([HINTS, kernel("speed: 3.0")])
    assert result.success
    assert result.origin == "llm"
    assert result.speedup == 3.0
    assert result.kernel.sketch is None
    assert "written by a language model: scripted" in result.disclosures
    assert routes(result) == [
        ("llm", "designer", "designed"), ("llm", "coder", "coded"), ("llm", "verifier", "passed"),
        ("llm", "tuner", "tuned"),
    ]  # fmt: skip
    assert [step.answer for step in result.trace[:2]] == [HINTS, kernel("speed: 3.0")]
    # The coder is told the designer's hints.
    assert "- two rows at once" in client.requests[1][1]["content"]


@pytest.mark.parametrize("kind", ["syntax", "import", "static_policy", "compile", "launch"])
def test_the_coder_mends_its_errors(kind):
    result, client = run([HINTS, kernel(f"fails: {kind}"), kernel("speed: 3.0")])
    assert result.origin == "llm"
    assert ("llm", "verifier", f"failed ({kind})") in routes(result)
    asked = client.requests[2]
    assert asked[2] == {"role": "assistant", "content": kernel(f"fails: {kind}").partition("\n")[2].rstrip()}
    assert asked[3]["content"].startswith(f"# What went wrong ({kind})\n{kind} in kernel.cpp:3")


def test_a_hack_is_dropped_and_its_rule_told():
    result, client = run([HINTS, kernel("fails: hack"), kernel("speed: 3.0")])
    assert result.origin == "llm"
    asked = client.requests[2]
    assert [message["role"] for message in asked] == ["system", "user", "user"]
    assert "fails: hack" not in json.dumps(asked)
    assert "went wrong (hack)" in asked[2]["content"]


@pytest.mark.parametrize("kind", ["timeout", "oom"])
def test_the_designer_changes_the_plan(kind):
    result, client = run([HINTS, kernel(f"fails: {kind}"), HINTS, kernel("speed: 3.0")])
    assert [step.agent for step in result.trace] == [
        "designer", "coder", "verifier", "designer", "coder", "verifier", "tuner",
    ]  # fmt: skip
    assert f"went wrong ({kind})" in client.requests[2][1]["content"]
    # A new design, a new kernel: the old one is not in the conversation.
    assert len(client.requests[3]) == 2


def test_wrong_results():
    wrong = kernel("fails: wrong_result")
    result, _ = run([HINTS, wrong, wrong, HINTS, kernel("speed: 3.0")])
    assert [step.next for step in result.trace if step.event.startswith("failed")] == ["coder", "designer"]
    assert result.origin == "llm"
    # The paper's workflow asks for an analysis, and sends it to the designer at once.
    result, client = run([HINTS, wrong, "Off by one.\nnext: coder", kernel("speed: 3.0")], workflow="paper")
    failed = result.trace[2]
    assert failed.next == "coder"
    assert "proposed" in failed.reason
    assert failed.answer == "Off by one.\nnext: coder"
    assert "Suggestion: Off by one." in client.requests[3][-1]["content"]
    result, _ = run([HINTS, wrong, "No idea.", HINTS, kernel("speed: 3.0")], workflow="paper")
    assert result.trace[2].next == "designer"


def test_an_illegal_proposal_is_overruled_and_recorded():
    bad = kernel("fails: compile")
    result, _ = run([HINTS, bad, "All is well.\nnext: done", kernel("speed: 3.0")], workflow="paper")
    assert result.trace[2].next == "coder"
    assert "(proposed: done; overruled)" in result.trace[2].reason
    assert result.origin == "llm"


@pytest.mark.parametrize("strategy", ["llm", "both", "auto"])
@pytest.mark.parametrize(
    "answer",
    ["I am a poet.", "", "```python\nclass ModelNew(:\n```", "<think>for ever"],
    ids=["prose", "empty", "syntax", "thinking"],
)
def test_garbage(answer, strategy):
    result, _ = run(lambda _: answer, strategy=strategy)
    assert result.success
    assert result.origin == "rules"
    assert result.kernel.sketch is not None
    assert len(result.trace) <= 20
    assert {step.answer for step in result.trace if step.event == "failed (answer)"} == {answer}
    assert any("the rules go on" in step.reason for step in result.trace)
    assert routes(result)[-1] == ("rules", "tuner", "tuned")


@pytest.mark.parametrize("workflow", sorted(WORKFLOWS))
@pytest.mark.parametrize("max_steps", [3, 7, 20])
def test_the_rules_are_the_floor_of_every_workflow(workflow, max_steps):
    result, _ = run(lambda _: kernel("fails: compile"), workflow=workflow, max_steps=max_steps)
    assert result.success
    assert result.origin == "rules"
    assert len(result.trace) <= max_steps


@pytest.mark.parametrize("error", [LLMError("HTTP 500"), RuntimeError("mine")], ids=["llm", "own"])
def test_a_client_that_raises(error):
    result, _ = run([HINTS, error])
    assert str(error) in result.trace[1].detail
    assert result.success
    assert result.origin == "rules"
    assert [step.event for step in result.trace].count("llm_error") == 1


def test_budgets():
    result, client = run([HINTS, kernel("fails: compile"), kernel("speed: 3.0")], budget=Budget(max_calls=2))
    assert len(client.requests) == 2
    assert result.origin == "rules"
    spent = next(step for step in result.trace if step.event == "budget")
    assert spent.detail == "max_calls=2 is reached"
    result, client = run([HINTS], time_budget=1e-9)
    assert client.requests == []
    assert result.trace[0].event == "budget"
    assert result.success


@pytest.mark.parametrize(("speed", "origin"), [(3.0, "llm"), (1.0, "rules")])
def test_both_race(speed, origin):
    result, _ = run([HINTS, kernel(f"speed: {speed}")], strategy="both")
    assert result.origin == origin
    assert result.speedup == max(speed, 2.0)
    alone, _ = run([HINTS, kernel(f"speed: {speed}")], strategy="llm")
    assert alone.origin == "llm"


def test_rules_ask_nobody():
    result, client = run([], strategy="rules")
    assert client.requests == []
    assert {step.origin for step in result.trace} == {"rules"}


def test_an_answer_that_is_cut_off_is_continued_once():
    whole = kernel("speed: 3.0")
    first = Completion((whole[:70],), finish_reasons=("length",))
    result, client = run([HINTS, first, whole[70:]])
    assert result.origin == "llm"
    assert result.trace[1].answer == whole
    assert result.trace[1].notes == ("cut off, continued",)
    assert client.requests[2][-2] == {"role": "assistant", "content": whole[:70]}
    # What was paid for stays in the trace, whatever comes of the rest.
    result, _ = run([HINTS, first], budget=Budget(max_calls=2))
    assert result.trace[1].answer == whole[:70]
    assert "max_calls=2" in result.trace[1].detail
    assert result.origin == "rules"
    again = Completion((whole[70:90],), finish_reasons=("length",))
    result, _ = run([HINTS, first, again, whole])
    assert result.trace[1].event == "failed (answer)"
    assert result.trace[1].detail.startswith("truncated")
    assert result.origin == "llm"


def test_sketches_of_the_model():
    sketch = replace(designed(TASK), host="").to_text()
    better = f"{HINTS}```sketch\n{sketch}```\n"
    result, client = run([better, kernel("speed: 3.0")])
    assert result.origin == "llm"
    assert sketch.strip() in client.requests[1][1]["content"]
    wrong = better.replace("relu(", "abs(")
    result, client = run([wrong, "```sketch\nload everything\n```", kernel("speed: 3.0")])
    assert [step.event for step in result.trace[:3]] == ["failed (sketch)", "failed (sketch)", "designed"]
    assert "interpreted and is wrong" in client.requests[1][1]["content"]
    # After two the coder gets the rules' design.
    assert "relu(" in client.requests[2][1]["content"]
    assert result.origin == "llm"


def test_a_task_without_templates(monkeypatch):
    from mlpapers.kernels import _session

    def refuse(*_):
        raise UnsupportedOp("no template for aten.svd")

    monkeypatch.setattr(_session.Designer, "run", refuse)
    result, _ = run([HINTS, kernel("speed: 3.0")])
    assert result.origin == "llm"
    result, _ = run(lambda _: "no")
    assert not result.success


def test_a_workflow_of_ones_own(tmp_path):
    mine = Workflow("mine", "coder", {"coder": ("verifier",), "verifier": ("coder",)}, max_coder_retries=2)
    result, _ = run([kernel("fails: oom"), kernel("speed: 3.0")], workflow=mine, store=tmp_path / "s")
    assert [step.agent for step in result.trace] == ["coder", "verifier", "coder", "verifier"]
    assert result.origin == "llm"
    agent = KernelAgent(llm=ScriptedClient([]), store=tmp_path / "s", dsl="cpp")
    again = agent.resume(result.run_id)
    assert again.code == result.code
    assert again.trace == result.trace


def test_nothing_is_paid_twice(tmp_path):
    options = {"store": tmp_path / "s", "random_state": 4}
    result, client = run([HINTS, kernel("fails: compile"), kernel("speed: 3.0")], **options)
    assert len(client.requests) == 3
    again, client = run([], **options)
    assert client.requests == []
    assert again.code == result.code
    assert [step.answer for step in again.trace] == [step.answer for step in result.trace]
    _, client = run([HINTS, kernel("speed: 2.5")], store=tmp_path / "s", random_state=5)
    assert len(client.requests) == 2
    with Store(tmp_path / "s") as store:
        assert store.spent(result.run_id).calls == 3
        assert store.spent(again.run_id).calls == 0


def test_results_keep_the_answers(tmp_path):
    result, _ = run([HINTS, kernel("speed: 3.0")])
    back = KernelResult.load(result.save(tmp_path / "r"))
    assert back.trace == result.trace
    assert back.origin == "llm"
    assert "origin llm" in back.provenance()
