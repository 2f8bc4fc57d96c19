"""The meter: nothing is paid twice, nothing beyond the budget, and nothing waits for ever."""

import math
import threading

import pytest

from mlpapers.kernels import Budget, BudgetExceeded, Completion, LLMError, ScriptedClient
from mlpapers.kernels.llm.budget import Meter, Spent
from mlpapers.kernels.store import Store

ASKED = [{"role": "user", "content": "count"}]


def answer(text, tokens=10, cost=0.1):
    return Completion((text,), {"prompt_tokens": tokens, "completion_tokens": tokens}, cost, "m", ("stop",))


@pytest.fixture
def store():
    with Store(":memory:") as opened:
        yield opened


def meter(store, client, budget=None, *, run="r", seed=0, time_left=lambda: 60.0):
    return Meter(client, store, run, budget or Budget(), time_left, seed)


def test_what_is_known_is_not_paid_again(store):
    client = ScriptedClient([answer("one"), answer("two"), answer("three")])
    first = meter(store, client)
    assert first.ask(ASKED).text == "one"
    assert first.ask(ASKED).text == "one"
    # The same question at another turn is another question.
    assert first.ask(ASKED, turn=1).text == "two"
    assert store.spent("r") == Spent(2, 40, pytest.approx(0.2), pytest.approx(0, abs=5))
    # Another run with the same seed, even without money, a client or time.
    broke = meter(store, ScriptedClient([]), Budget(max_calls=0), run="s", time_left=lambda: -1.0)
    assert broke.ask(ASKED).text == "one"
    assert store.spent("s") == Spent()
    assert meter(store, client, seed=5).ask(ASKED).text == "three"


@pytest.mark.parametrize(
    ("budget", "asked", "reason"),
    [
        (Budget(max_calls=2), 2, "max_calls=2"),
        (Budget(max_calls=0), 0, "max_calls=0"),
        (Budget(max_tokens=30), 2, "max_tokens=30"),
        (Budget(max_cost=0.15), 2, "max_cost=0.15"),
        (Budget(max_seconds=0.0), 0, "max_seconds"),
    ],
    ids=["calls", "none", "tokens", "cost", "seconds"],
)
def test_budgets(store, budget, asked, reason):
    client = ScriptedClient([answer(str(k)) for k in range(9)])
    metered = meter(store, client, budget)
    for turn in range(asked):
        metered.ask(ASKED, turn)
    with pytest.raises(BudgetExceeded, match=reason):
        metered.ask(ASKED, asked)
    assert len(client.requests) == asked
    # A restart does not fill the purse.
    with pytest.raises(BudgetExceeded, match=reason):
        meter(store, client, budget).ask(ASKED, asked)


def test_an_unknown_cost_ends_it(store):
    metered = meter(store, ScriptedClient([answer("x", cost=math.nan), answer("y")]), Budget(max_cost=5.0))
    metered.ask(ASKED)
    with pytest.raises(BudgetExceeded, match="prices"):
        metered.ask(ASKED, 1)
    assert math.isnan(store.spent("r").cost)


def test_answers_are_no_longer_than_the_budget(store):
    seen = []

    class Client:
        def complete(self, messages, *, n=1, temperature=None, max_tokens=None, seed=None):
            seen.append((max_tokens, seed))
            return answer("x")

    metered = meter(store, Client(), Budget(max_tokens=50), seed=7)
    metered.ask(ASKED)
    metered.ask(ASKED, 1)
    assert seen == [(50, 7), (30, 8)]
    assert metered.model == "Client"


def test_failed_calls_count(store):
    metered = meter(store, ScriptedClient([LLMError("down")] * 2), Budget(max_calls=2))
    for turn in range(2):
        with pytest.raises(LLMError, match="down"):
            metered.ask(ASKED, turn)
    with pytest.raises(BudgetExceeded):
        metered.ask(ASKED, 2)


def test_a_client_that_hangs(store):
    release = threading.Event()

    def hang(self, messages, **_):
        release.wait(20)
        return answer("late")

    client = type("Hanging", (), {"complete": hang})()
    with pytest.raises(BudgetExceeded, match=r"no answer within the 0\.05 s"):
        meter(store, client, time_left=lambda: 0.05).ask(ASKED)
    release.set()
    with pytest.raises(BudgetExceeded, match="time is over"):
        meter(store, client, time_left=lambda: 0.0).ask(ASKED)


@pytest.mark.parametrize("raised", [ValueError("bad"), RuntimeError("worse"), KeyError("x")], ids=str)
def test_whatever_a_client_raises_is_typed(store, raised):
    with pytest.raises(LLMError, match=f"the client raised {type(raised).__name__}"):
        meter(store, ScriptedClient([raised])).ask(ASKED)


def test_what_is_no_completion(store):
    client = type("Odd", (), {"complete": lambda *_, **__: "text"})()
    with pytest.raises(LLMError, match="must return a Completion; got str"):
        meter(store, client).ask(ASKED)


def test_bad_limits():
    for name in ("max_calls", "max_tokens", "max_cost", "max_seconds"):
        with pytest.raises(ValueError, match=name):
            Budget(**{name: -1})
    with pytest.raises(TypeError, match="max_calls"):
        Budget(max_calls=1.5)
