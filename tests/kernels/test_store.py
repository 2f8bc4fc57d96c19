"""The store: what was written is there after a kill, and nothing is there twice."""

import math
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.agents.conductor import WORKFLOWS, Event, replay
from mlpapers.kernels.agents.messages import to_json
from mlpapers.kernels.store import Store, code_sha
from mlpapers.kernels.verify.report import CorrectnessReport, StaticIssue, Verdict

RUN = {"task_fp": "f", "task_name": "relu", "task": None, "dsl": "cpp", "backend": "cpu", "config": {"a": 1}}
ATTEMPT = {
    "task_fp": "f", "dsl": "cpp", "backend": "cpu", "arch": "x86", "exam": "e", "params": {"block": 4},
    "origin": "rules",
}  # fmt: skip


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.sqlite") as found:
        yield found


def verdict(speedup=1.5):
    report = CorrectnessReport(
        ok=True, n_trials=3, static=(StaticIssue("rule", 3, "text"),), hacks=("clock",)
    )
    return Verdict(True, "time", report, 2.0, 1.0, speedup, (1.4, math.inf), timing_mode="measured")


def test_runs(store):
    run = store.start_run(**RUN)
    assert store.run(run).config == {"a": 1}
    assert store.run(run).status == "running"
    store.finish_run(run)
    frame = store.runs()
    assert frame.loc[0, ["id", "task", "status", "events", "attempts"]].tolist() == [
        run,
        "relu",
        "done",
        0,
        0,
    ]
    with pytest.raises(ValueError, match=run):
        store.run("nothing")


def test_events_come_back_in_order(store):
    run = store.start_run(**RUN)
    events = [Event("designed"), Event("coded", subject="x"), Event("failed", "compile", "line\nline")]
    for number, event in enumerate(events):
        store.append(run, number, event)
    assert store.events(run) == events
    store.append(run, 1, events[1])
    assert store.events(run) == events
    with pytest.raises(ValueError, match="another event"):
        store.append(run, 1, Event("coded", subject="y"))


def test_attempts_are_known_by_their_content(store):
    run = store.start_run(**RUN)
    assert store.find_attempt(task_fp="f", code="code", arch="x86", exam="e") is None
    store.add_attempt(run, code="code", verdict=verdict(), **ATTEMPT)
    store.add_attempt(run, code="code", verdict=verdict(9.0), **ATTEMPT)
    assert len(store.attempts(run)) == 1
    found = store.find_attempt(task_fp="f", code="code", arch="x86", exam="e")
    assert to_json(found) == to_json(verdict())
    # Another task, device or examination knows nothing of it.
    for other in ({"task_fp": "g"}, {"arch": "arm"}, {"exam": "stricter"}, {"code": "code "}):
        key = {"task_fp": "f", "code": "code", "arch": "x86", "exam": "e"} | other
        assert store.find_attempt(**key) is None
    frame = store.attempts()
    assert frame.loc[0, "params"] == {"block": 4}
    assert frame.loc[0, "code_sha"] == code_sha("code")
    assert store.runs().loc[0, "best"] == 1.5


def test_nan_survives(store):
    run = store.start_run(**RUN)
    store.add_attempt(run, code="c", verdict=Verdict(False, "build"), **ATTEMPT)
    found = store.find_attempt(task_fp="f", code="c", arch="x86", exam="e")
    assert math.isnan(found.speedup)
    assert math.isnan(found.speedup_ci[0])


def test_knobs_and_timings(store):
    assert store.knobs("row", "cpu") is None
    store.set_knobs("row", "cpu", {"unroll": 2}, 1.0)
    store.set_knobs("row", "cpu", {"unroll": 4}, 0.5)
    assert store.knobs("row", "cpu") == {"unroll": 4}
    run = store.start_run(**RUN)
    store.add_timing(run, 0, "code", [1.0, 2.0])
    store.add_timing(run, 0, "code", [9.0])
    assert store.timing(run, 0, "code") == [1.0, 2.0]
    assert store.timing(run, 1, "code") is None


def test_several_threads_write(store):
    run = store.start_run(**RUN)

    def write(k):
        for j in range(20):
            store.add_attempt(run, code=f"{k}-{j}", verdict=verdict(), **ATTEMPT)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.attempts(run)) == 80


def test_a_second_connection_sees_it(store):
    run = store.start_run(**RUN)
    store.append(run, 0, Event("designed"))
    with Store(store.path) as other:
        assert other.events(run) == [Event("designed")]
        other.append(run, 1, Event("coded"))
    assert len(store.events(run)) == 2


def test_memory():
    with Store(":memory:") as store:
        assert store.runs().empty


WRITER = """
import sys
from mlpapers.kernels.agents.conductor import Event
from mlpapers.kernels.agents.messages import to_json
from mlpapers.kernels.store import Store
store = Store(sys.argv[1])
run = store.start_run(task_fp="f", task_name="t", task=None, dsl="cpp", backend="cpu", config={})
print(run, flush=True)
for k in range(100000):
    store.append(run, k, Event("coded", subject=str(k)))
    print(k, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2])
def test_kill_at_any_moment(tmp_path, delay):
    """What the writer reported as written is there, in order, and nothing is half there."""
    path = tmp_path / "store.sqlite"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    run = process.stdout.readline().strip()
    first = process.stdout.readline()
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    reported = [int(line) for line in (first + process.stdout.read()).split() if line.isdigit()]
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    with Store(path) as store:
        events = store.events(run)
        assert len(events) >= reported[-1] + 1
        assert [event.subject for event in events] == [str(k) for k in range(len(events))]
        # And it can go on.
        store.append(run, len(events), Event("passed"))
        assert store.events(run)[-1].kind == "passed"


@given(st.lists(st.sampled_from(["designed", "coded", "passed", "failed", "tuned"]), max_size=15))
def test_replaying_the_stored_events(kinds):
    with Store(":memory:") as store:
        run = store.start_run(**RUN)
        events = [Event(kind, "compile" if kind == "failed" else "") for kind in kinds]
        for number, event in enumerate(events):
            store.append(run, number, event)
        workflow = WORKFLOWS["default"]
        assert replay("t", store.events(run), workflow) == replay("t", events, workflow)
