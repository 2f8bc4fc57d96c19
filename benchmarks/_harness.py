"""Times ours and a peer side by side in one run: interleaved repeats, ratios, a table, JSON.

A busy machine slows whatever runs on it at that moment. Ours and the peer therefore take turns, and what is
reported is the ratio of each turn: its median, lowest and highest, on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import gc
import importlib.metadata
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
from threadpoolctl import threadpool_limits

from mlpapers.core._files import write_text
from mlpapers.core.environment import describe_environment

sys.path.insert(0, str(Path(__file__).parent))
from _rows import Record, Row, finite, records_text, table, without_paths

# A function of whether peers run too, for rows that are no times side by side.
Figures = Callable[[bool], Iterable[Row]]


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
        Name of a peer, the first word being that of its distribution if it has one, to a function that
        imports it and returns what computes the same; it raises :class:`PeerMissing` where it cannot.
        Preparation that is not timed belongs there.
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


def version_of(peer: str) -> str:
    """Return the version of the distribution that the peer's first word names; empty where there is none."""
    name = peer.split()[0]
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        return ""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return ""


def compared(
    what: str, peer: str, ours: Sequence[float], theirs: Sequence[float], *, unit: str = "s", **more: Any
) -> Row:
    """Return the row of two figures that were measured in turns, less of which is better."""
    ratios = [b / a if a else float("nan") for a, b in zip(ours, theirs)]
    return Row(
        what=what,
        peer=peer,
        **{"version": version_of(peer), **more},
        unit=unit,
        ours=finite(statistics.median(ours)),
        theirs=finite(statistics.median(theirs)),
        ratio=finite(statistics.median(ratios)),
        low=finite(min(ratios)),
        high=finite(max(ratios)),
        turns=len(ratios),
    )


def run_case(case: Case, with_peers: bool) -> list[Row]:
    """Time one case: alone, or in turns with each of its peers."""
    with one_thread():
        case.ours()  # compiles
    if not with_peers or not case.peers:
        with one_thread():
            seconds = [timed(case.ours)[0] for _ in range(case.repeats)]
        return [Row(what=case.name, ours=statistics.median(seconds), turns=case.repeats)]
    return [run_beside(case, peer) for peer in case.peers]


def run_beside(case: Case, peer: str) -> Row:
    """Time one case in turns with one peer; a peer that cannot run leaves its reason."""
    asked: dict[str, Any] = {
        "version": version_of(peer),
        "target": case.targets.get(peer),
        "tolerance": case.tolerances.get(peer),
    }
    ours_s: list[float] = []
    peer_s: list[float] = []
    results: dict[str, Any] = {}
    try:
        theirs = case.peers[peer]()
    except PeerMissing as reason:
        return Row(what=case.name, peer=peer, **asked, skipped=without_paths(str(reason)))
    with one_thread():
        for turn in range(case.repeats):
            pair = [(ours_s, "ours"), (peer_s, "theirs")]
            for seconds, who in pair if turn % 2 == 0 else reversed(pair):
                if who == "ours":
                    elapsed, results[who] = timed(case.ours)
                else:
                    try:
                        elapsed, results[who] = timed(theirs)
                    except Exception as error:  # noqa: BLE001 - whatever a peer raises is not ours to judge
                        reason = without_paths(f"the peer raised {error!r}")
                        return Row(what=case.name, peer=peer, **asked, skipped=reason)
                seconds.append(elapsed)
    row = compared(case.name, peer, ours_s, peer_s, **asked)
    if row.tolerance is None:
        return row
    a, b = (np.asarray(results[who], dtype=float) for who in ("ours", "theirs"))
    return replace(row, difference=finite(float(np.abs(a - b).max())))


def peak_memory() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 2**20 if platform.system() == "Darwin" else size / 2**10


def main(
    cases: Sequence[Callable[[], Case]], argv: Sequence[str] | None = None, *, figures: Sequence[Figures] = ()
) -> int:
    """Run the benchmarks of one file as a command; 1 where a target is missed.

    `figures` run first, so that one that measures memory finds the process as it starts.
    """
    parser = argparse.ArgumentParser(description="Time ours, and with --peers other libraries beside it.")
    parser.add_argument("--peers", action="store_true", help="run the other libraries too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to a file")
    parser.add_argument("-k", default="", metavar="TEXT", help="only cases and figures named so")
    parser.add_argument("--repeats", type=int, metavar="N", help="turns per case")
    options = parser.parse_args(argv)
    begun = time.perf_counter()
    rows: list[Row] = []
    for measure in figures:
        name = measure.__name__
        if options.k in name:
            rows += measure(options.peers)
            print(f"{name}: done", file=sys.stderr, flush=True)
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
        record = Record(
            script=options.json.stem,
            rows=tuple(rows),
            date=dt.datetime.now(dt.UTC).date().isoformat(),
            seconds=round(time.perf_counter() - begun, 1),
            environment=machine(),
        )
        write_text(options.json, records_text({record.script: record}))
    return 1 if any(row.verdict == "missed" for row in rows) else 0


def machine() -> dict[str, str]:
    """Return the kind of machine and the versions, without anything that names this one."""
    facts = describe_environment()
    return {name: fact for name, fact in facts.items() if name not in ("commit", "platform")}
