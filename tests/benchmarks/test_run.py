"""One command for all benchmarks: resumable, one process a script, nothing lost."""

import os
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from _rows import Record, Row, records_text

Path(__file__).with_suffix(".ran").open("a").write("x")
{body}
path = Path(sys.argv[sys.argv.index("--json") + 1])
assert "--peers" in sys.argv
row = Row(what="w", peer="p", ratio=3.0, target={target})
path.write_text(records_text({{path.stem: Record(script=path.stem, rows=(row,), environment={{}})}}))
sys.exit(1)
"""


@pytest.fixture
def folder(tmp_path, run):
    """Return a folder with benchmarks: two that work, one that misses its target, one that breaks."""

    def write(name, body="", target=2.0):
        text = SCRIPT.format(folder=str(run.HERE), body=body, target=target)
        (tmp_path / f"{name}.py").write_text(text)

    write("first")
    write("second", target=9.0)
    write("broken", "raise OSError('no /usr/share/thing here')")
    (tmp_path / "_private.py").write_text("raise AssertionError")
    (tmp_path / "a_command_of_another_kind.py").write_text("raise AssertionError")
    return tmp_path


def runs(folder, name):
    path = folder / f"{name}.ran"
    return len(path.read_text()) if path.exists() else 0


def test_every_script_runs_once(run, rows, folder, capsys):
    out = folder / "results.json"
    assert run.main(["--out", str(out)], folder) == 1  # one is broken; a missed target is a result
    found = rows.read_records(out)
    assert {name: record.rows[0].verdict for name, record in found.items() if record.rows} == {
        "first": "met",
        "second": "missed",
    }
    assert found["broken"].error == "ended with status 1: OSError: no here"
    assert "second: 1 rows, 0 met, 1 missed" in capsys.readouterr().out

    assert run.main(["--out", str(out)], folder) == 1
    assert [runs(folder, name) for name in ("first", "second", "broken")] == [1, 1, 2]
    assert run.main(["first", "--again", "--shared", "--out", str(out)], folder) == 0
    assert [runs(folder, name) for name in ("first", "second", "broken")] == [2, 1, 2]
    assert [record.shared for record in rows.read_records(out).values()] == [False, True, False]


def test_a_failure_does_not_replace_a_success(run, rows, folder):
    out = folder / "results.json"
    assert run.main(["first", "--out", str(out)], folder) == 0
    (folder / "first.py").write_text("from _rows import Row\n\nraise SystemExit(3)")
    assert run.main(["first", "--again", "--out", str(out)], folder) == 1
    assert rows.read_records(out)["first"].rows


def test_a_script_that_hangs_is_ended(run, folder):
    path = folder / "first.py"
    path.write_text("import time; time.sleep(600)")
    record = run.run_script(path, timeout=0.5)
    assert record.error == "stopped after 0.5 s"
    assert record.rows == ()


@pytest.mark.parametrize("arguments", [["nothing"], ["--out", "/dev/null/results.json"]], ids=["name", "out"])
def test_wrong_usage_before_anything_runs(run, folder, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        run.main(arguments, folder)
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err
    assert runs(folder, "first") == 0


def test_a_damaged_file_is_not_overwritten(run, folder, capsys):
    out = folder / "results.json"
    out.write_text("{}")
    with pytest.raises(SystemExit):
        run.main(["--out", str(out)], folder)
    assert "does not hold benchmark results" in capsys.readouterr().err
    assert out.read_text() == "{}"


def test_interrupt_keeps_what_is_finished(run, rows, folder):
    out, marker = folder / "results.json", folder / "second.ran"
    text = (folder / "second.py").read_text()
    (folder / "second.py").write_text(text.replace("assert ", "import time; time.sleep(600)\nassert ", 1))
    (folder / "broken.py").unlink()
    program = (
        f"import sys; sys.path.insert(0, {str(run.HERE)!r}); import run; from pathlib import Path; "
        f"sys.exit(run.main(['--out', {str(out)!r}], Path({str(folder)!r})))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not marker.exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"Finished scripts are kept in {out}" in errors
    assert list(rows.read_records(out)) == ["first"]


def test_all_scripts_of_the_library_are_found(run):
    names = set(run.scripts())
    assert {"attention", "bandits", "fairness", "icl", "kernels", "optim", "unlearning", "valuation"} <= names
    assert not {"run", "_rows", "_harness"} & names


def test_kept_results_are_those_of_scripts_and_name_no_machine(run, rows):
    records = rows.read_records(run.RESULTS)
    assert records
    assert set(records) <= set(run.scripts())
    for record in records.values():
        assert record.rows or record.error
        texts = [record.error, *record.environment.values(), *(row.skipped + row.note for row in record.rows)]
        assert all(rows.without_paths(text) == text.strip() for text in texts)
