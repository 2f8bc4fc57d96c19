"""KernelAgent: from a task to a kernel, interrupted and resumed, tuned, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from kernel_support import HEAD
from sklearn.base import clone

from mlpapers.core.requirements import missing_requirement
from mlpapers.core.result import ResultFormatError
from mlpapers.kernels import (
    DSLUnavailable,
    Kernel,
    KernelAgent,
    KernelResult,
    Task,
    TaskError,
    _session,
)
from mlpapers.kernels.agents.messages import to_json
from mlpapers.kernels.store import Store, code_sha
from mlpapers.kernels.verify.report import CorrectnessReport, Verdict
from mlpapers.kernels.verify.settings import Settings

needs_compiler = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")

GELU = Task.from_source(
    HEAD.replace("import numpy as np\n", "")
    + """
n = 600
class Model(nn.Module):
    def forward(self, x):
        return 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * torch.pow(x, 3))))
def get_inputs():
    return [torch.randn(n, 700)]
""",
    "gelu",
)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A kernel for GELU, its agent, and the folder of its store."""
    folder = tmp_path_factory.mktemp("run")
    agent = KernelAgent(
        dsl="cpp", search="none", time_budget=3600, n_correct=2, store=folder / "store.sqlite", random_state=0
    )
    return agent, agent.generate(GELU), folder


@needs_compiler
def test_generate(generated):
    agent, result, _ = generated
    assert result.success, result
    assert result.origin == "rules"
    assert result.kernel.dsl == "cpp"
    assert result.kernel.task == GELU
    assert result.timing_mode == "measured"
    # Seven passes over memory against one.
    assert result.speedup > 1.5
    assert result.speedup_ci[0] <= result.speedup <= result.speedup_ci[1]
    assert 0 < result.roofline_fraction < 1.5
    assert result.report.ok
    assert not result.report.hacks
    assert [step.event for step in result.trace] == ["designed", "coded", "passed", "tuned"]
    assert result.to_frame()["ok"].tolist() == [True]
    assert "speed-up over eager" in str(result)
    module, inputs = GELU.build(3)
    made = result.kernel.load()()
    assert np.allclose(made(*inputs), module(*inputs), atol=1e-5)
    assert agent.runs()["id"].tolist() == [result.run_id]
    assert agent.runs()["status"].tolist() == ["done"]


@needs_compiler
def test_the_same_code_is_not_verified_twice(generated, monkeypatch):
    agent, result, _ = generated

    def refuse(*_, **__):
        raise AssertionError("verified again")

    monkeypatch.setattr(_session.Examiner, "examine", refuse)
    again = agent.generate(GELU)
    assert again.run_id != result.run_id
    assert again.speedup == result.speedup
    assert again.to_frame()["code_sha"].tolist() == [code_sha(result.code)]
    assert agent.resume(result.run_id).code == result.code


@needs_compiler
def test_save_and_load(generated):
    _, result, folder = generated
    back = KernelResult.load(result.save(folder / "whole"))
    assert back.code == result.code
    assert back.kernel == result.kernel
    assert back.trace == result.trace
    assert back.report == result.report
    assert back.speedup_ci == result.speedup_ci
    source = result.save(folder / "kernel.py").read_text()
    for part in (GELU.fingerprint, result.run_id, f"{result.speedup:.3f}", *result.disclosures):
        assert part in source.partition("import")[0]
    assert Kernel.from_file(folder / "kernel.py", "cpp", GELU).load()().state_dict() == {}
    with pytest.raises(ResultFormatError):
        KernelResult.load(folder / "kernel.py")
    bars = result.plot()
    assert [bar.get_height() for bar in bars.patches] == pytest.approx([result.eager_ms, result.kernel_ms])


class Normed(torch.nn.Module):
    """Buffers that are kept and buffers that are not."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(5)
        self.register_buffer("shift", torch.arange(5.0), persistent=False)

    def forward(self, x):
        return self.norm(x) + self.shift


@needs_compiler
def test_a_module_in_memory(tmp_path):
    module = Normed()
    with torch.no_grad():
        module.norm.weight.uniform_(1, 2)
        module(torch.randn(9, 5))
    task = Task.from_module(module, lambda: [torch.randn(6, 5)])
    agent = KernelAgent(dsl="cpp", search="none", time_budget=1e-6, n_correct=2, store=":memory:")
    result = agent.generate(task)
    assert result.success, result
    x = torch.randn(7, 5)
    with torch.no_grad():
        ours = result.kernel.load()()
        assert np.allclose(ours(x), module(x), atol=1e-5)
    assert ours.norm.num_batches_tracked == module.norm.num_batches_tracked == 2
    back = KernelResult.load(result.save(tmp_path / "whole"))
    assert back.kernel == result.kernel
    assert str(back) == str(result)
    # The file has no weights: no answer is better than one of other weights.
    assert back.kernel.load()()(x).isnan().all()
    with pytest.raises(TaskError, match="from_module"):
        agent.generate(back.kernel.task)
    assert "load_state_dict" in result.save(tmp_path / "kernel.py").read_text().partition("import")[0]


KILLED = """
import os, signal, sys
from mlpapers.kernels import KernelAgent, Task
from mlpapers.kernels.store import Store
after, store, source, run = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
append = Store.append
def kill(self, run_id, seq, event):
    append(self, run_id, seq, event)
    print(run_id, flush=True)
    if seq == after:
        os.kill(os.getpid(), signal.SIGKILL)
Store.append = kill
agent = KernelAgent(dsl="cpp", search="none", n_correct=1, time_budget=3600, store=store, random_state=1)
task = Task.from_source(open(source).read(), "gelu")
agent.generate(task) if run == "new" else agent.resume(run)
"""


@needs_compiler
def test_kill_and_resume(tmp_path):
    """Killed after the code was chosen, and again after it was verified: the third process ends the run."""
    (tmp_path / "task.py").write_text(GELU.source)
    store = tmp_path / "store.sqlite"

    def start(after, run):
        process = subprocess.run(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                KILLED,
                str(after),
                str(store),
                str(tmp_path / "task.py"),
                run,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == -signal.SIGKILL, process.stderr
        return process.stdout.split()[0]

    run = start(1, "new")
    assert start(2, run) == run
    agent = KernelAgent(dsl="cpp", search="none", n_correct=1, time_budget=3600, store=store)
    verified = agent.runs()
    assert verified.loc[0, ["status", "events", "attempts"]].tolist() == ["running", 3, 1]
    result = agent.resume(run)
    assert result.success
    assert result.run_id == run
    # What the killed process had measured stands.
    assert result.speedup == verified.loc[0, "best"]
    assert agent.runs().loc[0, ["status", "events", "attempts"]].tolist() == ["done", 4, 1]


class FakeExaminer:
    """Judges at once: everything is right, and a candidate's time follows from its text."""

    raced = 0
    broken_after = None

    def __init__(self, task, *, dsl, backend, settings, random_state, devices=None):
        self.task, self.settings = task, settings

    @staticmethod
    def seconds(code):
        return 1.0 + int(code_sha(code)[:6], 16) / 16**6

    def examine(self, code, *, timing=True):
        speedup = 3.0 / self.seconds(code) if timing else float("nan")
        report = CorrectnessReport(ok=True, stage="time")
        return Verdict(True, "time", report, 3.0, self.seconds(code), speedup, (speedup, speedup))

    def race(self, codes, runs):
        kind = type(self)
        kind.raced += 1
        if kind.broken_after is not None and kind.raced > kind.broken_after:
            raise KeyboardInterrupt
        return [[self.seconds(code)] * runs for code in codes]

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(_session, "Examiner", FakeExaminer)
    monkeypatch.setattr(_session.Session, "built", lambda _, codes: [True] * len(codes))
    FakeExaminer.raced, FakeExaminer.broken_after = 0, None
    return FakeExaminer


@needs_compiler
@pytest.mark.parametrize("broken_after", [0, 1, 2])
def test_a_race_that_is_interrupted_ends_as_it_would_have(fake, tmp_path, broken_after):
    options = {"dsl": "cpp", "n_candidates": 8, "time_budget": 3600, "random_state": 3}
    whole = KernelAgent(store=tmp_path / "whole", **options).generate(GELU)
    rounds = fake.raced
    # Three rounds, and a last one between the winner and the start where another won.
    assert rounds in (3, 4)
    fake.raced, fake.broken_after = 0, broken_after
    agent = KernelAgent(store=tmp_path / "broken", **options)
    with pytest.raises(KeyboardInterrupt):
        agent.generate(GELU)
    fake.raced, fake.broken_after = 0, None
    run = agent.runs().loc[0, "id"]
    resumed = agent.resume(run)
    assert resumed.code == whole.code
    assert resumed.kernel.params == whole.kernel.params
    # Rounds that were timed are not timed again.
    assert fake.raced == rounds - broken_after
    assert resumed.to_frame()["code_sha"].tolist() == whole.to_frame()["code_sha"].tolist()


@needs_compiler
def test_the_race_finds_the_fastest(fake, tmp_path):
    agent = KernelAgent(dsl="cpp", store=tmp_path / "s", n_candidates=16, time_budget=3600, random_state=0)
    result = agent.generate(GELU)
    session_codes = {code_sha(result.code): fake.seconds(result.code)}
    first = result.trace[1]
    assert first.event == "coded"
    assert min(session_codes.values()) <= fake.seconds(result.code)
    # The winner's knobs are kept, from where the next similar task starts.
    with Store(tmp_path / "s") as store:
        kept = [json.loads(params) for (params,) in store._rows("SELECT params FROM knobs")]
    assert (result.kernel.params in kept) == (result.kernel.params != json.loads(first.detail)["params"])


@needs_compiler
def test_what_only_a_lucky_race_favours_does_not_win(fake, tmp_path, monkeypatch):
    """In the rounds every challenger seems twice as fast as the start; alone with it, none is."""

    def race(self, codes, runs):
        if len(codes) == 2:
            return [[1.0] * runs, [1.0 + 0.01 * (k % 3 - 1) for k in range(runs)]]
        return [[1.0 if k == 0 else 0.5 + 0.01 * k] * runs for k in range(len(codes))]

    monkeypatch.setattr(FakeExaminer, "race", race)
    agent = KernelAgent(dsl="cpp", store=tmp_path / "s", n_candidates=8, time_budget=3600, random_state=0)
    result = agent.generate(GELU)
    assert result.kernel.params == json.loads(result.trace[1].detail)["params"]


@needs_compiler
def test_tune_never_returns_a_slower_kernel(fake, tmp_path):
    agent = KernelAgent(dsl="cpp", store=tmp_path / "s", search="none", time_budget=3600, random_state=0)
    start = agent.generate(GELU)
    tuned = clone(agent).set_params(search="autotune").tune(start.kernel)
    assert fake.seconds(tuned.code) <= fake.seconds(start.code)
    assert tuned.success
    none = agent.tune(tuned.kernel)
    assert none.kernel is tuned.kernel
    # Interrupted, it goes on too.
    assert agent.resume(tuned.run_id).code == tuned.code
    with pytest.raises(ValueError, match="task"):
        agent.tune(replace(start.kernel, task=None))
    with pytest.raises(ValueError, match="sketch"):
        agent.tune(replace(start.kernel, sketch=None))


@needs_compiler
def test_a_budget_that_is_spent_still_verifies(tmp_path):
    agent = KernelAgent(dsl="cpp", time_budget=1e-6, n_correct=1, store=tmp_path / "s", random_state=0)
    result = agent.generate(GELU)
    assert result.success
    assert np.isnan(result.speedup)
    assert result.timing_mode is None
    assert agent.resume(result.run_id).code == result.code


@needs_compiler
def test_slow_kernels_are_said_to_be_slow(fake, tmp_path):
    agent = KernelAgent(
        dsl="cpp", target_speedup=100.0, search="none", store=tmp_path / "s", time_budget=3600
    )
    result = agent.generate(GELU)
    assert result.trace[2].event == "passed (slow)"
    assert result.success


def test_missing_compiler(monkeypatch):
    from mlpapers.kernels.dsl.cpp import CppDSL

    monkeypatch.setattr(CppDSL, "available", lambda *_: (False, "no g++"))
    with pytest.raises(DSLUnavailable, match="no g\\+\\+"):
        KernelAgent(dsl="cpp", store=":memory:").generate(GELU)


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": "magic"}, {"strategy": "llm"}, {"strategy": "both"},
        {"workflow": "no"}, {"search": "luck"}, {"n_candidates": 0}, {"time_budget": 0.0},
        {"time_budget": float("nan")}, {"rtol": -1e-4}, {"rtol": float("inf")}, {"dsl": "fortran"},
        {"backend": "abacus"}, {"timeout": 0.0},
        {"precision": "int1"}, {"library_ops": "some"}, {"shape_policy": "free"}, {"n_correct": 0},
        {"max_steps": 0}, {"parent_prob": 1.5}, {"n_jobs": 0}, {"sandbox": "box"}, {"target_speedup": 0.0},
    ],
)  # fmt: skip
def test_wrong_parameters(wrong):
    name = next(iter(wrong))
    with pytest.raises(ValueError, match="llm" if name == "strategy" and wrong[name] != "magic" else name):
        KernelAgent(store=":memory:", **wrong).generate(GELU)


def test_wrong_arguments(tmp_path):
    with pytest.raises(TypeError, match="llm"):
        KernelAgent(store=":memory:", llm=object()).generate(GELU)
    with pytest.raises(FileNotFoundError, match="docs"):
        KernelAgent(store=":memory:", docs="nowhere").generate(GELU)
    with pytest.raises(TypeError, match="budget"):
        KernelAgent(store=":memory:", budget=3).generate(GELU)
    with pytest.raises(TypeError, match="task"):
        KernelAgent(store=":memory:").generate("text")
    with pytest.raises(TypeError, match="kernel must be a Kernel"):
        KernelAgent(store=":memory:").tune(None, GELU)
    with pytest.raises(ValueError, match="no run"):
        KernelAgent(store=tmp_path / "s").resume("nothing")
    broken = Task.from_source(GELU.source.replace("torch.randn(n, 700)", "['text']"))
    if not missing_requirement("cxx"):
        with pytest.raises(TaskError, match="input"):
            KernelAgent(store=":memory:", time_budget=1.0).generate(broken)


def test_parameters_are_kept():
    agent = KernelAgent(library_ops="none", random_state=4)
    assert clone(agent).get_params() == agent.get_params()
    assert agent.settings() == Settings(library_ops="none")
    assert os.fspath(GELU.name) == "gelu"
    assert "gelu" in to_json(GELU)
