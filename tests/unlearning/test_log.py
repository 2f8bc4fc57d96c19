"""The log: canonical, chained, repaired only at a torn end."""

import json
import os
import pickle
import subprocess
import sys
import time

import pytest

from mlpapers.unlearning import DeletionLog, LogCorruptionError
from mlpapers.unlearning.log import GENESIS, canonical, hash_record


@pytest.fixture
def log(tmp_path):
    log = DeletionLog(tmp_path / "log.jsonl")
    log.append("fit", indices=[], params_digest="ab", residual_bound=1e-9, budget=None)
    log.append("request", request_id="r1", indices=[3, 4])
    log.append("commit", request_id="r1", indices=[3, 4], action="newton", params_digest="cd")
    return log


def test_records_are_canonical_and_chained(log):
    lines = log.path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    previous = GENESIS
    for number, line in enumerate(lines):
        record = json.loads(line)
        assert line == json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
        assert record["seq"] == number
        assert record["prev_hash"] == previous
        previous = record["hash"]
        assert previous == hash_record(record)
    assert log.records() == [json.loads(line) for line in lines]
    report = log.verify()
    assert (report.ok, report.n_records, report.first_bad, report.torn_tail) == (True, 3, None, False)


def test_flipping_any_byte_is_found(log):
    content = log.path.read_bytes()
    starts = [0]
    for line in content.split(b"\n")[:-1]:
        starts.append(starts[-1] + len(line) + 1)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        log.path.write_bytes(damaged)
        report = log.verify()
        assert not report.ok
        number = max(i for i, start in enumerate(starts) if start <= position)
        # A damaged terminator joins a record to the next, or leaves the last line torn.
        assert report.first_bad == number or (report.torn_tail and position == len(content) - 1)
    log.path.write_bytes(content)
    assert log.verify().ok


def test_removed_swapped_and_forged_records_are_found(log):
    lines = log.path.read_bytes().split(b"\n")[:-1]
    for changed, first_bad in (
        ([lines[0], lines[2]], 1),
        ([lines[1], lines[0], lines[2]], 0),
        ([lines[0], lines[1], lines[1]], 2),
    ):
        log.path.write_bytes(b"\n".join(changed) + b"\n")
        assert log.verify().first_bad == first_bad
    forged = json.loads(lines[1])
    forged["indices"] = [5]
    forged["hash"] = hash_record(forged)  # sound in itself, but what follows does not follow it
    log.path.write_bytes(b"\n".join([lines[0], canonical(forged), lines[2]]) + b"\n")
    assert log.verify().first_bad == 2


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.pop("event"),
        lambda record: record.update(event="erase"),
        lambda record: record.update(seq=7),
        lambda record: record.update(prev_hash="0" * 63 + "1"),
    ],
)
def test_malformed_records_are_refused(tmp_path, change):
    log = DeletionLog(tmp_path / "log")
    record = log.append("request", request_id="r", indices=[1])
    change(record)
    record.pop("hash")
    record["hash"] = hash_record(record)
    log.path.write_bytes(canonical(record) + b"\n")
    assert log.verify().first_bad == 0
    with pytest.raises(LogCorruptionError, match="record 0"):
        DeletionLog(log.path).append("commit")


@pytest.mark.parametrize(
    "content", [b"not json\n", b"[1]\n", b"\xff\xfe\n", b'{"a":NaN}\n', b"\n", b"[" * 5000 + b"\n"]
)
def test_verify_never_raises(tmp_path, content):
    path = tmp_path / "log"
    path.write_bytes(content)
    assert DeletionLog(path).verify().first_bad == 0
    with pytest.raises(LogCorruptionError):
        DeletionLog(path).records()


def test_a_torn_tail_is_reported_and_cut_off_by_the_next_append(log):
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + b'{"seq":3,"ev')
    report = log.verify()
    assert (report.ok, report.torn_tail, report.first_bad, report.n_records) == (False, True, None, 3)
    assert len(log.records()) == 3
    with pytest.warns(RuntimeWarning, match="torn last line of 12 bytes"):
        record = log.append("release")
    assert record["seq"] == 3
    assert log.verify().ok
    assert log.path.read_bytes().startswith(whole)


def test_pending_requests_are_those_without_commit_since_the_last_fit(log):
    assert log.pending() == []
    log.append("request", request_id="r2", indices=[9])
    assert [record["request_id"] for record in log.pending()] == ["r2"]
    assert log.find("r2")[1] is False
    assert log.find("r1")[1] is True
    log.append("fit", indices=[])
    assert log.pending() == []
    assert log.find("r1") == (None, False)
    log.append("request", request_id="r2", indices=[1])
    assert log.pending()[0]["indices"] == [1]


def test_two_objects_and_a_copy_continue_one_chain(log):
    other, copied = DeletionLog(log.path), pickle.loads(pickle.dumps(log))
    for number, writer in enumerate((other, log, copied, other)):
        assert writer.append("release", note=number)["seq"] == 3 + number
    assert log.verify().n_records == 7


def test_processes_append_one_after_the_other(log):
    script = (
        "import sys; from mlpapers.unlearning import DeletionLog\n"
        "log = DeletionLog(sys.argv[1])\n"
        "for number in range(20): log.append('release', number=number)"
    )
    command = [sys.executable, "-c", script, str(log.path)]
    writers = [subprocess.Popen(command) for _ in range(2)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    report = log.verify()
    assert (report.ok, report.n_records) == (True, 43)


def test_a_file_that_was_replaced_is_read_anew(log):
    content = log.path.read_bytes()
    first = content.split(b"\n")[0] + b"\n"
    log.path.unlink()
    log.path.write_bytes(first)
    assert log.append("release")["seq"] == 1
    assert log.verify().ok


def test_a_failed_write_leaves_no_half_record(log, monkeypatch):
    whole = log.path.read_bytes()
    write = os.write

    def full_disk(descriptor, content):
        write(descriptor, content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(OSError, match="No space"):
        log.append("release")
    monkeypatch.undo()
    assert log.path.read_bytes() == whole
    assert log.append("release")["seq"] == 3


def test_an_absent_log_is_empty(tmp_path):
    log = DeletionLog(tmp_path / "none")
    assert log.records() == log.pending() == []
    assert log.verify().n_records == 0
    assert not log.path.exists()


def test_bad_appends_are_refused(log):
    with pytest.raises(ValueError, match="event must be one of 'fit', 'request'"):
        log.append("erase")
    with pytest.raises(ValueError, match="fields must not set hash"):
        log.append("fit", hash="0")
    with pytest.raises(TypeError, match="indices must be a JSON value"):
        log.append("fit", indices={1, 2})
    with pytest.raises(ValueError, match="bound must be a JSON value; got nan"):
        log.append("fit", bound=float("nan"))
    assert log.verify().n_records == 3


def test_ten_thousand_records_are_read_in_a_second(tmp_path):
    """Without a model: reading and checking is what replay adds to the removals themselves."""
    previous, lines = GENESIS, []
    for seq in range(10_000):
        record = {"seq": seq, "time_utc": "t", "event": "request", "request_id": str(seq), "indices": [seq]}
        record["prev_hash"] = previous
        record["hash"] = previous = hash_record(record)
        lines.append(canonical(record))
    path = tmp_path / "long"
    path.write_bytes(b"\n".join(lines) + b"\n")
    started = time.process_time()
    assert len(DeletionLog(path).records()) == 10_000
    # 0.15 s of processor time on an idle core; the target is one second.
    assert time.process_time() - started < 1.0
