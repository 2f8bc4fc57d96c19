"""A folder for one process at a time."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from mlpapers.core import _lock
from mlpapers.core._lock import only_process

HOLD = """
import sys
from mlpapers.core._lock import only_process
with only_process(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("kill", [False, True], ids=["ends", "killed"])
def test_a_second_process_is_refused_while_the_first_lives(tmp_path, kill):
    with hold(tmp_path) as other:
        for _ in range(2):
            with (
                pytest.raises(BlockingIOError, match=f"process {other.pid}") as caught,
                only_process(tmp_path),
            ):
                raise AssertionError("two at once")
        assert caught.value.filename == str(tmp_path)
        if kill:
            other.kill()
        else:
            other.stdin.write("\n")
    with only_process(tmp_path), hold(tmp_path / "..") as another:
        another.kill()


FORK = """
import os, sys, time
from mlpapers.core._lock import only_process
with only_process(sys.argv[1]):
    child = os.fork()
    if child == 0:
        time.sleep(60)
    print(child, flush=True)
    os._exit(0)
"""


def test_a_child_that_outlives_its_parent_does_not_hold_it(tmp_path):
    command = [sys.executable, "-c", FORK, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
    try:
        with only_process(tmp_path):
            os.kill(child, 0)  # it lives
    finally:
        os.kill(child, signal.SIGKILL)


def test_it_ends_with_the_context_even_after_an_error(tmp_path):
    with pytest.raises(KeyError), only_process(tmp_path):
        raise KeyError
    with hold(tmp_path) as other:
        other.kill()


def test_systems_without_locks_are_not_guarded(tmp_path, monkeypatch):
    import fcntl

    def lockf(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with only_process(tmp_path):
        assert (tmp_path / _lock.LOCK_FILE).read_text() == f"{os.getpid()}\n"
    monkeypatch.setattr(fcntl, "lockf", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "I/O error")))
    with pytest.raises(OSError, match="I/O error") as caught, only_process(tmp_path):
        raise AssertionError("not held")
    assert caught.value.filename == str(tmp_path / _lock.LOCK_FILE)
