"""Running claims: states, resumption after a kill, workers, what is stored and what is not."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

import mlpapers
from mlpapers.core._evidence import EvidenceStore, cache_directory
from mlpapers.core.environment import count_cores
from mlpapers.core.paper import Claim, Evidence, Measurement
from mlpapers.core.reproduce import _limit_threads, _make_tasks, _Worker, reproduce
from mlpapers.datasets import DataUnavailableError

LOG, PARENT = "MLPAPERS_TEST_LOG", "MLPAPERS_TEST_PARENT"


@pytest.fixture(autouse=True)
def log(tmp_path, monkeypatch):
    """A file in which each claim writes a line when it starts; evidence goes to a fresh cache folder."""
    path = tmp_path / "runs.log"
    path.touch()
    monkeypatch.setenv(LOG, str(path))
    monkeypatch.setenv(PARENT, str(os.getpid()))
    monkeypatch.setenv("MLPAPERS_CACHE", str(tmp_path / "cache"))
    return path


def note(word):
    with Path(os.environ[LOG]).open("a") as file:
        file.write(f"{word}\n")


def evidence(value=0.0, **fields):
    return Evidence([Measurement("distance", value, "<=", 1.0, unit="m", paper=0.5)], **fields)


class Probe:
    """A claim's function that writes down its name and returns, or raises, what it was given."""

    def __init__(self, name, outcome=0.0):
        self.name, self.outcome = name, outcome
        # A worker that is used again has the environment in which it was started, that of another test.
        self.log = Path(os.environ[LOG])

    def note(self):
        with self.log.open("a") as file:
            file.write(f"{self.name}\n")

    def __call__(self, scale, seed):
        self.note()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return evidence(self.outcome) if isinstance(self.outcome, float) else self.outcome


def claim(name, function=None, **fields):
    return Claim(
        f"test-paper/{name}", f"Statement of {name}.", "Theorem 1", function or Probe(name), **fields
    )


def states(report):
    return {outcome.id.partition("/")[2]: outcome.state for outcome in report.outcomes}


def without_seconds(report):
    return [{**record, "seconds": None} for record in json.loads(report.to_json())]


def draw(ax):
    ax.plot([1, 2, 3], "o-", label="values")
    ax.legend()


def rich(scale, seed):
    """Everything that evidence can hold, random numbers from the seed."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"x": rng.normal(size=3), "name": ["a", None, "<b>"]}, index=[3, 5, 7])
    table.loc[5, "x"] = np.nan
    measurements = [
        Measurement("coverage", rng.random(), "in", (0.0, 1.0), paper="about 0.95"),
        Measurement("bound", 1.0, "<", np.inf),
    ]
    return Evidence(measurements, table=table, figure=draw, notes="seeded")


def in_worker(scale, seed):
    time.sleep(0.3)
    return Evidence([Measurement("process", os.getpid(), "<", np.inf)])


def in_parent(scale, seed):
    note(f"timed in {'parent' if os.getpid() == int(os.environ[PARENT]) else 'worker'}")
    return evidence()


def threads(scale, seed):
    import numba
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    counts = {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
    counts |= {"numba": numba.get_num_threads(), "later": int(os.environ["OMP_NUM_THREADS"])}
    return Evidence([Measurement(name, count, ">=", 1) for name, count in counts.items()])


class DiesOnce(Probe):
    def __call__(self, scale, seed):
        self.note()
        if self.log.read_text().split().count(self.name) == 1:
            os._exit(1)
        return evidence()


def cannot_be_drawn(ax):
    raise ArithmeticError("cannot draw")


CASES = {
    "holds": (0.5, {}, "holds"),
    "fails": (2.0, {}, "fails"),
    "nan": (float("nan"), {}, "fails"),
    "raises": (ZeroDivisionError("by zero"), {}, "error"),
    "exits": (SystemExit(3), {}, "error"),
    "no-evidence": ({"distance": 0.5}, {}, "error"),
    "no-frame": (evidence(table=[1, 2]), {}, "error"),
    "no-figure": (evidence(figure=cannot_be_drawn), {}, "error"),
    "miss": (2.0, {"known_miss": "measured 2, the paper says 0.5"}, "known miss"),
    "stale": (0.5, {"known_miss": "measured 2, the paper says 0.5"}, "unexpectedly holds"),
    "missing": (0.5, {"requires": ("package:no_such_package_anywhere",)}, "not run"),
    "no-data": (DataUnavailableError("the weights are in no folder"), {}, "not run"),
    "no-file": (FileNotFoundError("the file was deleted"), {}, "error"),
}


def test_each_end_of_a_claim_has_its_state_and_reason():
    claims = [claim(name, Probe(name, outcome), **fields) for name, (outcome, fields, _) in CASES.items()]
    report = reproduce(claims)
    assert states(report) == {name: state for name, (_, _, state) in CASES.items()}
    found = {outcome.id.partition("/")[2]: outcome for outcome in report.outcomes}
    assert found["holds"].reason is None
    assert found["fails"].reason == "distance = 2 m (target <= 1)"
    assert found["nan"].holds is False
    assert found["raises"].reason == "ZeroDivisionError: by zero"
    assert "ZeroDivisionError: by zero" in found["raises"].traceback
    assert "in _run_claim" not in found["raises"].traceback
    assert "must return Evidence; got dict" in found["no-evidence"].error
    assert "table must be a pandas DataFrame" in found["no-frame"].error
    assert "cannot draw" in found["no-figure"].error
    assert found["missing"].holds is None
    assert found["missing"].reason.startswith("needs the package no_such_package_anywhere")
    assert found["missing"].seconds == 0.0
    assert found["no-data"].reason == "the weights are in no folder"
    assert (found["no-data"].error, found["no-data"].seconds) == (None, 0.0)
    assert "declaration" in found["stale"].reason
    assert not report.ok()


def test_exit_rules():
    good = [
        claim("holds"),
        claim("missing", requires=("package:no_such_package_anywhere",)),
        claim("no-data", Probe("no-data", DataUnavailableError("the weights are in no folder"))),
    ]
    miss = claim("miss", Probe("miss", 2.0), known_miss="measured 2")
    stale = claim("stale", known_miss="measured 2")
    assert reproduce(good).ok(strict=True)
    assert reproduce([*good, miss]).ok()
    assert not reproduce([*good, miss]).ok(strict=True)
    assert not reproduce([*good, stale]).ok()
    assert reproduce([]).ok(strict=True)


def test_a_claim_without_its_data_is_tried_again(log):
    def function(scale, seed):
        note("tried")
        if len(log.read_text().split()) == 1:
            raise DataUnavailableError("the weights are in no folder")
        return evidence()

    assert [reproduce(claim("data", function)).outcomes[0].state for _ in range(3)] == [
        "not run", "holds", "holds",
    ]  # fmt: skip
    assert log.read_text().split() == ["tried"] * 2


def test_scale_and_seed_reach_the_claim_and_select_the_evidence(log):
    def function(scale, seed):
        note(f"{scale}-{seed}")
        return evidence()

    for scale, seed in [("quick", 0), ("quick", 7), ("full", 7), ("quick", 0)]:
        outcome = reproduce(claim("seeded", function), scale=scale, seed=seed).outcomes[0]
        assert (outcome.scale, outcome.seed) == (scale, seed)
    assert log.read_text().split() == ["quick-0", "quick-7", "full-7"]


def test_evidence_is_on_disk_before_the_next_claim_starts(tmp_path):
    first = tmp_path / "out" / "claims" / "test-paper" / "a.quick.0.json"

    def second(scale, seed):
        return Evidence([Measurement("evidence of the first", first.exists(), ">=", 1)])

    for shares in (None, "input"):
        report = reproduce(
            [claim("a", shares=shares), claim("b", second, shares=shares)], out=tmp_path / "out", resume=False
        )
        assert states(report) == {"a": "holds", "b": "holds"}


def test_what_is_measured_is_stored_and_what_went_wrong_is_tried_again(log):
    claims = [
        claim("holds"),
        claim("fails", Probe("fails", 2.0)),
        claim("raises", Probe("raises", ValueError("no"))),
        claim("fast", Probe("fast"), timed=True),
        claim("slow", Probe("slow", 2.0), timed=True),
    ]
    first = reproduce(claims)
    assert log.read_text().split() == ["holds", "fails", "raises", "fast", "slow"]
    log.write_text("")
    second = reproduce(claims)
    assert log.read_text().split() == ["raises", "slow"]
    assert states(first) == states(second)
    reused = [0, 1, 3]
    assert [second.outcomes[i].seconds for i in reused] == [first.outcomes[i].seconds for i in reused]
    # A speed that was missed is measured again, but what was measured is on disk.
    stored = json.loads(next(cache_directory().rglob("slow.quick.0.json")).read_text())
    assert stored["evidence"]["measurements"][0]["value"] == 2.0


def test_resume_false_runs_everything_again(log):
    claims = [claim("a"), claim("b")]
    for resume in (True, False):
        reproduce(claims, resume=resume)
    assert log.read_text().split() == ["a", "b", "a", "b"]


def test_evidence_survives_storage_exactly(tmp_path):
    for folder in ("first", "second"):
        report = reproduce(claim("rich", rich), seed=3, out=tmp_path / folder)
    again = reproduce(claim("rich", rich), seed=3, out=tmp_path / "second")
    page = (tmp_path / "second" / "index.html").read_bytes()
    again.write_html(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page
    old, new = report.outcomes[0], again.outcomes[0]
    assert new.measurements == old.measurements
    assert repr(new.table) == repr(old.table)  # NaN differs from itself
    assert new.table.columns == ("", "x", "name")
    assert (new.figure, new.notes, new.seconds) == (old.figure, "seeded", old.seconds)
    # The same seed draws the same picture, to the byte, in another run.
    first = json.loads((tmp_path / "first/claims/test-paper/rich.quick.3.json").read_text())
    second = json.loads((tmp_path / "second/claims/test-paper/rich.quick.3.json").read_text())
    assert first["evidence"] | {"seconds": 0} == second["evidence"] | {"seconds": 0}


def test_a_new_version_invalidates(log, monkeypatch):
    reproduce(claim("a"))
    monkeypatch.setattr(mlpapers, "__version__", "999.0")
    reproduce(claim("a"))
    assert log.read_text().split() == ["a", "a"]


def test_changed_source_of_the_claims_package_invalidates(tmp_path, monkeypatch, log):
    package = tmp_path / "src" / "changing_paper"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "helper.py").write_text("VALUE = 1\n")
    (package / "claims.py").write_text(
        textwrap.dedent("""
            import os
            from pathlib import Path
            from mlpapers.core.paper import Evidence, Measurement

            def run(scale, seed):
                with Path(os.environ["MLPAPERS_TEST_LOG"]).open("a") as file:
                    file.write("run\\n")
                return Evidence([Measurement("x", 0, "<=", 1)])
            """)
    )
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    from changing_paper import claims  # type: ignore[import-not-found]

    def runs():
        report = reproduce(claim("a", claims.run))
        assert report.outcomes[0].package == "changing_paper"
        return len(log.read_text().split())

    assert [runs(), runs()] == [1, 1]
    (package / "helper.py").write_text("VALUE = 2\n")
    assert [runs(), runs()] == [2, 2]
    (package / "other.py").write_text("")
    assert runs() == 3


def test_claims_without_a_source_file_always_run(log):
    namespace = {"__name__": "typed_in_by_hand", "note": note, "evidence": evidence}
    exec("def run(scale, seed):\n    note('run')\n    return evidence()", namespace)
    for _ in range(2):
        reproduce(claim("a", namespace["run"]))
    assert log.read_text().split() == ["run", "run"]


@pytest.mark.parametrize("damage", ["", "{", '{"format": "other"}', "[]", "\0"])
def test_damaged_evidence_counts_as_missing(tmp_path, log, damage):
    reproduce(claim("a"), out=tmp_path)
    path = tmp_path / "claims/test-paper/a.quick.0.json"
    whole = path.read_text()
    path.write_text(damage)
    assert states(reproduce(claim("a"), out=tmp_path)) == {"a": "holds"}
    assert log.read_text().split() == ["a", "a"]
    assert json.loads(path.read_text())["key"] == json.loads(whole)["key"]


def test_evidence_with_a_hole_is_named_in_the_log(tmp_path, caplog):
    reproduce(claim("a"), out=tmp_path)
    path = tmp_path / "claims/test-paper/a.quick.0.json"
    content = json.loads(path.read_text())
    del content["evidence"]["measurements"]
    path.write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        reproduce(claim("a"), out=tmp_path)
    assert f"{path} is damaged" in caplog.text


def test_interrupt_propagates_and_leaves_what_was_finished(log):
    claims = [claim("a"), claim("b", Probe("b", KeyboardInterrupt())), claim("c")]
    with pytest.raises(KeyboardInterrupt):
        reproduce(claims)
    assert log.read_text().split() == ["a", "b"]
    claims[1] = claim("b", Probe("b2"))
    assert states(reproduce(claims)) == {"a": "holds", "b": "holds", "c": "holds"}
    assert log.read_text().split() == ["a", "b", "b2", "c"]


def test_progress_hook_sees_every_outcome_found_ones_first():
    calls = []
    reproduce(claim("b"))
    report = reproduce(
        [claim("a"), claim("b"), claim("c", timed=True)], on_outcome=lambda *call: calls.append(call)
    )
    assert [(outcome.id, *rest) for outcome, *rest in calls] == [
        ("test-paper/b", 1, 3, True),
        ("test-paper/a", 2, 3, False),
        ("test-paper/c", 3, 3, False),
    ]
    assert [outcome.id for outcome in report.outcomes] == [f"test-paper/{name}" for name in "abc"]


def test_without_out_evidence_goes_to_the_users_cache(tmp_path, monkeypatch):
    reproduce(claim("a"))
    assert (tmp_path / "cache/claims/test-paper/a.quick.0.json").exists()
    monkeypatch.delenv("MLPAPERS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    reproduce(claim("a"))
    assert (tmp_path / "xdg/mlpapers/claims/test-paper/a.quick.0.json").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scale": "huge"}, ValueError, "scale must be one of 'quick', 'full'"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"seed": 0.5}, TypeError, "seed must be an integer"),
        ({"resume": 1}, TypeError, "resume must be True or False"),
        ({"claims": "no-such-paper"}, ValueError, "claims names no paper, package or claim: 'no-such-paper'"),
        ({"claims": [3]}, TypeError, "claims must be names or Claim objects"),
        (
            {"claims": [claim("a", rich), claim("a", rich)]},
            ValueError,
            "two different claims with the id 'test-paper/a'",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        reproduce(**{"claims": claim("a"), **arguments})


def test_workers_give_what_one_process_gives(tmp_path):
    claims = [
        claim("rich", rich),
        *(claim(name, Probe(name, outcome), **fields) for name, (outcome, fields, _) in CASES.items()),
    ]
    serial = reproduce(claims, seed=5, out=tmp_path / "serial")
    parallel = reproduce(claims, seed=5, out=tmp_path / "parallel", n_jobs=2)
    assert without_seconds(parallel) == without_seconds(serial)
    assert parallel.outcomes[0].figure == serial.outcomes[0].figure
    assert repr(parallel.outcomes[0].table) == repr(serial.outcomes[0].table)


def test_sharing_claims_run_in_one_worker_and_timed_ones_last_in_the_parent(log):
    claims = [
        claim("fast", in_parent, timed=True),
        *(claim(f"a{i}", in_worker, shares="input") for i in range(3)),
        *(claim(f"b{i}", in_worker) for i in range(2)),
    ]
    order = []
    report = reproduce(claims, n_jobs=2, on_outcome=lambda outcome, *_: order.append(outcome.id))
    process = {outcome.id: outcome.measurements[0].value for outcome in report.outcomes}
    assert len({process[f"test-paper/a{i}"] for i in range(3)}) == 1
    assert os.getpid() not in process.values()
    assert order[-1] == "test-paper/fast"
    assert log.read_text() == "timed in parent\n"


def test_workers_share_the_cores():
    share = max(1, count_cores() // 2)
    for outcome in reproduce([claim("a", threads), claim("b", threads)], n_jobs=2).outcomes:
        assert {m.name: m.value for m in outcome.measurements if m.value > share} == {}


def test_threads_of_a_loaded_torch_are_lowered_never_raised(monkeypatch):
    class Torch(types.ModuleType):
        n_threads = 8

        def get_num_threads(self):
            return self.n_threads

        def set_num_threads(self, n_threads):
            self.n_threads = n_threads

    torch = Torch("torch")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    with threadpool_limits():
        for limit, expected in [(3, 3), (5, 3)]:
            _limit_threads(limit)
            assert torch.n_threads == expected


def test_a_group_whose_worker_died_goes_on_where_it_was(log):
    claims = [claim("a", shares="x"), claim("b", DiesOnce("b"), shares="x"), claim("c")]
    assert states(reproduce(claims, n_jobs=2)) == {"a": "holds", "b": "holds", "c": "holds"}
    words = log.read_text().split()
    assert (words.count("a"), words.count("b")) == (1, 2)


def test_worker_that_does_not_see_the_folder_writes_nothing(tmp_path):
    store = EvidenceStore.open(tmp_path / "here")
    elsewhere = dataclasses.replace(store, directory=tmp_path / "not-mounted")
    stranger = dataclasses.replace(EvidenceStore.open(tmp_path / "namesake"), identity=store.identity)
    tasks = _make_tasks([claim("a")], "quick", 0)
    for remote in (elsewhere, stranger):
        assert _Worker(remote, 1, os.getpid())(tasks)[0].state == "holds"
    assert not (tmp_path / "not-mounted").exists()
    assert [path.name for path in (tmp_path / "namesake").rglob("*")] == ["store.json"]


SIDE_PAPER = {
    "sidepaper/__init__.py": "",
    "sidepaper/papers.py": """
        from mlpapers.core.paper import Paper

        PAPER = Paper(key="side-paper", title="Side", authors=["A. Author"], year=2024, venue="Nowhere",
                      package="sidepaper", summary="For a test.")
        """,
    "sidepaper/claims.py": """
        import os, time
        from pathlib import Path
        from mlpapers.core.paper import Evidence, Measurement
        from sidepaper.papers import PAPER

        def run(name, blocks=False):
            with Path("runs.log").open("a") as file:
                file.write(name + "\\n")
            # Ends by itself, so that a worker whose parent was killed does not stay for ever.
            deadline = time.monotonic() + 30
            while blocks and Path("block").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            return Evidence([Measurement("x", len(name), "<=", 10)])

        @PAPER.claim("a", "A.", source="1", shares="input")
        def a(scale, seed): return run("a")

        @PAPER.claim("b", "B.", source="2", shares="input")
        def b(scale, seed): return run("b")

        @PAPER.claim("c", "C.", source="3", shares="input")
        def c(scale, seed): return run("c", blocks=True)

        @PAPER.claim("d", "D.", source="4")
        def d(scale, seed): return run("d")
        """,
    "sidepaper-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: sidepaper\nVersion: 1\n",
    "sidepaper-1.dist-info/entry_points.txt": "[mlpapers.papers]\nside = sidepaper.papers\n",
    "main.py": """
        import sys
        from mlpapers.core.reproduce import reproduce

        if __name__ == "__main__":
            reproduce("side-paper", n_jobs=int(sys.argv[1]), out="out")
        """,
}


@pytest.fixture
def side_paper(tmp_path):
    """A paper in somebody's own distribution, and a script that reproduces it."""
    for name, text in SIDE_PAPER.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())

    def start(n_jobs):
        source = str(Path(mlpapers.__file__).parents[1])
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), source])}
        return subprocess.Popen(
            [sys.executable, "main.py", str(n_jobs)], cwd=tmp_path, env=environment, start_new_session=True
        )

    return start


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the other process did not get there"
        time.sleep(0.02)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs POSIX process groups")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_killed_run_goes_on_where_it_stopped(tmp_path, side_paper, n_jobs):
    runs, block, page = tmp_path / "runs.log", tmp_path / "block", tmp_path / "out/index.html"
    block.touch()
    process = side_paper(n_jobs)
    wait_for(lambda: runs.exists() and "c" in runs.read_text().split())
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    begun = runs.read_text().split()
    evidence_files = {path.name: path.read_bytes() for path in (tmp_path / "out/claims/side-paper").iterdir()}
    assert {"a.quick.0.json", "b.quick.0.json"} <= set(evidence_files)
    assert "c.quick.0.json" not in evidence_files
    assert not page.exists()

    block.unlink()
    assert side_paper(n_jobs).wait() == 0
    words = runs.read_text().split()
    assert {name: words.count(name) for name in "abc"} == {"a": 1, "b": 1, "c": 2}
    # With two workers the kill may find the claim beside the group stored, under way, or not yet begun.
    assert words.count("d") == begun.count("d") + ("d.quick.0.json" not in evidence_files)
    for name, content in evidence_files.items():
        assert (tmp_path / "out/claims/side-paper" / name).read_bytes() == content

    first = page.read_bytes()
    assert side_paper(n_jobs).wait() == 0
    assert runs.read_text().split() == words
    assert page.read_bytes() == first


def test_claims_of_a_script_reach_workers(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import os
            from mlpapers.core.paper import Claim, Evidence, Measurement
            from mlpapers.core.reproduce import reproduce

            def run(scale, seed):
                return Evidence([Measurement("process", os.getpid(), ">", 0)])

            def make(offset):
                return lambda scale, seed: Evidence([Measurement("process", os.getpid() + offset, ">", 0)])

            if __name__ == "__main__":
                claims = [Claim("script/a", "A.", "1", run), Claim("script/b", "B.", "2", make(0))]
                report = reproduce(claims, n_jobs=2, out="out")
                assert [outcome.state for outcome in report.outcomes] == ["holds", "holds"], report
                assert os.getpid() not in [outcome.measurements[0].value for outcome in report.outcomes]
            """)
    )
    environment = os.environ | {"PYTHONPATH": str(Path(mlpapers.__file__).parents[1])}
    subprocess.run([sys.executable, script.name], cwd=tmp_path, env=environment, check=True)
