"""The OpenAI-compatible client against a server that fails in every way."""

import subprocess
import sys

import pytest
from flaky_server import FlakyServer, Reply

from mlpapers.kernels import Completion, LLMError, OpenAIClient
from mlpapers.kernels.llm import openai_client
from mlpapers.kernels.llm.retry import Retry

ASKED = [{"role": "user", "content": "write a kernel"}]
GOOD = Reply("here it is")


@pytest.fixture(autouse=True)
def loopback(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def ask():
    """Return a function that asks a server with this script: completion or error, the server, the waits."""
    pytest.importorskip("openai")

    def run(replies, *, timeout=5.0, max_retries=4, **options):
        waits = []
        with FlakyServer(replies) as server:
            client = OpenAIClient("tiny", server.url, timeout=timeout, max_retries=max_retries)
            client._retry = Retry(max_retries, sleep=waits.append)
            try:
                found = client.complete(ASKED, **options)
            except LLMError as error:
                found = error
            if client._made is not None:
                client._made.close()
        return found, server, waits

    return run


def test_a_good_answer(ask):
    found, server, waits = ask([GOOD], temperature=0.2, max_tokens=50, seed=3, n=2)
    assert found == Completion(
        ("here it is",) * 2,
        {"prompt_tokens": 100, "completion_tokens": 10},
        pytest.approx(float("nan"), nan_ok=True),
        "tiny",
        ("stop", "stop"),
    )
    assert server.requests == [
        {"model": "tiny", "messages": ASKED, "n": 2, "temperature": 0.2, "max_tokens": 50, "seed": 3}
    ]
    assert waits == []


@pytest.mark.parametrize(
    ("reply", "note"),
    [
        (Reply(status=429, headers={"Retry-After": "2"}), "HTTP 429"),
        (Reply(status=500), "HTTP 500"),
        (Reply(status=503, text="overloaded"), "HTTP 503"),
        (Reply(status=408), "HTTP 408"),
        (Reply(how="reset"), "connection"),
        (Reply("half of this is lost", how="cut"), "connection"),
        (Reply("<html>gateway</html>", how="garbage"), "the answer is no completion"),
        (Reply('{"choices": []}', how="garbage"), "the answer is no completion"),
        (Reply('{"choices": [{"message": {"content": 3}}]}', how="garbage"), "the answer is no completion"),
        (Reply('"a text"', how="garbage"), "the answer is no completion"),
    ],
    ids=["429", "500", "503", "408", "reset", "cut", "html", "no-choices", "number", "string"],
)
def test_what_is_survived(ask, reply, note):
    found, server, waits = ask([reply, GOOD])
    assert found.text == "here it is"
    assert len(found.notes) == 1
    assert found.notes[0].startswith(note)
    assert len(server.requests) == 2
    assert server.requests[0] == server.requests[1]
    assert len(waits) == 1
    if reply.status == 429:
        assert waits == [2.0]


def test_a_server_that_hangs(ask):
    found, server, _ = ask([Reply(how="hang", seconds=20.0), GOOD], timeout=0.3)
    assert found.text == "here it is"
    assert found.notes[0].startswith("timeout")
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_is_not_tried_again(ask, status):
    found, server, waits = ask([Reply(status=status, text="no")])
    assert isinstance(found, LLMError)
    assert found.status == status
    assert len(server.requests) == 1
    assert waits == []


def test_a_server_that_stays_broken(ask):
    found, server, waits = ask([Reply(status=500)], max_retries=2)
    assert isinstance(found, LLMError)
    assert found.notes == ("HTTP 500",) * 3
    assert len(server.requests) == 3
    assert len(waits) == 2


def test_a_truncated_answer_is_said_to_be(ask):
    found, _, _ = ask([Reply("half", finish="length")])
    assert found.truncated


def test_keys_go_to_the_server_and_nowhere_else(ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    found, server, _ = ask([Reply(status=401)])
    assert server.authorization == ["Bearer sk-secret"]
    assert "sk-secret" not in str(found)
    assert "sk-secret" not in repr(OpenAIClient("m"))


def test_no_key_and_no_server():
    pytest.importorskip("openai")
    with pytest.raises(LLMError, match="OPENAI_API_KEY"):
        OpenAIClient("m").complete(ASKED)


def test_cost():
    usage = type("Usage", (), {"prompt_tokens": 2_000_000, "completion_tokens": 1000})()
    message = type("Message", (), {"content": None})()
    choice = type("Choice", (), {"message": message, "finish_reason": None})()
    answer = type("Answer", (), {"choices": [choice], "usage": usage, "model": None})()
    found = openai_client.read_answer(answer, "asked", (0.5, 2.0))
    assert found.cost == pytest.approx(1.0 + 0.002)
    assert found.texts == ("",)
    assert found.model == "asked"


def test_bad_parameters():
    with pytest.raises(ValueError, match="model"):
        OpenAIClient("")
    with pytest.raises(ValueError, match="timeout"):
        OpenAIClient("m", timeout=0.0)
    with pytest.raises(ValueError, match="max_retries"):
        OpenAIClient("m", max_retries=-1)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(LLMError, match=r"mlpapers\[llm\]"):
        OpenAIClient("m", "http://127.0.0.1:1/v1").complete(ASKED)


def test_making_a_client_imports_nothing():
    code = (
        "import sys; from mlpapers.kernels import OpenAIClient, LiteLLMClient; OpenAIClient('m'); "
        "LiteLLMClient('m'); assert not {'openai', 'litellm', 'httpx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
