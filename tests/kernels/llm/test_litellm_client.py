"""The litellm adapter against a module that stands in for the package."""

import math
import sys
from types import ModuleType, SimpleNamespace

import pytest

from mlpapers.kernels import LiteLLMClient, LLMError
from mlpapers.kernels.llm.retry import Retry

ASKED = [{"role": "user", "content": "write a kernel"}]


class RateLimitError(Exception):
    status_code = 429
    response = SimpleNamespace(headers={"retry-after": "4"})


def answer(cost=0.25):
    return SimpleNamespace(
        choices=[SimpleNamespace(message=SimpleNamespace(content="kernel"), finish_reason="length")],
        usage=SimpleNamespace(prompt_tokens=5, completion_tokens=7),
        model="provider/m-1",
        _hidden_params={"response_cost": cost},
    )


@pytest.fixture
def fake(monkeypatch):
    """A module called litellm whose answers are taken from a list."""
    module = ModuleType("litellm")
    module.script, module.asked = [], []

    def completion(**given):
        module.asked.append(given)
        item = module.script.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    module.completion = completion
    monkeypatch.setitem(sys.modules, "litellm", module)
    return module


def test_answers(fake):
    fake.script[:] = [answer()]
    found = LiteLLMClient("provider/m", timeout=9.0, api_base="http://x").complete(
        ASKED, temperature=0.5, seed=2
    )
    assert found.text == "kernel"
    assert found.truncated
    assert found.tokens == 12
    assert found.cost == 0.25
    assert found.model == "provider/m-1"
    assert fake.asked == [
        {
            "model": "provider/m", "messages": ASKED, "timeout": 9.0, "num_retries": 0, "temperature": 0.5,
            "seed": 2, "api_base": "http://x",
        }
    ]  # fmt: skip
    fake.script[:] = [answer(None)]
    assert math.isnan(LiteLLMClient("m").complete(ASKED).cost)


def test_retries(fake):
    fake.script[:] = [RateLimitError("slowly"), ConnectionError("cut"), answer()]
    waits = []
    client = LiteLLMClient("m")
    client._retry = Retry(4, sleep=waits.append)
    found = client.complete(ASKED)
    assert found.notes[0] == "HTTP 429"
    assert found.notes[1].startswith("connection")
    assert waits[0] == 4.0
    fake.script[:] = [RateLimitError("slowly")] * 2
    client._retry = Retry(1, sleep=waits.append)
    with pytest.raises(LLMError, match="2 tries"):
        client.complete(ASKED)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(LLMError, match=r"mlpapers\[litellm\]"):
        LiteLLMClient("m").complete(ASKED)


def test_bad_parameters():
    with pytest.raises(ValueError, match="model"):
        LiteLLMClient("")
    with pytest.raises(ValueError, match="timeout"):
        LiteLLMClient("m", timeout=-1.0)
