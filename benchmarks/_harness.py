"""Times ours and a peer side by side in one run: interleaved repeats, ratios, a table, JSON.

A busy machine slows whatever runs on it at that moment. Ours and the peer therefore take turns, and what is
reported is the ratio of each turn: its median, lowest and highest, on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numba
import numpy as np
from threadpoolctl import threadpool_limits


class PeerMissing(Exception):
    """A peer cannot be imported; the message says why."""


@dataclass
class Case:
    """One comparison.

    Parameters
    ----------
    name : str
        What is computed, e.g. ``"KNN-Shapley n=5000 m=500"``.
    ours : callable
        Takes no argument and returns the values.
    peers : dict of str to callable
        Name of a peer to a function that imports it and returns what computes the same; it raises
        :class:`PeerMissing` where it cannot. Preparation that is not timed belongs there.
    targets : dict of str to float
        Least ratio (theirs / ours) to reach.
    tolerances : dict of str to float
        Largest difference of values allowed.
    repeats : int
        Turns.
    """

    name: str
    ours: Callable[[], Any]
    peers: dict[str, Callable[[], Callable[[], Any]]] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    repeats: int = 5


@dataclass
class Row:
    """A line of the table: seconds of ours, and against a peer the ratio theirs / ours of each turn."""

    case: str
    peer: str = ""
    ours_s: float = float("nan")
    peer_s: float = float("nan")
    ratio: float = float("nan")
    ratio_low: float = float("nan")
    ratio_high: float = float("nan")
    target: float | None = None
    difference: float | None = None
    tolerance: float | None = None
    skipped: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether target and tolerance are met; None where nothing was to reach."""
        if self.skipped or (self.target is None and self.tolerance is None):
            return None
        fast = self.target is None or self.ratio >= self.target
        same = self.tolerance is None or (self.difference is not None and self.difference <= self.tolerance)
        return fast and same


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit BLAS, OpenMP, numba and (where it is loaded) torch to one thread."""
    numba_threads = numba.get_num_threads()
    numba.set_num_threads(1)
    torch = sys.modules.get("torch")
    torch_threads = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        numba.set_num_threads(numba_threads)
        if torch:
            torch.set_num_threads(torch_threads)


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and result of one call, with garbage collected before and not during it."""
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        result = function()
        return time.perf_counter() - start, result
    finally:
        gc.enable()


def run_case(case: Case, with_peers: bool) -> list[Row]:
    """Time one case: alone, or in turns with each of its peers."""
    with one_thread():
        case.ours()  # compiles
    if not with_peers or not case.peers:
        with one_thread():
            seconds = [timed(case.ours)[0] for _ in range(case.repeats)]
        return [Row(case.name, ours_s=statistics.median(seconds))]
    rows = []
    for peer, prepare in case.peers.items():
        row = Row(case.name, peer, target=case.targets.get(peer), tolerance=case.tolerances.get(peer))
        rows.append(row)
        try:
            theirs = prepare()
        except PeerMissing as reason:
            row.skipped = str(reason)
            continue
        ours_s, peer_s = [], []
        with one_thread():
            for turn in range(case.repeats):
                pair = [(ours_s, case.ours), (peer_s, theirs)]
                results = {}
                for seconds, function in pair if turn % 2 == 0 else reversed(pair):
                    elapsed, results[id(function)] = timed(function)
                    seconds.append(elapsed)
        ratios = [b / a for a, b in zip(ours_s, peer_s)]
        row.ours_s, row.peer_s = statistics.median(ours_s), statistics.median(peer_s)
        row.ratio, row.ratio_low, row.ratio_high = statistics.median(ratios), min(ratios), max(ratios)
        if row.tolerance is not None:
            a, b = (np.asarray(results[id(function)], dtype=float) for function in (case.ours, theirs))
            row.difference = float(np.abs(a - b).max())
    return rows


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text."""
    head = f"{'case':<32} {'peer':<12} {'ours s':>9} {'peer s':>9} {'ratio':>8} {'low..high':>16}"
    lines = [f"{head} {'target':>7} {'max diff':>9}"]
    for row in rows:
        if row.skipped:
            lines.append(f"{row.case:<32} {row.peer:<12} skipped: {row.skipped}")
            continue
        line = f"{row.case:<32} {row.peer:<12} {row.ours_s:>9.4g}"
        if row.peer:
            spread = f"{row.ratio_low:.3g}..{row.ratio_high:.3g}"
            line += f" {row.peer_s:>9.4g} {row.ratio:>8.3g} {spread:>16}"
            line += f" {row.target:>7.3g}" if row.target is not None else " " * 8
            line += f" {row.difference:>9.2g}" if row.difference is not None else ""
            line += {True: "  ok", False: "  MISSED", None: ""}[row.reached]
        lines.append(line)
    return "\n".join(lines)


def peak_memory() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 2**20 if platform.system() == "Darwin" else size / 2**10


def main(cases: Sequence[Callable[[], Case]], argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks of one file as a command; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description="Time ours, and with --peers other libraries beside it.")
    parser.add_argument("--peers", action="store_true", help="run the other libraries too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to a file")
    parser.add_argument("-k", default="", metavar="TEXT", help="only cases whose name contains this")
    parser.add_argument("--repeats", type=int, metavar="N", help="turns per case")
    options = parser.parse_args(argv)
    rows: list[Row] = []
    for make in cases:
        case = make()
        if options.k not in case.name:
            continue
        case.repeats = options.repeats or case.repeats
        rows += run_case(case, options.peers)
        print(f"{case.name}: done", file=sys.stderr, flush=True)
    print(table(rows))
    print(f"peak resident memory {peak_memory():.0f} MiB; numpy {np.__version__}, numba {numba.__version__}")
    if options.json:
        machine = {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "numpy": np.__version__,
        }
        record = {"machine": machine, "peak_mib": peak_memory(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 1 if any(row.reached is False for row in rows) else 0
