"""A model behind a bad server, and a process that is killed: the run survives, and its trace tells it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_examiner import HINTS, install, kernel
from flaky_server import FlakyServer, Reply

from mlpapers.core.requirements import missing_requirement
from mlpapers.kernels import Budget, Cassette, KernelAgent, OpenAIClient, Task
from mlpapers.kernels.llm.retry import Retry

pytestmark = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")
pytest.importorskip("openai")

SOURCE = (
    "import torch\nclass Model(torch.nn.Module):\n    def forward(self, x):\n        return torch.relu(x)\n"
    "def get_inputs():\n    return [torch.randn(6, 5)]\n"
)
TASK = Task.from_source(SOURCE, "relu")
GOOD = [Reply(HINTS), Reply(kernel("speed: 3.0"))]


@pytest.fixture(autouse=True, scope="module")
def fake():
    undo = install()
    yield
    undo()


@pytest.fixture(autouse=True)
def loopback(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def generate(replies, *, timeout=5.0, max_retries=2, **options):
    """Return the result of a run against a server with this script, and the server."""
    with FlakyServer(replies) as server:
        client = OpenAIClient("tiny", server.url, timeout=timeout, max_retries=max_retries)
        client._retry = Retry(max_retries, sleep=lambda _: None)
        given = {"dsl": "cpp", "strategy": "llm", "search": "none", "store": ":memory:", "time_budget": 3600}
        result = KernelAgent(llm=client, **{**given, "random_state": 0, **options}).generate(TASK)
        if client._made is not None:
            client._made.close()
    return result, server


@pytest.mark.parametrize(
    ("reply", "note"),
    [
        (Reply(status=429, headers={"Retry-After": "1"}), "HTTP 429"),
        (Reply(status=500), "HTTP 500"),
        (Reply(how="hang", seconds=20.0), "timeout"),
        (Reply("lost", how="cut"), "connection"),
        (Reply(how="reset"), "connection"),
        (Reply("<html>", how="garbage"), "the answer is no completion"),
    ],
    ids=["429", "500", "timeout", "cut", "reset", "garbage"],
)
def test_a_failure_that_passes(reply, note):
    result, server = generate([reply, *GOOD], timeout=0.5 if reply.how == "hang" else 5.0)
    assert result.success
    assert result.origin == "llm"
    assert result.trace[0].notes[0].startswith(note)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(status=429), "3 tries: HTTP 429"),
        (Reply(status=500), "3 tries: HTTP 500"),
        (Reply(status=401), "1 try: HTTP 401"),
        (Reply(status=429, headers={"Retry-After": "7200"}), "asked to wait 7200 s"),
        (Reply(how="reset"), "3 tries: connection"),
        (Reply("[]", how="garbage"), "3 tries: the answer is no completion"),
    ],
    ids=["429", "500", "401", "hours", "reset", "garbage"],
)
def test_a_failure_that_stays(reply, told):
    result, _ = generate([reply])
    assert result.success
    assert result.origin == "rules"
    assert result.trace[0].event == "llm_error"
    assert told in result.trace[0].detail
    assert "the rules go on" in result.trace[0].reason


def test_a_server_that_dies_in_the_middle():
    result, _ = generate([Reply(HINTS), Reply(kernel("fails: compile")), Reply(status=503)])
    assert [step.event for step in result.trace[:4]] == ["designed", "coded", "failed (compile)", "llm_error"]
    assert result.origin == "rules"


def test_a_server_that_hangs_longer_than_the_run_may():
    result, _ = generate([Reply(how="hang", seconds=20.0)], budget=Budget(max_seconds=0.3))
    assert result.trace[0].event == "budget"
    assert "no answer within the 0.3 s" in result.trace[0].detail
    assert result.origin == "rules"


def test_truncated_answers():
    whole = kernel("speed: 3.0")
    result, server = generate([Reply(HINTS), Reply(whole[:80], finish="length"), Reply(whole[80:])])
    assert result.origin == "llm"
    assert result.trace[1].answer == whole
    assert len(server.requests) == 3
    result, _ = generate([Reply(HINTS), Reply("```python\n", finish="length")])
    assert result.origin == "rules"
    assert "truncated" in result.trace[1].detail


def test_a_conversation_with_a_server_is_replayed_without_it(tmp_path):
    path = tmp_path / "c.jsonl"
    with FlakyServer([Reply(HINTS), Reply(kernel("fails: compile")), Reply(kernel("speed: 3.0"))]) as server:
        client = OpenAIClient("tiny", server.url)
        options = {"dsl": "cpp", "strategy": "llm", "search": "none", "time_budget": 3600, "random_state": 0}
        live = KernelAgent(
            llm=Cassette(path, "record", client=client), store=tmp_path / "a", **options
        ).generate(TASK)
        client._made.close()
    played = KernelAgent(llm=Cassette(path), store=tmp_path / "b", **options).generate(TASK)
    assert played.code == live.code
    assert played.trace == live.trace
    assert len(path.read_text().splitlines()) == 3
    assert "127.0.0.1" not in path.read_text()


KILLED = """
import os, signal, sys
from fake_examiner import install
install()
from mlpapers.kernels import KernelAgent, OpenAIClient, Task
from mlpapers.kernels.store import Store
when, seq, store, url, run = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
append = Store.append
def kill(self, run_id, number, event):
    print(run_id, flush=True)
    if number == seq and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, run_id, number, event)
    if number == seq and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
Store.append = kill
agent = KernelAgent(llm=OpenAIClient("tiny", url), dsl="cpp", strategy="llm", search="none", time_budget=3600,
                    store=store, random_state=1)
source = open(store + ".py").read()
agent.generate(Task.from_source(source, "relu")) if run == "new" else agent.resume(run)
"""


def test_killed_after_an_answer_came(tmp_path):
    """Killed between the answer and its event: no question is asked twice."""
    store = tmp_path / "store"
    (tmp_path / "store.py").write_text(SOURCE)
    support = Path(__file__).parents[2] / "support"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(support), os.environ.get("PYTHONPATH", "")]),
    }

    def start(when, seq, url, run):
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", KILLED, when, str(seq), str(store), url, run],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert process.returncode == -signal.SIGKILL, process.stderr
        return process.stdout.split()[0]

    with FlakyServer([Reply(HINTS), Reply(kernel("fails: compile")), Reply(kernel("speed: 3.0"))]) as server:
        run = start("before", 1, server.url, "new")
        assert len(server.requests) == 2
        client = OpenAIClient("tiny", server.url)
        result = KernelAgent(llm=client, dsl="cpp", store=store).resume(run)
        client._made.close()
        assert len(server.requests) == 3
    assert result.origin == "llm"
    assert [step.event for step in result.trace] == [
        "designed", "coded", "failed (compile)", "coded", "passed", "tuned",
    ]  # fmt: skip
    # What the client's class and model are called decides nothing that is done already.
    assert KernelAgent(llm=client, dsl="cpp", store=store).resume(run).trace == result.trace
