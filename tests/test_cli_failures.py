"""The command where the machine refuses: one line that names the thing, a status, and nothing lost."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from demo_site import COMMAND, make_environment, make_site, run
from typer.testing import CliRunner

from mlpapers import __main__, cli
from mlpapers._scaffold.paper import plan_paper

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the installed distribution of the demo paper."""
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def environment(site, tmp_path):
    """The environment of a process that sees the demo paper."""
    return make_environment(site, tmp_path / "log")


@pytest.fixture
def reader():
    """Words before a command that take root's right to ignore permissions, where this is root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root ignores permissions, and there is no setpriv")
    rights = "-dac_override,-dac_read_search"
    return ["setpriv", f"--inh-caps={rights}", f"--bounding-set={rights}"]


def at_most(n_bytes):
    """Return what limits the size of every file of a process: writing fails as on a full disk."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    return limit


def check_message(process, *parts):
    """One line of an error, which holds these parts, the status that goes with it, no traceback."""
    assert process.returncode == 3, process.stderr
    lines = [line for line in process.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, process.stderr
    assert all(part in lines[0] for part in parts), lines[0]
    assert "Traceback" not in process.stderr
    assert "Exception ignored" not in process.stderr


@needs_full
class TestOutputThatCannotBeWritten:
    @pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
    @pytest.mark.parametrize("command", ["list", "show"])
    def test_full_disk(self, environment, command, unbuffered):
        with FULL.open("w") as full:
            process = subprocess.run(
                [*COMMAND, command, "demo"], env={**environment, "PYTHONUNBUFFERED": unbuffered},
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            )  # fmt: skip
        check_message(process, "the output: No space left on device")

    def test_the_report_is_there_all_the_same(self, environment, tmp_path):
        out = tmp_path / "out"
        with FULL.open("w") as full:
            process = subprocess.run(
                [*COMMAND, "reproduce", "demo/holds", "-j1", "--out", str(out)], env=environment,
                stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            )  # fmt: skip
        check_message(process, "the output")
        assert "demo/holds" in (out / "index.html").read_text()

    def test_progress_that_nobody_can_read_stops_nothing(self, environment, tmp_path):
        out = tmp_path / "out"
        with FULL.open("w") as full:
            process = subprocess.run(
                [*COMMAND, "reproduce", "demo/holds", "-j1", "--out", str(out)], env=environment,
                stdout=subprocess.PIPE, stderr=full, text=True, timeout=60, check=False,
            )  # fmt: skip
        assert process.stdout.startswith("Reproduction report")
        assert (out / "index.html").exists()


class TestFolderThatCannotBeWritten:
    def test_no_permission(self, environment, tmp_path, reader):
        locked = tmp_path / "locked"
        locked.mkdir(mode=0o500)
        for arguments in (
            ["reproduce", "demo/holds", "-j1", "--out", str(locked / "out")],
            ["new", "some-paper", "--directory", str(locked)],
        ):
            process = subprocess.run(
                [*reader, *COMMAND, *arguments],
                env=environment, capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            check_message(process, str(locked), "Permission denied")
        assert list(locked.iterdir()) == []
        assert not (tmp_path / "log").exists()  # the claim was not run in vain

    def test_finished_claims_of_a_folder_that_became_read_only(self, environment, tmp_path, reader):
        out = tmp_path / "out"
        assert run(environment, "reproduce", "demo/holds", "-j1", "--out", out).returncode == 0
        evidence = out / "claims"
        before = {path: path.read_bytes() for path in evidence.rglob("*") if path.is_file()}
        (evidence / ".lock").chmod(0o400)
        process = subprocess.run(
            [*reader, *COMMAND, "reproduce", "demo/holds", "--no-resume", "-j1", "--out", str(out)],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        check_message(process, str(evidence / ".lock"), "Permission denied")
        assert "Finished claims are kept" in process.stderr
        assert {path: path.read_bytes() for path in before} == before

    def test_a_file_where_a_folder_should_be(self, environment, tmp_path):
        (tmp_path / "file").touch()
        process = run(environment, "reproduce", "demo/holds", "-j1", "--out", tmp_path / "file" / "out")
        check_message(process, str(tmp_path / "file" / "out"), "Not a directory")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "claims").touch()
        process = run(environment, "reproduce", "demo/holds", "-j1", "--out", tmp_path / "out")
        check_message(process, str(tmp_path / "out" / "claims"), "File exists")

    def test_kernels_are_not_searched_in_vain(self, environment, tmp_path):
        task, missing = tmp_path / "task.py", tmp_path / "nowhere" / "kernel.py"
        task.write_text("raise AssertionError('not even read')\n")
        for arguments in (["generate", task], ["tune", task], ["bench"]):
            process = run(environment, "kernels", *arguments, "--out", missing)
            check_message(process, str(missing), "No such file or directory")

    def test_a_store_that_is_none(self, environment, tmp_path):
        store = tmp_path / "store"
        store.write_text("not a data base")
        process = run(environment, "kernels", "resume", "some-run", "--store", store)
        check_message(process, f"the store of runs {store}: file is not a database")
        assert store.read_text() == "not a data base"


class TestFullDisk:
    def test_evidence_stays_where_the_page_does_not_fit(self, environment, tmp_path):
        arguments = ("reproduce", "demo/holds", "--jobs", 1, "--out", tmp_path / "out")
        process = run(environment, *arguments, preexec_fn=at_most(4096))
        check_message(process, str(tmp_path / "out" / "index.html"), "File too large")
        assert "The same command goes on from there." in process.stderr
        assert not (tmp_path / "out" / "index.html").exists()
        assert not list((tmp_path / "out").rglob("*.part"))

        process = run(environment, *arguments)
        assert process.returncode == 0, process.stderr
        assert (tmp_path / "log").read_text().splitlines() == ["holds quick 0"]  # not run again

    def test_evidence_that_does_not_fit_is_named(self, environment, tmp_path):
        process = run(
            environment, "reproduce", "demo/holds", "-j1", "--out", tmp_path / "out", preexec_fn=at_most(100)
        )
        check_message(process, str(tmp_path / "out" / "claims" / "demo" / "holds.quick.0.json"))

    def test_a_paper_that_does_not_fit_leaves_nothing(self, environment, tmp_path):
        process = run(environment, "new", "some-paper", "--directory", tmp_path, preexec_fn=at_most(256))
        check_message(process, str(tmp_path / "mlpapers-some-paper"), "File too large")
        assert list(tmp_path.iterdir()) == []
        assert run(environment, "new", "some-paper", "--directory", tmp_path).returncode == 0

    def test_edits_of_a_checkout_are_taken_back(self, tmp_path, monkeypatch):
        plan = plan_paper("some-paper", directory=tmp_path)
        first, second = tmp_path / "first", tmp_path / "second"
        first.write_text("as it was")
        second.mkdir()
        (second / "file").touch()  # no file takes the place of a folder that is not empty
        edits = {first: "edited", second / "file": "edited"}
        written = []

        def write_text(path, text, original=sys.modules[plan_paper.__module__].write_text):
            written.append(path)
            if path == second / "file":
                raise OSError(28, "No space left on device", str(path))
            return original(path, text)

        monkeypatch.setattr(sys.modules[plan_paper.__module__], "write_text", write_text)
        with pytest.raises(OSError, match="No space left"):
            type(plan)(plan.root, True, plan.files, edits, (), ()).write()
        assert written[:2] == [first, second / "file"]
        assert first.read_text() == "as it was"
        assert sorted(tmp_path.iterdir()) == [first, second]


class TestTwoRunsInOneFolder:
    def test_the_second_is_refused_until_the_first_is_gone(self, environment, tmp_path):
        out, log = tmp_path / "out", tmp_path / "log"
        arguments = ["reproduce", "demo/holds", "demo/slow", "-j1", "--out", str(out)]
        with subprocess.Popen([*COMMAND, *arguments], env=environment, start_new_session=True) as first:
            try:
                deadline = time.monotonic() + 60
                while not (log.exists() and "slow" in log.read_text()):
                    assert first.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                fast = {**environment, "DEMO_FAST": "1"}
                second = run(fast, "reproduce", "demo/holds", "--no-resume", "-j1", "--out", out)
                check_message(second, str(out / "claims"), f"process {first.pid}", "choose another folder")
                # Another folder, and other commands, are free.
                assert run(fast, "reproduce", "demo/holds", "-j1", "--out", tmp_path / "b").returncode == 0
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(first.pid, signal.SIGKILL)
        again = run(fast, *arguments)
        assert again.returncode == 0, again.stderr
        assert log.read_text().splitlines().count("holds quick 0") == 2  # once for each folder


class TestInterrupt:
    def test_every_command_ends_with_130(self, monkeypatch):
        def interrupt(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(cli, "_find_paper", interrupt)
        for command in (["list", "demo"], ["show", "demo"]):
            result = CliRunner().invoke(cli.app, command)
            assert result.exit_code == 130
            assert result.stderr == "Interrupted.\n"

    def test_while_it_starts(self, monkeypatch, capsys):
        def interrupt():
            raise KeyboardInterrupt

        monkeypatch.setattr(cli, "main", interrupt)
        with pytest.raises(SystemExit) as stop:
            __main__.main()
        assert stop.value.code == 130
        assert capsys.readouterr().err == "Interrupted.\n"

    def test_an_error_of_our_own_is_not_hidden(self, monkeypatch):
        def fail(_):
            raise OSError("no number, so not the system's")

        monkeypatch.setattr(cli, "_find_paper", fail)
        assert isinstance(CliRunner().invoke(cli.app, ["show", "demo"]).exception, OSError)


def test_module_is_the_command(environment):
    process = subprocess.run(
        [sys.executable, "-m", "mlpapers", "list", "demo"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("demo\t")
