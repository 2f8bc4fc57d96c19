"""Which failures are tried again, and when."""

import email.utils
import json

import pytest

from mlpapers.kernels import LLMError
from mlpapers.kernels.llm.retry import Retry, classify


class Status(Exception):
    """An error with the attributes that HTTP clients give it."""

    def __init__(self, status, headers=None):
        super().__init__("said the server")
        self.status_code = status
        self.response = type("Response", (), {"headers": headers or {}})()


class APITimeoutError(Exception):
    pass


class APIConnectionError(Exception):
    pass


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_these_pass(status):
    failure = classify(Status(status))
    assert failure.passing
    assert failure.reason == f"HTTP {status}"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_these_stay(status):
    failure = classify(Status(status, {"Retry-After": "1"}))
    assert not failure.passing
    assert failure.wait is None
    calls = []

    def send():
        calls.append(1)
        raise Status(status)

    with pytest.raises(LLMError, match=f"after 1 try: HTTP {status}") as caught:
        Retry(4, sleep=lambda _: pytest.fail("waited")).call(send)
    assert len(calls) == 1
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "timeout"),
        (APITimeoutError("60 s"), "timeout"),
        (APIConnectionError("cut"), "connection"),
        (ConnectionResetError(), "connection"),
        (json.JSONDecodeError("no", "", 0), "the answer is no completion"),
    ],
    ids=["timeout", "sdk-timeout", "sdk-connection", "reset", "json"],
)
def test_errors_without_a_status(error, reason):
    failure = classify(error)
    assert failure.passing
    assert failure.reason.startswith(reason)


def test_no_key_is_repeated():
    class Refused(Exception):
        status_code = 400

    told = classify(Refused("too long; Bearer abc.def; sk-1234-abcd")).reason
    assert told.startswith("HTTP 400 (Refused: too long")
    assert "abc" not in told
    Refused.status_code = 401
    assert classify(Refused("wrong key sk-1234")).reason == "HTTP 401"


def test_mistakes_in_code_are_not_tried_again():
    assert not classify(TypeError("complete() got an unexpected argument")).passing


def test_waits_as_the_server_asks():
    assert classify(Status(429, {"Retry-After": "7"})).wait == 7.0
    assert classify(Status(429, {"retry-after-ms": "1500", "retry-after": "9"})).wait == 1.5
    date = email.utils.formatdate(1_000_000_030, usegmt=True)
    assert classify(Status(503, {"Retry-After": date}), now=lambda: 1_000_000_000.0).wait == 30.0
    assert classify(Status(503, {"Retry-After": date}), now=lambda: 2e9).wait == 0.0
    assert classify(Status(503, {"Retry-After": "soon"})).wait is None
    assert classify(Status(503, {"Retry-After": "nan"})).wait is None


def run(errors, **options):
    """Return the answer or error, and the waits, of a request that fails with `errors` in turn."""
    waits, left = [], list(errors)

    def send():
        if left:
            raise left.pop(0)
        return "answer"

    return Retry(**options, sleep=waits.append).call(send), waits


def test_backs_off_exponentially_with_jitter():
    (answer, notes), waits = run([Status(500)] * 4, max_retries=4, first=1.0)
    assert answer == "answer"
    assert notes == ("HTTP 500",) * 4
    for k, wait in enumerate(waits):
        assert 2.0**k / 2 <= wait <= 2.0**k
    (_, notes), waits = run([Status(429, {"Retry-After": "3"}), Status(500)], first=1.0)
    assert waits[0] == 3.0
    assert 1.0 <= waits[1] <= 2.0
    assert notes == ("HTTP 429", "HTTP 500")
    _, waits = run([Status(500)] * 9, max_retries=9, first=1.0, longest=4.0)
    assert max(waits) <= 4.0


def test_gives_up():
    with pytest.raises(LLMError, match="after 3 tries: HTTP 500; HTTP 500; HTTP 500") as caught:
        run([Status(500)] * 5, max_retries=2)
    assert caught.value.notes == ("HTTP 500",) * 3
    # Asking earlier than told is no use, waiting an hour neither.
    with pytest.raises(LLMError, match="asked to wait 3600 s"):
        run([Status(429, {"Retry-After": "3600"})])


def test_bad_limits():
    with pytest.raises(ValueError, match="max_retries"):
        Retry(-1)
    with pytest.raises(ValueError, match="longest"):
        Retry(1, longest=-1.0)
