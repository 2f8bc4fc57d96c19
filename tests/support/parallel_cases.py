"""Tasks for worker processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from mlpapers.core.paper import Claim, Evidence, Measurement


def square(task):
    return task * task


def locate(table, scale, task):
    return float(table[task] * scale), bool(table.flags.writeable)


def draw(seed):
    return np.random.default_rng(seed).normal(size=5)


def fail_at_three(task):
    if task == 3:
        raise LookupError("task 3 is not there")
    return task


def sleep_backwards(task):
    time.sleep(0.05 * (3 - task))
    return task


def heavy_draw(table, seed):
    """Numbers that depend on every bit of the shared table and of the seed."""
    noise = np.random.default_rng(seed).normal(size=table.shape)
    time.sleep(0.02)
    return np.cumsum(np.sort((table * noise).ravel()))[-8:]


def die_once(marker, task):
    """Kill the own process at task 2, the first time only."""
    path = Path(marker)
    if task == 2 and not path.exists():
        path.touch()
        os._exit(1)
    return draw(task)


def kill_worker_once(marker, parent, seed):
    """Like heavy draws, but the first worker to get here is killed like a lost machine."""
    path = Path(marker)
    if os.getpid() != parent and not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return heavy_draw(np.arange(50.0), seed)


def process_id(task):
    time.sleep(0.05)
    return os.getpid()


def always_die(task):
    os._exit(1)


class FragileGame:
    """A smooth game of 8 players; with a marker file, the first worker that evaluates it is killed."""

    def __init__(self, marker, parent):
        self.marker = str(marker)
        self.parent = parent

    def __call__(self, coalition):
        path = Path(self.marker)
        if os.getpid() != self.parent and len(coalition) == 4 and not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return float(np.sin(1.0 + np.sum((coalition + 1.0) ** 0.5)))


def fragile_claims(marker, parent):
    """Two claims; the second kills the first worker that runs it."""

    def steady(_scale, seed):
        return Evidence([Measurement("draw", np.random.default_rng(seed).random(), "<=", 1.0)])

    def fragile(_scale, seed):
        value = kill_worker_once(marker, parent, np.random.SeedSequence(seed))
        return Evidence([Measurement("last number", value[-1], ">", 0.0)])

    return [
        Claim(id=f"a-paper/{function.__name__}", statement="It holds.", source="Theorem 1", function=function)
        for function in (steady, fragile)
    ]
