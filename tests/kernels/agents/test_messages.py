"""Messages go through JSON unchanged."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_support import RELU

from mlpapers.kernels import Kernel, Task
from mlpapers.kernels.agents.conductor import Action, Event
from mlpapers.kernels.agents.messages import Feedback, TaskSpec, TraceEvent, from_json, to_json
from mlpapers.kernels.designs import Candidate
from mlpapers.kernels.verify.report import CorrectnessReport, StaticIssue, Verdict

text = st.text(max_size=30)
messages = st.one_of(
    st.builds(Event, kind=st.sampled_from(["coded", "passed"]), detail=text, subject=text, proposal=text),
    st.builds(Action, next=text, feedback=text, reason=text, overruled=text),
    st.builds(Feedback, error_class=text, text=text),
    st.builds(TraceEvent, step=st.integers(0, 99), agent=text, event=text, detail=text, next=text),
    st.builds(
        Candidate,
        code=text,
        dsl=text,
        backend=text,
        params=st.dictionaries(text, st.integers() | st.booleans() | st.floats(allow_nan=False)),
        disclosures=st.tuples(text, text),
    ),
    st.builds(
        Verdict,
        ok=st.booleans(),
        stage=text,
        report=st.builds(
            CorrectnessReport,
            static=st.tuples(st.builds(StaticIssue, rule=text, line=st.integers(0, 9), message=text)),
            hacks=st.tuples(text),
            max_abs_err=st.floats(allow_nan=False),
            max_rel_err=st.just(0.0),
            err_ratio_to_eager=st.just(math.inf),
        ),
        eager_ms=st.floats(allow_nan=False),
        kernel_ms=st.just(1.0),
        speedup=st.just(2.0),
        speedup_ci=st.just((1.0, -math.inf)),
    ),
)


@given(messages)
def test_round_trip(message):
    written = to_json(message)
    assert from_json(written) == message
    assert to_json(from_json(written)) == written
    json.loads(written)


def test_tasks_and_specs():
    spec = TaskSpec(RELU.with_overrides(n=7), shape_policy="dynamic")
    back = from_json(to_json(spec))
    assert back == spec
    assert back.task.fingerprint == spec.task.fingerprint
    kernel = Kernel(
        code="import torch\nclass ModelNew(torch.nn.Module):\n    pass\n", dsl="cpp", backend="cpu", task=RELU
    )
    assert from_json(to_json(kernel)) == kernel
    assert math.isnan(from_json(to_json(Verdict(False, "build"))).speedup)


def test_what_is_no_message():
    with pytest.raises(TypeError, match="in memory"):
        to_json(TaskSpec(Task.from_module(torch.nn.ReLU(), lambda: [torch.ones(2)])))
    with pytest.raises(TypeError, match="set"):
        to_json(Candidate("", "cpp", "cpu", {"a": {1}}))
    with pytest.raises(ValueError, match="no message"):
        from_json('{"kind": "Popen", "fields": {}}')
