"""The command: in this process for its parsing, as a process of its own for its streams and its status."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
import types

import pytest
import typer
from demo_site import COMMAND, make_environment, make_site, run
from typer.testing import CliRunner

import mlpapers
from mlpapers import cli
from mlpapers.core.parallel import cluster


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the installed distribution of the demo paper."""
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def environment(site, tmp_path):
    """The environment of a process that sees the demo paper."""
    return make_environment(site, tmp_path / "log")


@pytest.fixture
def invoke(site, monkeypatch, tmp_path):
    """Run the command in this process, which then sees the demo paper."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("DEMO_LOG", str(tmp_path / "log"))
    runner = CliRunner()
    yield lambda *arguments: runner.invoke(cli.app, list(map(str, arguments)), prog_name="mlpapers")
    for name in [name for name in sys.modules if name.partition(".")[0] == "demo_paper"]:
        del sys.modules[name]


def run_on_terminal(environment, *arguments, stream="stdout"):
    """Run the command with one of its streams on a terminal; return it, and what came out of the terminal."""
    outside, inside = pty.openpty()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: inside}
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], env=environment, text=True, **streams)
    os.close(inside)
    seen = b""
    # A terminal whose last writer is gone reports an input/output error.
    with contextlib.suppress(OSError):
        while chunk := os.read(outside, 4096):
            seen += chunk
    os.close(outside)
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr), seen.decode()


class TestList:
    def test_lines_for_other_programs(self, invoke):
        result = invoke("list", "demo")
        assert result.exit_code == 0
        rows = [line.split("\t") for line in result.stdout.splitlines()]
        assert rows[0] == ["demo", "A [demo] paper"]
        assert ["demo/holds", "Theorem 1", "One is at most [two]."] in rows
        assert {row[0] for row in rows[1:]} == {
            f"demo/{name}" for name in ("holds", "fails", "raises", "misses", "prints", "needs", "slow")
        }

    def test_all_papers_include_those_of_other_distributions(self, invoke):
        records = json.loads(invoke("list", "--json").stdout)
        assert [record["key"] for record in records] == [paper.key for paper in mlpapers.papers()]
        (demo,) = [record for record in records if record["key"] == "demo"]
        assert (demo["year"], demo["doi"], demo["arxiv"]) == (1999, "10.1/demo", None)
        claims = {claim["id"]: claim for claim in demo["claims"]}
        assert claims["demo/misses"]["known_miss"] == "four is more than two"
        assert claims["demo/needs"]["requires"] == ["package:not_a_package_at_all"]

    def test_unknown_paper_lists_the_known_ones(self, invoke):
        result = invoke("list", "nothing")
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "'nothing'" in result.stderr
        assert all(paper.key in result.stderr for paper in mlpapers.papers())

    def test_table_on_a_terminal_only(self, environment):
        piped = run(environment, "list", "demo")
        assert "\x1b" not in piped.stdout
        assert "demo/holds\tTheorem 1\tOne" in piped.stdout
        process, seen = run_on_terminal(environment, "list", "demo")
        assert process.returncode == 0
        assert re.search(r"demo/holds +Theorem 1 +One is at most \[two\]\.", seen)
        assert "\t" not in seen

    def test_no_color_on_a_terminal(self, environment):
        _, seen = run_on_terminal({**environment, "NO_COLOR": "1"}, "list", "demo")
        assert "demo/holds" in seen
        assert not re.search(r"\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[;m]", seen)


class TestShow:
    def test_citation_claims_and_bibtex(self, invoke):
        result = invoke("show", "demo")
        assert result.exit_code == 0
        assert (
            "A [demo] paper\nAda Byron, B. C, Journal of Demos (1999), https://doi.org/10.1/demo\n"
            in result.stdout
        )
        assert "It shows." in result.stdout
        assert "  demo/holds (Theorem 1)\n    One is at most [two]." in result.stdout
        assert "  demo/needs (Figure 6; needs package:not_a_package_at_all)" in result.stdout
        assert "    known miss: four is more than two" in result.stdout
        assert mlpapers.core.paper.find_paper("demo").bibtex() in result.stdout

    def test_unknown_paper_lists_the_known_ones(self, invoke):
        result = invoke("show", "nothing")
        assert result.exit_code == 2
        assert "demo" in result.stderr


class TestReproduceStatus:
    @pytest.mark.parametrize(
        ("claims", "options", "status"),
        [
            (["demo/holds"], [], 0),
            (["demo/holds", "demo/fails"], [], 1),
            (["demo/raises"], [], 1),
            (["demo/misses"], [], 0),
            (["demo/misses"], ["--strict"], 1),
            (["demo/needs"], ["--strict"], 0),
        ],
    )
    def test_follows_the_outcomes(self, invoke, tmp_path, claims, options, status):
        result = invoke("reproduce", *claims, *options, "--jobs", 1, "--out", tmp_path / "out")
        assert result.exit_code == status, result.output

    @pytest.mark.parametrize(
        "arguments",
        [
            ["reproduce", "nothing"],
            ["reproduce", "demo/nothing"],
            ["reproduce", "demo", "--scale", "huge"],
            ["reproduce", "demo", "--jobs", "0"],
            ["reproduce", "demo", "--seed", "-1"],
            ["reproduce", "demo", "--out", __file__],
            ["reproduce", "demo", "--dask", "nonsense://nowhere"],
            ["reproduce", "demo", "--frobnicate"],
            ["frobnicate"],
            ["new"],
        ],
    )
    def test_wrong_usage(self, invoke, arguments):
        result = invoke(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Error: " in result.stderr

    def test_unknown_claim_lists_the_papers(self, invoke):
        assert "papers: " in invoke("reproduce", "demo/nothing").stderr


class TestReproduceOutput:
    def test_results_on_stdout_progress_on_stderr(self, environment, tmp_path):
        out = tmp_path / "out"
        result = run(
            environment, "reproduce", "demo/holds", "demo/fails", "demo/prints", "-j", 1, "--out", out
        )
        assert result.returncode == 1
        assert result.stdout.startswith("Reproduction report: scale quick, seed 0\n")
        assert re.search(r"demo/fails: .*three = 3 \(target <= 2\)", result.stdout)
        assert result.stdout.endswith(f"Report: {out / 'index.html'}\n")
        assert "demo/fails" in (out / "index.html").read_text()
        lines = result.stderr.splitlines()
        assert {tuple(line.split()[:2]) for line in lines if not line.startswith("chatter")} == {
            ("holds", "demo/holds"), ("fails", "demo/fails"), ("holds", "demo/prints"),
        }  # fmt: skip
        assert "chatter" not in result.stdout
        assert {"chatter in Python", "chatter of a child"} <= set(lines)
        assert "\x1b" not in result.stdout + result.stderr

    @pytest.mark.parametrize("jobs", [1, 2])
    def test_json_is_all_of_stdout(self, environment, tmp_path, jobs):
        claims = ["demo/prints", "demo/misses", "demo/needs"]
        result = run(environment, "reproduce", *claims, "--json", "--jobs", jobs, "--out", tmp_path / "out")
        assert result.returncode == 0, result.stderr
        records = {record["id"]: record for record in json.loads(result.stdout)}
        assert set(records) == set(claims)
        assert [records[claim]["holds"] for claim in claims] == [True, False, None]
        assert "chatter of a child" in result.stderr
        assert f"Report: {tmp_path / 'out' / 'index.html'}" in result.stderr

    def test_progress_bar_on_a_terminal(self, environment, tmp_path):
        arguments = ("reproduce", "demo/fails", "--json", "--jobs", 1, "--out", tmp_path / "out")
        result, seen = run_on_terminal(environment, *arguments, stream="stderr")
        assert json.loads(result.stdout)[0]["holds"] is False
        assert "0/1" in seen or "1/1" in seen
        assert re.search(r"\x1b\[1;31mfails +demo/fails", seen)

    def test_scale_and_seed_reach_the_claim(self, invoke, tmp_path):
        result = invoke(
            "reproduce", "demo/holds", "--scale", "full", "--seed", 7, "-j", 1, "--out", tmp_path / "out"
        )
        assert result.exit_code == 0
        assert (tmp_path / "log").read_text() == "holds full 7\n"

    def test_finished_claims_are_taken_from_disk_unless_told_otherwise(self, invoke, tmp_path):
        arguments = ("reproduce", "demo/holds", "--jobs", 1, "--out", tmp_path / "out")
        for options, runs, found in (([], 1, False), ([], 1, True), (["--no-resume"], 2, False)):
            result = invoke(*arguments, *options)
            assert result.exit_code == 0
            assert len((tmp_path / "log").read_text().splitlines()) == runs
            assert ("s in an earlier run" in result.stderr) is found


def wait_for_line(path, line, process, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (path.exists() and line in path.read_text().splitlines()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{line!r} did not appear in {path}"
        time.sleep(0.05)


class TestInterrupt:
    # Ctrl-C on a terminal reaches the command and its workers alike, `kill -INT` the command alone.
    @pytest.mark.parametrize(("jobs", "kill"), [(1, os.killpg), (2, os.killpg), (2, os.kill)])
    def test_status_130_and_the_next_run_goes_on(self, environment, tmp_path, jobs, kill):
        arguments = [
            "reproduce",
            "demo/holds",
            "demo/slow",
            "--jobs",
            str(jobs),
            "--out",
            str(tmp_path / "out"),
        ]
        with subprocess.Popen(
            [*COMMAND, *arguments], env=environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                log = tmp_path / "log"
                wait_for_line(log, "slow", process)
                evidence = tmp_path / "out" / "claims" / "demo"
                while not list(evidence.glob("holds*")):
                    time.sleep(0.05)
                kill(process.pid, signal.SIGINT)
                stdout, stderr = process.communicate(timeout=60)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == 130, stderr
        assert stdout == ""
        assert f"Finished claims are kept in {tmp_path / 'out'}" in stderr
        assert "The same command goes on from there." in stderr
        assert "mlpapers/cli.py" not in stderr

        again = run({**environment, "DEMO_FAST": "1"}, *arguments)
        assert again.returncode == 0, again.stderr
        assert log.read_text().splitlines().count("holds quick 0") == 1
        assert log.read_text().splitlines().count("slow") == 2


@pytest.mark.cluster
def test_dask_runs_the_claims_on_the_cluster(invoke, environment, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as local:
        address = local.scheduler_address
        arguments = ("demo/holds", "demo/fails", "--json", "--dask", address, "--out", tmp_path / "out")
        result = invoke("reproduce", *arguments)
        transitions = local.scheduler.transition_counter
    assert result.exit_code == 1, result.output
    holds = {record["id"]: record["holds"] for record in json.loads(result.stdout)}
    assert holds == {"demo/holds": True, "demo/fails": False}
    assert transitions > 0


def test_cluster_without_a_scheduler():
    pytest.importorskip("distributed")
    refused = pytest.raises(ConnectionError, match="address must be that of a running dask scheduler")
    with refused, cluster("tcp://127.0.0.1:1", timeout=0.2):
        raise AssertionError("there is no scheduler")


class TestCommandGroups:
    def test_version(self, invoke):
        assert invoke("--version").stdout == f"mlpapers {mlpapers.__version__}\n"

    def test_a_group_is_imported_when_it_is_named(self, invoke, monkeypatch):
        group = typer.Typer(help="Commands of a room.")

        @group.command()
        def first():
            typer.echo("first was called")

        @group.command()
        def second(): ...

        imported = []

        def import_module(name):
            imported.append(name)
            return types.SimpleNamespace(app=group)

        monkeypatch.setattr(cli.importlib, "import_module", import_module)
        monkeypatch.setitem(cli.COMMAND_GROUPS, "room", "somewhere.commands")
        assert invoke("--version").exit_code == 0
        assert imported == []
        assert invoke("room", "first").stdout == "first was called\n"
        assert imported == ["somewhere.commands"]
        assert "Commands of a room." in invoke("--help").stdout

    def test_help_and_list_load_nothing_heavy(self, environment):
        program = """
            import contextlib, sys
            from mlpapers import cli
            with contextlib.suppress(SystemExit):
                cli.app(["--help"])
            heavy = {"torch", "sklearn", "scipy", "pandas", "matplotlib", "joblib", "numba", "numpy", "rich"}
            assert not heavy & set(sys.modules), heavy & set(sys.modules)
            with contextlib.suppress(SystemExit):
                cli.app(["list", "demo"])
            heavy -= {"numpy"}
            assert not heavy & set(sys.modules), heavy & set(sys.modules)
        """
        process = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
