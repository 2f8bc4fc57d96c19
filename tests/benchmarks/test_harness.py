"""The harness: turns, ratios, peers that cannot run, the file of a script."""

import numpy as np
import pytest


class Clock:
    """Time that functions move on themselves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def taking(self, *seconds, value=0.0):
        """Return a function that takes so long, call by call; the last duration stays."""
        left = list(seconds)

        def run():
            self.now += left.pop(0) if len(left) > 1 else left[0]
            return value

        return run


@pytest.fixture
def clock(harness, monkeypatch):
    made = Clock()
    monkeypatch.setattr(harness.time, "perf_counter", made)
    return made


def test_ratio_is_that_of_each_turn(harness, clock):
    ours = clock.taking(99.0, 1.0, 2.0, 4.0)  # the first call compiles and is not timed
    theirs = clock.taking(10.0, 40.0, 20.0)
    case = harness.Case("c", ours, {"peer": lambda: theirs}, {"peer": 5.0}, repeats=3)
    (row,) = harness.run_case(case, with_peers=True)
    assert (row.ours, row.theirs, row.turns) == (2.0, 20.0, 3)
    assert (row.ratio, row.low, row.high) == (10.0, 5.0, 20.0)
    assert row.verdict == "met"


def test_ours_alone_without_peers(harness, clock):
    case = harness.Case("c", clock.taking(9.0, 1.0, 5.0, 3.0), {"peer": pytest.fail}, repeats=3)
    (row,) = harness.run_case(case, with_peers=False)
    assert (row.peer, row.ours, row.turns, row.verdict) == ("", 3.0, 3, "")


def test_turns_change_sides(harness):
    calls = []
    case = harness.Case(
        "c", lambda: calls.append("ours"), {"p": lambda: lambda: calls.append("theirs")}, repeats=3
    )
    harness.run_case(case, with_peers=True)
    assert calls == ["ours", "ours", "theirs", "theirs", "ours", "ours", "theirs"]


def test_results_are_compared(harness):
    peers = {"near": lambda: lambda: np.array([1.0, 2.5]), "far": lambda: lambda: np.array([1.0, 4.0])}
    tolerances = {"near": 0.5, "far": 0.5}
    case = harness.Case("c", lambda: np.array([1.0, 2.0]), peers, tolerances=tolerances, repeats=1)
    near, far = harness.run_case(case, with_peers=True)
    assert (near.difference, near.verdict) == (0.5, "met")
    assert (far.difference, far.verdict) == (2.0, "missed")


def test_a_peer_that_cannot_run_leaves_its_reason_and_the_others_run(harness):
    def missing():
        raise harness.PeerMissing("cannot import (/usr/lib/somewhere/x.py)")

    def broken():
        raise IndexError("too many indices")

    peers = {"missing": missing, "broken": lambda: broken, "fine": lambda: int}
    case = harness.Case("c", int, peers, dict.fromkeys(peers, 0.0), repeats=2)
    rows = {row.peer: row for row in harness.run_case(case, with_peers=True)}
    assert rows["missing"].skipped == "cannot import"
    assert rows["broken"].skipped == "the peer raised IndexError('too many indices')"
    assert [rows[name].verdict for name in peers] == ["not run", "not run", "met"]
    assert rows["broken"].target == 0.0


def test_an_error_of_ours_is_not_hidden(harness):
    calls = iter([0.0])

    with pytest.raises(StopIteration):
        harness.run_case(harness.Case("c", lambda: next(calls), {"p": lambda: int}), with_peers=True)


def test_versions(harness):
    assert harness.version_of("numpy BLAS") == np.__version__
    assert harness.version_of("no such distribution") == ""
    assert harness.version_of("(QK')V") == ""


def test_one_thread_gives_the_threads_back(harness):
    before = harness.numba.get_num_threads()
    with harness.one_thread():
        assert harness.numba.get_num_threads() == 1
    assert harness.numba.get_num_threads() == before


def test_command_writes_rows_of_cases_and_figures(harness, rows, tmp_path, capsys):
    def memory(with_peers):
        yield rows.Row(what="memory", unit="MiB", ours=2.0, target=1.0, relation="<=")
        assert with_peers

    def case():
        return harness.Case("fast case", int, {"numpy": lambda: int}, {"numpy": 0.0})

    path = tmp_path / "demo.json"
    status = harness.main([case], ["--peers", "--json", str(path), "--repeats", "2"], figures=[memory])
    record = rows.read_records(path)["demo"]
    assert status == 1  # the memory
    assert [(row.what, row.turns, row.verdict) for row in record.rows] == [
        ("memory", 0, "missed"), ("fast case", 2, "met"),
    ]  # fmt: skip
    assert record.rows[1].version == np.__version__
    assert {"cores", "python", "numpy"} <= set(record.environment)
    assert not {"commit", "platform"} & set(record.environment)
    out = capsys.readouterr().out
    assert "fast case" in out
    assert "missed" in out


def test_command_chooses_by_name(harness, rows, tmp_path):
    def memory(_):
        raise AssertionError("not chosen")

    path = tmp_path / "demo.json"
    cases = [lambda: harness.Case("one", int), lambda: harness.Case("two", int)]
    assert harness.main(cases, ["-k", "tw", "--json", str(path)], figures=[memory]) == 0
    assert [row.what for row in rows.read_records(path)["demo"].rows] == ["two"]
