"""The commands: exit status, output, files; the work itself is tested elsewhere."""

import json
import math

import pandas as pd
import pytest
from typer.testing import CliRunner

from mlpapers.cli import app
from mlpapers.core.requirements import missing_requirement
from mlpapers.kernels import BenchmarkResult, KernelResult, doctor
from mlpapers.kernels.agents.messages import from_json

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


def test_wrong_usage(folder):
    task = folder / "task.py"
    assert "size" in run("generate", task, "--set", "width=3", status=2).output
    assert "NAME=VALUE" in run("generate", task, "--set", "size", status=2).output
    assert "literal" in run("generate", task, "--set", "size=open()", status=2).output
    assert "search" in run("generate", task, "--search", "luck", status=2).output
    assert "fortran" in run("generate", task, "--dsl", "fortran", status=2).output
    run("generate", folder / "missing.py", status=2)
    assert "no run" in run("resume", "nothing", "--store", folder / "s", status=2).output
    assert "not a saved result" in run("tune", task, status=2).output
    assert "level1" in run("bench", "--path", folder, status=2).output
    (folder / "no_model.py").write_text("x = 1")
    assert "Model" in run("generate", folder / "no_model.py", status=2).output


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
