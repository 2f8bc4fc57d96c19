"""Workers: whatever a candidate does, it costs that worker and nothing else."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from kernel_support import RELU, model

from mlpapers.kernels.verify import _lockdown, isolation
from mlpapers.kernels.verify import examiner as examiner_module
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.isolation import (
    Limits,
    close_workers,
    job_folder,
    run_job,
    worker_environment,
)
from mlpapers.kernels.verify.settings import Settings

HONEST = "return x.clamp(min=0)"
SETTINGS = Settings(n_correct=1, library_ops="any", shape_policy="static", timeout=60)


@pytest.fixture(scope="module")
def relu():
    with Examiner(RELU, dsl="plain", settings=SETTINGS, random_state=0) as examiner:
        yield examiner


@pytest.fixture
def unchecked(monkeypatch):
    """Let through what the static policy forbids: here the worker has to cope."""
    monkeypatch.setattr(examiner_module, "static_check", lambda *_, **__: [])


def test_an_endless_loop_ends(unchecked):
    with Examiner(
        RELU, dsl="plain", settings=Settings(n_correct=1, library_ops="any", timeout=1.5), random_state=0
    ) as examiner:
        started = time.monotonic()
        report = examiner.examine(model("while True:\n    pass"), timing=False).report
        # The worker's start is not counted against it, so only a loose bound holds on a busy machine.
        assert time.monotonic() - started < 60
    assert report.error_class == "timeout"
    assert "trial 1" in report.error


def test_a_crash_costs_only_its_worker(relu, unchecked):
    verdict = relu.examine(model("ctypes.string_at(0)\n" + HONEST, before="import ctypes"), timing=False)
    assert verdict.report.error_class == "launch"
    assert "signal 11" in verdict.report.error
    assert relu.examine(model(HONEST), timing=False).ok


def test_a_worker_that_dies_before_its_first_mark_is_described(tmp_path):
    (tmp_path / "progress").touch()
    outcome = isolation._outcome(tmp_path, 1, b"Traceback", (), 0.1)
    assert (outcome.status, outcome.stage, outcome.output) == ("crash", "", "Traceback")


def test_huge_allocations_fail(relu, unchecked):
    verdict = relu.examine(model("torch.empty(100 << 30, dtype=torch.uint8)\n" + HONEST), timing=False)
    assert verdict.report.error_class == "oom"
    verdict = relu.examine(model("big = np.ones(100 << 30, dtype=np.uint8)\n" + HONEST), timing=False)
    assert verdict.report.error_class == "oom"


def test_endless_output_is_cut(relu, unchecked):
    body = "for _ in range(200):\n    print('x' * 1000000)\nraise ValueError('the end')"
    verdict = relu.examine(model(body), timing=False)
    assert verdict.report.error_class == "launch"
    assert len(verdict.report.error) < 20_000
    assert "the end" in verdict.report.error


@pytest.mark.parametrize(
    "body",
    [
        "os.fork()",
        "os.system('true')",
        "subprocess.run(['true'])",
        "socket.socket()",
        "socket.create_connection(('127.0.0.1', 9))",
        "os.kill(os.getppid(), 9)",
        "os.listdir('/etc')",
        "open('/etc/hostname')",
        "open('/tmp/written-by-a-kernel', 'w')",
    ],
)
def test_python_is_watched(body, relu, unchecked):
    played = model(body + "\n" + HONEST, before="import os, subprocess, socket")
    verdict = relu.examine(played, timing=False)
    assert "forbidden_access" in verdict.report.hacks
    assert verdict.report.error_class == "hack"
    # An exception that is swallowed does not hide it.
    indented = "\n    ".join(body.splitlines())
    hidden = model(f"try:\n    {indented}\nexcept BaseException:\n    pass\n" + HONEST,
                   before="import os, subprocess, socket")  # fmt: skip
    assert "forbidden_access" in relu.examine(hidden, timing=False).report.hacks
    assert not Path("/tmp/written-by-a-kernel").exists()


NATIVE = """
import ctypes
LIBC = ctypes.CDLL(None, use_errno=True)
"""


@pytest.mark.skipif(os.uname().machine not in _lockdown._SYSCALLS, reason="no call filter for this machine")
@pytest.mark.parametrize("call", ["fork()", "socket(2, 1, 0)", "kill(1, 0)", "execv(b'/bin/true', None)"])
def test_native_code_is_refused_by_the_kernel(call, relu, unchecked):
    # The call returns -1 with EPERM; a kernel that gets through would answer with ones.
    body = f"if LIBC.{call} != -1 or ctypes.get_errno() != 1:\n    return torch.ones_like(x)\n{HONEST}"
    verdict = relu.examine(model(body, before=NATIVE), timing=False)
    assert verdict.ok, verdict


def test_threads_are_allowed_where_processes_are_not(relu, unchecked):
    body = "worker = threading.Thread(target=lambda: None)\nworker.start()\nworker.join()\n" + HONEST
    assert relu.examine(model(body, before="import threading"), timing=False).ok


def test_the_worker_does_not_see_the_reference(relu, unchecked):
    body = (
        "names = sorted(path.name for path in pathlib.Path('.').iterdir())\n"
        "assert not [name for name in names if 'reference' in name or name.startswith('out')], names\n"
        + HONEST
    )
    assert relu.examine(model(body, before="import pathlib"), timing=False).ok


def test_children_of_an_import_are_killed(unchecked):
    # A candidate that compiles itself may start programs while it is imported; none outlives the job.
    before = "import subprocess\nchild = subprocess.Popen(['sleep', '1000'])\n# load_inline\nPID = child.pid"
    body = "raise ValueError(f'child {PID} end')"
    with Examiner(RELU, dsl="plain", settings=SETTINGS, random_state=0) as examiner:
        error = examiner.examine(model(body, before=before), timing=False).report.error
    pid = int(re.search(r"child (\d+) end", error).group(1))
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_sandbox_of_another_kind_and_no_secrets_in_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setattr(examiner_module, "static_check", lambda *_, **__: [])
    seen = []

    def wrap(argv, folder):
        seen.append(folder)
        return [sys.executable, "-c", "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", *argv]

    body = (
        "assert not {'OPENAI_API_KEY', 'HTTPS_PROXY'} & set(os.environ), sorted(os.environ)\n"
        "assert os.environ['HOME'] == os.getcwd()\n" + HONEST
    )
    settings = Settings(n_correct=1, library_ops="any", shape_policy="static", sandbox=wrap)
    with Examiner(RELU, dsl="plain", settings=settings, random_state=0) as examiner:
        verdict = examiner.examine(model(body, before="import os"), timing=False)
    assert verdict.ok, verdict
    assert len(seen) == 1
    assert "isolation: left to the sandbox" in verdict.report.disclosures
    assert not {"OPENAI_API_KEY", "HTTPS_PROXY"} & set(worker_environment())


def test_docker_is_asked_for_by_name(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with job_folder() as folder, pytest.raises(RuntimeError, match="docker"):
        run_job(folder, {"procedure": "correct"}, sandbox="docker")
    with job_folder() as folder, pytest.raises(ValueError, match="sandbox"):
        run_job(folder, {"procedure": "correct"}, sandbox="podman")


def test_without_namespaces_and_filter_the_hook_remains(relu, unchecked, tmp_path):
    """In a container that permits neither, Python is still watched, and the verdict says so."""
    code = (
        "import json, sys\n"
        "from mlpapers.kernels.verify import _guard, _harness, _lockdown\n"
        "_guard.preload()\n"
        "_lockdown.leave_network = lambda: False\n"
        "_lockdown.refuse_syscalls = lambda: False\n"
        "request = json.load(open(sys.argv[1] + '/request.json'))\n"
        "_harness.run(request | {'isolate': True}, None)\n"
    )
    script = tmp_path / "bare.py"
    script.write_text(code)
    settings = Settings(
        n_correct=1, library_ops="any", shape_policy="static",
        sandbox=lambda argv, folder: [argv[0], str(script), str(folder)],
    )  # fmt: skip
    with Examiner(RELU, dsl="plain", settings=settings, random_state=0) as examiner:
        body = "try:\n    socket.socket()\nexcept PermissionError:\n    pass\n" + HONEST
        report = examiner.examine(model(body, before="import socket"), timing=False).report
    assert report.tol_ok
    assert report.hacks == ("forbidden_access",)
    assert any("audit hook" in text for text in report.disclosures)
    assert any("call filter is not available" in text for text in report.disclosures)


def test_limits_are_checked():
    with pytest.raises(ValueError, match="wall"):
        Limits(wall=0.0)
    numbers = Limits(wall=2.0, memory=3).as_numbers()
    assert numbers["memory"] == 3 << 20
    assert numbers["cpu"] >= 12


def test_workers_keep_the_number_of_threads(relu, unchecked):
    wanted = torch.get_num_threads()
    assert relu.examine(model(f"assert torch.get_num_threads() == {wanted}\n{HONEST}"), timing=False).ok


def test_workers_that_were_started_ahead_are_the_ones_that_work(monkeypatch):
    started = []
    plain = isolation._ForkServer

    def counted(environment):
        started.append(plain(environment))
        return started[-1]

    monkeypatch.setattr(isolation, "_ForkServer", counted)
    monkeypatch.setattr(isolation, "_POOL", isolation._Pool())
    isolation.start_workers()
    isolation.start_workers({"MLPAPERS_SOMETHING": "of one job"})
    assert len(started) == 1
    with job_folder() as folder:
        outcome = run_job(folder, {"procedure": "correct", "trials": []})
    assert outcome.status != "ok"
    assert len(started) == 1
    close_workers()
    assert not started[0].alive


def test_a_process_that_is_not_wanted_any_more_need_not_finish_its_start():
    server = isolation._ForkServer(worker_environment())
    server.close()
    # Asked politely it would import torch first, and be waited for.
    assert server._process.returncode == -signal.SIGKILL
    with pytest.raises(RuntimeError, match="did not start"):
        isolation._ForkServer({"PATH": os.environ["PATH"], "PYTHONHOME": "/nowhere"}).run({}, 1.0)
