"""Completions, functions and scripts as clients, and the keys of requests."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels import ChatClient, Completion, LLMError, OpenAIClient, ScriptedClient
from mlpapers.kernels.llm.client import as_client, request_key

ASKED = [{"role": "user", "content": "count"}]
text = st.text(max_size=20)


@given(
    st.builds(
        Completion,
        texts=st.lists(text, max_size=3).map(tuple),
        usage=st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens"]), st.integers(0, 9)),
        cost=st.floats(0, 10),
        model=text,
        finish_reasons=st.lists(text, max_size=3).map(tuple),
        notes=st.lists(text, max_size=2).map(tuple),
    )
)
def test_completions_go_through_json(completion):
    written = completion.to_json()
    assert Completion.from_json(written) == completion
    assert "\n" not in written


def test_what_a_completion_says():
    unknown = Completion.from_json(Completion(()).to_json())
    assert math.isnan(unknown.cost)
    assert unknown.text == ""
    assert not unknown.truncated
    cut = Completion(
        ("a", "b"), {"prompt_tokens": 3, "completion_tokens": 4}, finish_reasons=("length", "stop")
    )
    assert cut.truncated
    assert cut.text == "a"
    assert cut.tokens == 7


def test_scripts():
    client = ScriptedClient(["one", Completion(("two",), finish_reasons=("length",)), LLMError("no"), "four"])
    assert isinstance(client, ChatClient)
    assert client.complete(ASKED).text == "one"
    assert client.complete(ASKED).truncated
    with pytest.raises(LLMError, match="no"):
        client.complete(ASKED)
    assert client.complete(ASKED).text == "four"
    with pytest.raises(LLMError, match="all were given"):
        client.complete(ASKED)
    assert client.requests == [ASKED] * 5
    assert ScriptedClient(["a", "b", "c"]).complete(ASKED, n=3).texts == ("a", "b", "c")


def test_functions_are_clients():
    def shout(messages):
        return messages[-1]["content"].upper()

    client = as_client(shout)
    assert client.model == "shout"
    assert client.complete(ASKED).text == "COUNT"
    assert client.complete(ASKED, n=2).texts == ("COUNT", "COUNT")
    with pytest.raises(LLMError, match="text; got int"):
        as_client(lambda _: 3).complete(ASKED)
    answer = Completion(("x",), cost=0.5)
    assert as_client(lambda _: answer).complete(ASKED) is answer
    scripted = ScriptedClient([])
    assert as_client(scripted) is scripted


@pytest.mark.parametrize("wrong", [3, "gpt", ScriptedClient, int], ids=["number", "text", "class", "type"])
def test_what_is_no_client(wrong):
    with pytest.raises(TypeError, match="llm"):
        as_client(wrong)


def test_keys_of_requests():
    key = request_key("m", ASKED, n=1, temperature=None)
    assert len(key) == 64
    assert key == request_key("m", [{"content": "count", "role": "user"}], n=1)
    others = [
        request_key("m2", ASKED, n=1),
        request_key("m", [{"role": "system", "content": "count"}], n=1),
        request_key("m", ASKED * 2, n=1),
        request_key("m", ASKED, n=2),
        request_key("m", ASKED, n=1, seed=0),
        request_key("m", ASKED, n=1, temperature=0.0),
    ]
    assert len({key, *others}) == 7


def test_errors_and_clients_are_pickled():
    error = pickle.loads(pickle.dumps(LLMError("no", 429, ("HTTP 429",))))
    assert (str(error), error.status, error.notes) == ("no", 429, ("HTTP 429",))
    client = pickle.loads(pickle.dumps(OpenAIClient("m", "http://localhost:1/v1", prices=(1.0, 2.0))))
    assert repr(client) == "OpenAIClient('m', base_url='http://localhost:1/v1')"
    assert client.prices == (1.0, 2.0)
