"""The commands: exit status, output, files; the work itself is tested elsewhere."""

import errno
import json
import math
import os
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from mlpapers.cli import app
from mlpapers.core.requirements import missing_requirement
from mlpapers.kernels import BenchmarkResult, KernelResult, commands, doctor
from mlpapers.kernels.agents.messages import from_json
from mlpapers.kernels.agents.rules import Verifier
from mlpapers.kernels.backends import CPUBackend
from mlpapers.kernels.dsl import get_dsl
from mlpapers.kernels.store import Store
from mlpapers.kernels.verify import _room

needs_compiler = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")

TASK = """
import torch
size = 100
class Model(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x) * 2 + 1
def get_inputs():
    return [torch.rand(size, 40)]
"""


def run(*arguments, status=0):
    result = CliRunner().invoke(app, ["kernels", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    (folder / "task.py").write_text(TASK)
    return folder


@needs_compiler
def test_from_a_task_to_a_kernel_and_back(folder):
    store = ("--store", folder / "store.sqlite")
    options = ("--search", "none", "--time-budget", "3600", "--set", "size=30", *store)
    done = run("generate", folder / "task.py", *options, "--json", "-o", folder / "result")
    found = json.loads(done.stdout)
    assert found["success"]
    assert found["speedup"] > 0
    assert KernelResult.load(folder / "result").kernel.task.constants()["size"] == 100
    assert dict(KernelResult.load(folder / "result").kernel.task.overrides) == {"size": 30}
    resumed = run("resume", found["run"], *store, "--json")
    assert json.loads(resumed.stdout)["code"] == found["code"]
    (folder / "kernel.py").write_text(found["code"])
    judged = run("verify", folder / "task.py", folder / "kernel.py", "--no-timing", "--json", "--seed", "1")
    assert from_json(judged.stdout).ok
    wrong = found["code"].replace("class ModelNew(", "class ModelOld(")
    (folder / "wrong.py").write_text(wrong)
    assert "missing_model" in run("verify", folder / "task.py", folder / "wrong.py", status=1).stdout
    tuned = run("tune", folder / "result", "--time-budget", "0.001", *store, "-o", folder / "tuned.py")
    assert "a kernel was found" in tuned.stdout
    assert (folder / "tuned.py").read_text().startswith("# Made by mlpapers")


def test_a_result_that_cannot_be_saved_is_not_lost(capsys):
    class Found:
        run_id = "0a1b"

        def save(self, out):
            raise OSError(28, "No space left on device", str(out))

    with pytest.raises(OSError, match="No space left"):
        commands._save(Found(), Path("result"))
    assert capsys.readouterr().err == "The kernel is kept: mlpapers kernels resume 0a1b\n"


def test_wrong_usage(folder):
    task = folder / "task.py"
    assert "size" in run("generate", task, "--set", "width=3", status=2).output
    assert "NAME=VALUE" in run("generate", task, "--set", "size", status=2).output
    assert "literal" in run("generate", task, "--set", "size=open()", status=2).output
    assert "search" in run("generate", task, "--search", "luck", status=2).output
    assert "fortran" in run("generate", task, "--dsl", "fortran", status=2).output
    run("generate", folder / "missing.py", status=2)
    Store(folder / "s").close()
    assert "no run" in run("resume", "nothing", "--store", folder / "s", status=2).output
    assert f"no file {folder / 'none'}" in run("resume", "x", "--store", folder / "none", status=2).output
    assert not (folder / "none").exists()
    assert "not a saved result" in run("tune", task, status=2).output
    assert "level1" in run("bench", "--path", folder, status=2).output
    (folder / "no_model.py").write_text("x = 1")
    assert "Model" in run("generate", folder / "no_model.py", status=2).output


@needs_compiler
def test_a_model_behind_a_server_writes_too(folder, monkeypatch):
    pytest.importorskip("openai")
    from flaky_server import FlakyServer, Reply

    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    store = ("--store", folder / "model.sqlite")
    options = ("--search", "none", "--time-budget", "60", *store, "--json")
    with FlakyServer([Reply("Kernels are nuts.")]) as server:
        where = ("--model", "nut", "--base-url", server.url)
        found = json.loads(run("generate", folder / "task.py", *options, *where, "--max-calls", "3").stdout)
        assert found["success"]
        assert found["origin"] == "rules"
        assert len(server.requests) == 3
        assert {request["model"] for request in server.requests} == {"nut"}
        resumed = run("resume", found["run"], *store, *where, "--json")
        assert json.loads(resumed.stdout)["code"] == found["code"]
        assert len(server.requests) == 3
    assert "llm=None" in run("resume", found["run"], *store, status=2).output


def test_wrong_usage_of_a_model(folder, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    task = folder / "task.py"
    assert "OPENAI_API_KEY" in run("generate", task, "--model", "gpt", status=2).output
    assert "MY_KEY" in run("generate", task, "--model", "gpt", "--api-key-env", "MY_KEY", status=2).output
    assert "--model" in run("generate", task, "--base-url", "http://localhost:1/v1", status=2).output
    assert "--model" in run("generate", task, "--max-calls", "3", status=2).output
    wrong = run("generate", task, "--model", "gpt", "--base-url", "localhost:1", status=2).output
    assert "http" in wrong
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "mlpapers[llm]" in run("generate", task, "--model", "gpt", status=2).output


def test_migrate(folder):
    """Where a language cannot be used the source is there, the status is 1, and the reason is printed."""
    task, out = folder / "task.py", folder / "moved.py"
    status = 0 if cuda_works() else 1
    moved = run("migrate", task, "--to", "cuda", "-o", out, "--set", "size=20", "--json", status=status)
    row = json.loads(moved.stdout)
    assert "__global__ void" in row["code"]
    assert out.read_text() == row["code"]
    assert row["success"] == cuda_works()
    if not cuda_works():
        assert row["stage"] == "build"
        assert row["error"].startswith("not run: ")
    (folder / "foreign.py").write_text("class ModelNew: pass")
    again = run("migrate", task, "--to", "cuda", "--kernel", folder / "foreign.py", "--json", status=status)
    assert "__global__ void" in json.loads(again.stdout)["code"]


@needs_compiler
def test_migrate_a_saved_kernel(folder):
    saved = folder / "saved"
    options = ("--search", "none", "--time-budget", "0.001", "--store", folder / "m.sqlite")
    run("generate", folder / "task.py", *options, "-o", saved)
    moved = run(
        "migrate", folder / "task.py", "--to", "cpp", "--kernel", saved, "-o", folder / "both", "--json"
    )
    assert json.loads(moved.stdout)["success"]
    assert KernelResult.load(folder / "both").kernel.dsl == "cpp"


def test_wrong_usage_of_migrate(folder):
    task = folder / "task.py"
    assert "fortran" in run("migrate", task, "--to", "fortran", status=2).output
    assert "cpu" in run("migrate", task, "--to", "cuda", "--backend", "cpu", status=2).output
    assert "--to" in run("migrate", task, status=2).output
    assert (
        "not a saved result"
        in run("migrate", task, "--to", "cuda", "--kernel", _json(folder), status=2).output
    )
    run("migrate", folder / "missing.py", "--to", "cuda", status=2)


def _json(folder):
    path = folder / "no_result.json"
    path.write_text("{}")
    return path


def cuda_works():
    return get_dsl("cuda").available("cuda")[0]


@needs_compiler
def test_bench(folder):
    done = run(
        "bench",
        "--ids",
        "0",
        "--time-budget",
        "3600",
        "--store",
        folder / "bench.sqlite",
        "-o",
        folder / "bench",
        "--json",
    )
    (row,) = json.loads(done.stdout)
    assert row["name"] == "elementwise_relu"
    assert row["ok"]
    table = BenchmarkResult.load(folder / "bench").table
    assert table.loc[0, "speedup"] == pytest.approx(row["speedup"])


def test_files_that_are_no_text(folder):
    binary = folder / "binary.py"
    binary.write_bytes(b"\xff\x00class Model: pass")
    for arguments in (
        ("generate", binary),
        ("verify", folder / "task.py", binary),
        ("migrate", folder / "task.py", "--to", "cuda", "--kernel", binary),
    ):
        assert f"{binary} is no text" in run(*arguments, status=2).output


@pytest.mark.parametrize("ids", ["x", "", "-1", "1,,2", "1.5"])
def test_numbers_of_problems(ids):
    assert "19,23" in run("bench", "--ids", ids, status=2).output


def test_problems_that_there_are_not():
    assert "0 to" in run("bench", "--ids", "0,1000", status=2).output


def test_a_store_that_is_none_is_named(folder):
    (folder / "no_store").write_text("text " * 100)
    for store in (folder / "no_store", folder):
        asked = run("resume", "x", "--store", store, status=3).output
        assert asked.startswith(f"Error: the store of runs {store}: ")
        assert len(asked.splitlines()) == 1


def test_a_migrated_source_is_written_whole_or_not_at_all(folder, monkeypatch):
    out = folder / "whole.py"
    out.write_text("before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mlpapers.core._files.os.fsync", full)
    failed = run("migrate", folder / "task.py", "--to", "cuda", "-o", out, status=3)
    assert f"Error: {out}: No space left" in failed.output
    assert out.read_text() == "before"
    assert not list(folder.glob("*.part")) + list(folder.glob(".*.part"))


def test_a_benchmark_that_ends_early_says_what_is_kept(folder, monkeypatch):
    monkeypatch.setattr("mlpapers.kernels.bench.evaluate", _interrupt)
    stopped = run("bench", "--ids", "0", "--store", folder / "b.sqlite", status=130).output
    assert stopped == (
        "What was verified is kept: the same command does not verify it again.\nInterrupted.\n"
    )


@needs_compiler
@pytest.mark.parametrize("command", ["generate", "tune"])
def test_an_interrupted_run_says_how_to_go_on(command, folder, monkeypatch):
    store = folder / f"{command}.sqlite"
    options = ("--time-budget", "0.001", "--store", store)
    given = folder / "task.py"
    if command == "tune":
        given = folder / "given"
        run("generate", folder / "task.py", "--search", "none", *options, "-o", given)
    with monkeypatch.context() as patch:
        patch.setattr(Verifier, "run", _interrupt)
        stopped = run(command, given, *options, status=130).output
    found = re.fullmatch(
        r"The run is kept: mlpapers kernels resume (\w+) --store (.+)\nInterrupted.\n", stopped
    )
    assert found[2] == str(store)
    assert json.loads(run("resume", found[1], "--store", store, "--json").stdout)["success"]


def _interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["file", "unwritable", "full"])
def test_doctor_says_that_kernels_cannot_be_kept(place, folder, monkeypatch):
    cache = folder / place
    if place == "file":
        cache.write_text("")
    elif place == "unwritable":
        cache.mkdir()
        monkeypatch.setattr(sys.modules["mlpapers.kernels.doctor"], "check_writable", _refuse)
    else:
        cache.mkdir()
        monkeypatch.setattr(_room, "_LEAST_ROOM", math.inf)
    monkeypatch.setenv("MLPAPERS_KERNEL_CACHE", str(cache))
    monkeypatch.setattr(CPUBackend, "hardware", lambda _: _refuse(cache))
    table = {row["what"]: row for row in json.loads(run("doctor", "--json").stdout)}
    assert not table["kernel cache"]["ok"]
    assert str(cache) in table["kernel cache"]["detail"]
    assert table["backend cpu"]["detail"].startswith("not measured: ")


def _refuse(path):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_doctor():
    found = doctor()
    table = found.to_frame().set_index("what")
    assert table.loc["package torch", "ok"]
    assert table.loc["C++ compiler", "ok"] == (missing_requirement("cxx") is None)
    assert isinstance(found.checks, pd.DataFrame)
    lines = found.summary().splitlines()
    assert len(lines) == len(table)
    assert all(line.startswith(("yes", "no ")) for line in lines)
    assert len(found.plot().patches) == len(table)
    assert not math.isnan(len(run("doctor").stdout))
    assert {row["what"] for row in json.loads(run("doctor", "--json").stdout)} == set(table.index)
