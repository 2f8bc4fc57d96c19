"""A language model inside the search: its proposals are measured, its budget is kept, the rules go on."""

import json
import re
from pathlib import Path

import pytest
from fake_examiner import HINTS, FakeExaminer, install, kernel

from mlpapers.core.requirements import missing_requirement
from mlpapers.kernels import Budget, Cassette, KernelAgent, LLMError, ScriptedClient, Task
from mlpapers.kernels._session import Session
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.search.evolve import search, tiers

pytestmark = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
TASK = make_task("t", "", "return torch.softmax(x, 0)", ("torch.randn(40, 300)",), HEAD)
RELU = Task.from_source(
    "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return torch.relu(x)\n"
    "def get_inputs():\n    return [torch.randn(6, 5)]\n",
    "relu",
)
SPACE = {"a": (1, 2, 4, 8), "b": (0, 1, 2, 3), "c": (False, True)}
# Recorded once with match="order"; the answers are told apart by their place.
CASSETTE = Path(__file__).with_name("evolve.jsonl")


@pytest.fixture(autouse=True)
def fake():
    undo = install()
    yield
    undo()


def cost(params):
    return abs(params["a"] - 8) + abs(params["b"] - 3) + params["c"]


def test_proposals_are_measured_first_and_the_round_is_filled_up():
    asked = []

    def propose(history, n):
        asked.append((len(history), n))
        return [
            {"a": 8, "b": 3, "c": False},
            {"a": 8, "b": 3, "c": False},  # the same again
            {"a": 3, "b": 0, "c": False},  # no value of the space
            {"a": 8},  # knobs missing
            dict(history[0].params),  # measured already
        ]

    found = search(
        SPACE, lambda some: [cost(p) for p in some], n_evaluations=10, propose=propose, random_state=0
    )
    assert asked == [(4, 4), (8, 2)]
    assert len(found.history) == 10
    assert [one.proposed for one in found.history] == [False] * 4 + [True] + [False] * 5
    assert found.best.params == {"a": 8, "b": 3, "c": False}
    keys = [tuple(one.params.values()) for one in found.history]
    assert len(set(keys)) == 10


@pytest.mark.parametrize("strategy", ["islands", "ucb", "population", "random"])
def test_a_silent_model_changes_nothing(strategy):
    def run(**options):
        found = search(
            SPACE,
            lambda some: [cost(p) for p in some],
            strategy=strategy,
            n_evaluations=20,
            random_state=4,
            **options,
        )
        return [one.params for one in found.history]

    assert run() == run(propose=lambda _history, _n: ())


def test_tiers_share_out_all_and_are_in_order():
    for n in range(40):
        costs = [float((7 * k) % 11) for k in range(n)]
        found = tiers(costs, exclude=[0])
        places = [k for part in found.values() for k in part]
        assert sorted(places) == list(range(1, n))
        assert [costs[k] for k in places] == sorted(costs[1:])
        assert bool(found["good"]) == (n > 1)


def columns(code):
    return next(width for width in (16, 32, 64, 128, 256, 512, 1024, 304) if f"[{width}]" in code)


@pytest.fixture
def clock(monkeypatch):
    """Narrow tiles of columns are fast."""
    monkeypatch.setattr(
        Session,
        "measured",
        lambda _self, _number, codes, runs: [[columns(code) / 1e3] * runs for code in codes],
    )


def tuner(answer):
    """Return a client that knows nothing of kernels, and what it was asked about their knobs."""
    asked = []

    def client(messages):
        if "You tune a kernel" not in messages[0]["content"]:
            return "No idea."
        asked.append(messages[1]["content"])
        return answer(len(asked))

    return client, asked


def settings_answer(number):
    values = [[{"COLS0": 64}, {"COLS0": 16}], [{"COLS0": 77}, {"OTHER": 1}], "nothing"][min(number, 3) - 1]
    return f"```strategy\nnarrow tiles are fast ({number})\n```\n```json\n{json.dumps(values)}\n```\n"


def agent(client, **options):
    given = {
        "dsl": "cpp", "backend": "cpu", "strategy": "llm", "search": "evolve", "n_candidates": 12,
        "time_budget": 3600, "store": ":memory:", "random_state": 5, "max_steps": 12,
    }  # fmt: skip
    return KernelAgent(llm=client, **{**given, **options})


def notes(result):
    return next(step.notes for step in result.trace if step.event == "tuned")


@pytest.mark.usefixtures("clock")
def test_settings_that_the_model_proposes_win_where_they_are_fastest():
    client, asked = tuner(settings_answer)
    result = agent(client).generate(TASK)
    assert result.success
    assert result.kernel.params["COLS0"] == 16
    assert notes(result)[0] == "round 1: the model proposed 2; narrow tiles are fast (1)"
    # The second answer has no admissible setting; the search went on by its own rules.
    assert notes(result)[1] == "round 2: no setting gives known knobs admissible values"
    assert "COLS0: 16, 32" in re.sub(r"\s+", " ", asked[0])
    assert "of the first time" in asked[0]
    assert "narrow tiles are fast (1)" in asked[1]
    assert "What you said last time" not in asked[0]


@pytest.mark.usefixtures("clock")
def test_a_budget_that_is_over_leaves_the_search_to_the_rules():
    client, asked = tuner(settings_answer)
    spent = agent(client, search="none").generate(TASK)
    before = sum(bool(step.answer) for step in spent.trace)
    asked.clear()
    result = agent(client, budget=Budget(max_calls=before + 1)).generate(TASK)
    assert result.success
    assert len(asked) == 1
    assert [note.partition(": ")[2].partition(":")[0] for note in notes(result)] == [
        "the model proposed 2; narrow tiles are fast (1)",
        "budget",
    ]


@pytest.mark.usefixtures("clock")
def test_a_server_that_fails_is_asked_once():
    def answer(_):
        raise LLMError("the server is down")

    client, asked = tuner(answer)
    result = agent(client).generate(TASK)
    alone = agent(None, strategy="rules").generate(TASK)
    assert len(asked) == 1
    assert result.kernel.params == alone.kernel.params
    assert notes(result) == ("round 1: llm_error: the server is down",)


@pytest.mark.usefixtures("clock")
def test_a_recorded_search_is_repeated_without_a_model(tmp_path):
    client, asked = tuner(settings_answer)
    path = tmp_path / "search.jsonl"
    first = agent(Cassette(path, "record", client=client)).generate(TASK)
    count = len(asked)
    again = agent(Cassette(path)).generate(TASK)
    assert len(asked) == count
    assert again.kernel.params == first.kernel.params
    assert notes(again) == notes(first)


REWRITES = [
    HINTS,
    kernel("speed: 2.0"),
    "```strategy\nfewer passes\n```\n" + kernel("speed: 3.0"),
    kernel("fails: wrong_result"),
    "I would rather not.",
    kernel("fails: hack"),
    kernel("speed: 5.0"),
    kernel("speed: 3.0"),
]


def test_a_models_kernel_is_rewritten_and_the_fastest_right_one_wins():
    client = ScriptedClient(REWRITES)
    result = agent(client, n_candidates=6).generate(RELU)
    assert result.origin == "llm"
    assert result.speedup == 5.0
    said = [note.partition(": ")[2] for note in notes(result)]
    assert [text.partition(" in ")[0] for text in said] == [
        "right", "wrong_result: wrong_result", "no block of code", "hack: hack", "right",
        "the same as one before",
    ]  # fmt: skip
    prompts = [call[-1]["content"] for call in client.requests[2:]]
    assert all("This kernel is right" in prompt for prompt in prompts)
    # What the model said of the first round, and its fastest kernel, come back in the second.
    assert "fewer passes" in prompts[4]
    assert any("speed: 3.0" in message["content"] for message in client.requests[6])
    assert "does not run" in "".join(prompts[4:])
    assert not any("/tmp/" in prompt or "fails: hack" in prompt for prompt in prompts)


def test_the_rules_write_against_it_where_both_work():
    result = agent(ScriptedClient([HINTS, kernel("speed: 1.5"), kernel("speed: 1.6")]), strategy="both",
                   n_candidates=2).generate(RELU)  # fmt: skip
    assert result.origin == "rules"
    assert result.speedup == 2.0


def test_the_cassette_of_the_repository_is_replayed():
    result = agent(Cassette(CASSETTE, match="order"), n_candidates=6).generate(RELU)
    assert result.speedup == 5.0
    assert result.origin == "llm"


def test_a_search_that_was_killed_goes_on_with_the_answers_it_paid_for(tmp_path, monkeypatch):
    whole = agent(ScriptedClient(REWRITES), n_candidates=6).generate(RELU)
    race, left = FakeExaminer.race, [1]

    def broken(self, codes, runs):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return race(self, codes, runs)

    monkeypatch.setattr(FakeExaminer, "race", broken)
    client = ScriptedClient(REWRITES)
    broken_off = agent(client, n_candidates=6, store=tmp_path / "s.sqlite")
    with pytest.raises(KeyboardInterrupt):
        broken_off.generate(RELU)
    paid = len(client.requests)
    monkeypatch.setattr(FakeExaminer, "race", race)
    result = broken_off.resume(broken_off.runs()["id"][0])
    assert result.kernel.code == whole.kernel.code
    assert notes(result) == notes(whole)
    assert len(client.requests) == len(REWRITES) >= paid
