"""Kill a deletion at every line it executes, recover, and check what is left; run as a script, prints JSON.

Each trial forks: the child carries out one request and is ended by SIGKILL at the n-th step, a step being a
line of the transaction, of the log's append or of the atomic write; with ``--all`` also every line of the
modules around them and every call into zipfile while the state file is written. For torn appends it dies
after half of the bytes. The parent then does what an operator does: load the state file, `recover`, and
repeat the request if nobody had acknowledged it.
"""

import json
import os
import shutil
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

from mlpapers.unlearning import DeletionLog, DVWUClassifier, recover

TRANSACTION = (
    "_carry_out",
    "append",
    "_write",
    "_accept",
    "atomic_write",
    "write_state",
    "sync_folder",
    "_log_commit",
)
LINES = ("log.py", "_unlearning.py", "_persistence.py", "_state.py", "_files.py", "_lock.py", "_rows.py")
CALLS = ("zipfile.py", "zipfile/__init__.py")
FORGOTTEN = [3, 17]


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_step(n, everywhere):
    """Return a trace function that ends the process at the n-th step."""
    count = 0

    def step():
        nonlocal count
        count += 1
        if count == n:
            kill()

    def trace(frame, event, _):
        name = frame.f_code.co_filename
        if name.endswith(LINES) and "mlpapers" in name:
            if event == "line" and (everywhere or frame.f_code.co_name in TRANSACTION):
                step()
            return trace
        if everywhere and event == "call" and name.endswith(CALLS):
            step()
        return None

    return trace


def torn_write(n):
    """Make the n-th os.write of the log write half of its bytes and die."""
    write = os.write
    count = 0

    def half(descriptor, content):
        nonlocal count
        count += 1
        if count == n:
            write(descriptor, content[: len(content) // 2])
            kill()
        return write(descriptor, content)

    os.write = half


def run_child(prepare, model):
    """Fork, carry out the request under `prepare`, and return whether the child was killed."""
    child = os.fork()
    if child == 0:
        try:
            prepare()
            model.unlearn(FORGOTTEN, request_id="r1")
            sys.settrace(None)
        except BaseException:  # noqa: BLE001 - a forked child must not return into the loop
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the request failed"
    return False


def check_recovery(folder, reference, rows):
    """Recover as an operator would; return what is wrong, or an empty list."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # a torn line that is cut off is reported as a warning
        model = DVWUClassifier.load(folder / "state")
        log = DeletionLog(folder / "log")
        recover(model, log)
        if model.forget_indices_.size == 0:
            model.unlearn(FORGOTTEN, request_id="r1")
    wrong = []
    if model.forget_indices_.tolist() != FORGOTTEN:
        wrong.append(f"removed {model.forget_indices_.tolist()}")
    events = [record["event"] for record in log.records() if record.get("request_id") == "r1"]
    if events != ["request", "commit"]:
        wrong.append(f"events {events}")
    if not log.verify().ok or log.pending():
        wrong.append("log not whole")
    if not np.array_equal(model.coef_, reference):
        wrong.append("other parameters")
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    if any(row.tobytes() in content for row in rows):
        wrong.append("row bytes on disk")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    recover(DVWUClassifier.load(folder / "state"), DeletionLog(folder / "log"))
    if {path.name: path.read_bytes() for path in folder.iterdir()} != before:
        wrong.append("recovering again changes files")
    return wrong


def main(folder, everywhere):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    y = np.arange(40) % 2
    place, pristine = folder / "work", folder / "pristine"
    place.mkdir()
    DVWUClassifier(random_state=0, log_path=place / "log", state_path=place / "state").fit(X, y)
    shutil.copytree(place, pristine)
    reference = DVWUClassifier(random_state=0).fit(X, y)
    reference.unlearn(FORGOTTEN)

    trials = {"killed": 0, "failures": []}

    def trial(name, prepare):
        shutil.rmtree(place)
        shutil.copytree(pristine, place)
        killed = run_child(prepare, DVWUClassifier.load(place / "state"))
        wrong = check_recovery(place, reference.coef_, X[FORGOTTEN])
        if wrong:
            trials["failures"].append(f"{name}: {', '.join(wrong)}")
        trials["killed"] += killed
        return killed

    step = 0
    while True:
        step += 1
        if not trial(f"step {step}", lambda n=step: sys.settrace(kill_at_step(n, everywhere))):
            break
    write = 0
    while True:
        write += 1
        if not trial(f"torn write {write}", lambda n=write: torn_write(n)):
            break
    print(json.dumps({**trials, "steps": step - 1, "writes": write - 1}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--all" in sys.argv)
