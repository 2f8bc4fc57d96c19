"""The store: runs, events, attempts and knobs in one sqlite file that survives a kill at any moment.

Events are written before they take effect and every write is one transaction of a write-ahead log, so a run
that was killed is replayed to the state that it was in. Attempts are content-addressed: the same code under
the same examination is never verified twice on one device.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.agents.conductor import Event
from mlpapers.kernels.agents.messages import from_json, to_json
from mlpapers.kernels.llm.budget import Spent
from mlpapers.kernels.llm.client import Completion
from mlpapers.kernels.verify.report import Verdict

if TYPE_CHECKING:
    import pandas as pd

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    id TEXT PRIMARY KEY, task_fp TEXT NOT NULL, task_name TEXT NOT NULL, task TEXT, dsl TEXT NOT NULL,
    backend TEXT NOT NULL, config TEXT NOT NULL, status TEXT NOT NULL, created REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS events (
    run TEXT NOT NULL REFERENCES runs(id), seq INTEGER NOT NULL, event TEXT NOT NULL, created REAL NOT NULL,
    PRIMARY KEY (run, seq)
);
CREATE TABLE IF NOT EXISTS attempts (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, task_fp TEXT NOT NULL, parent INTEGER, island INTEGER,
    dsl TEXT NOT NULL, backend TEXT NOT NULL, arch TEXT NOT NULL, params TEXT NOT NULL, code_sha TEXT NOT
    NULL, code TEXT NOT NULL, origin TEXT NOT NULL, exam TEXT NOT NULL, stage TEXT NOT NULL, ok INTEGER NOT
    NULL, ms REAL, speedup REAL, ci TEXT, error TEXT, verdict TEXT NOT NULL, created REAL NOT NULL,
    UNIQUE (task_fp, code_sha, arch, exam)
);
CREATE TABLE IF NOT EXISTS uses (
    run TEXT NOT NULL, attempt INTEGER NOT NULL REFERENCES attempts(id), PRIMARY KEY (run, attempt)
);
CREATE TABLE IF NOT EXISTS timings (
    run TEXT NOT NULL, round INTEGER NOT NULL, code_sha TEXT NOT NULL, seconds TEXT NOT NULL,
    PRIMARY KEY (run, round, code_sha)
);
CREATE TABLE IF NOT EXISTS knobs (
    template TEXT NOT NULL, device TEXT NOT NULL, params TEXT NOT NULL, ms REAL NOT NULL, created REAL NOT
    NULL, PRIMARY KEY (template, device)
);
CREATE TABLE IF NOT EXISTS llm_cache (key TEXT PRIMARY KEY, completion TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS llm_calls (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, key TEXT NOT NULL, tokens INTEGER NOT NULL, cost REAL,
    seconds REAL NOT NULL, created REAL NOT NULL
);
"""


def code_sha(code: str) -> str:
    """Return the SHA-256 of a candidate's text."""
    return hashlib.sha256(code.encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """A row of the table of runs.

    Attributes
    ----------
    id, task_fp, task_name : str
    task : str or None
        The task as JSON; None for one made from a module in memory.
    dsl, backend : str
    config : dict
        Parameters of the agent.
    status : str
        ``running`` or ``done``.
    """

    id: str
    task_fp: str
    task_name: str
    task: str | None
    dsl: str
    backend: str
    config: dict[str, Any]
    status: str


class Store:
    """A sqlite file.

    Parameters
    ----------
    path : path-like or None
        ``":memory:"`` keeps nothing; None is ``store.sqlite`` in the folder of compiled kernels
        (MLPAPERS_KERNEL_CACHE).
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        if path is None:
            from mlpapers.kernels.verify.settings import kernel_cache

            path = kernel_cache() / "store.sqlite"
        self.path = os.fspath(path)
        if self.path != ":memory:":
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            self.path, timeout=60.0, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Store:  # noqa: PYI034 - final in practice
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def start_run(
        self,
        *,
        task_fp: str,
        task_name: str,
        task: str | None,
        dsl: str,
        backend: str,
        config: Mapping[str, Any],
    ) -> str:
        """Write down a new run and return its id, which follows from task, parameters and earlier runs."""
        with self._transaction() as db:
            before = db.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
            known = json.dumps([task_fp, dsl, backend, dict(config), before], sort_keys=True)
            run = hashlib.sha256(known.encode()).hexdigest()[:12]
            db.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, 'running', ?)",
                (run, task_fp, task_name, task, dsl, backend, json.dumps(dict(config)), time.time()),
            )
        return run

    def run(self, run_id: str) -> Run:
        """Return a run; ValueError where there is none of this id."""
        rows = self._rows(
            "SELECT id, task_fp, task_name, task, dsl, backend, config, status FROM runs WHERE id = ?", run_id
        )
        if not rows:
            known = [row[0] for row in self._rows("SELECT id FROM runs ORDER BY created DESC LIMIT 5")]
            raise ValueError(f"no run has the id {run_id!r}; the latest are {', '.join(known) or 'none'}")
        id_, task_fp, task_name, task, dsl, backend, config, status = rows[0]
        return Run(id_, task_fp, task_name, task, dsl, backend, json.loads(config), status)

    def finish_run(self, run_id: str) -> None:
        """Mark a run as done."""
        with self._transaction() as db:
            db.execute("UPDATE runs SET status = 'done' WHERE id = ?", (run_id,))

    def runs(self) -> pd.DataFrame:
        """Return the runs, latest first: id, task, dsl, backend, status, events, attempts, best, created."""
        import pandas as pd

        columns = ["id", "task", "dsl", "backend", "status", "events", "attempts", "best", "created"]
        rows = self._rows(
            "SELECT id, task_name, dsl, backend, status,"
            " (SELECT COUNT(*) FROM events WHERE run = runs.id),"
            " (SELECT COUNT(*) FROM uses WHERE run = runs.id),"
            " (SELECT MAX(speedup) FROM attempts JOIN uses ON attempt = attempts.id"
            "  WHERE uses.run = runs.id AND ok),"
            " created FROM runs ORDER BY created DESC"
        )
        frame = pd.DataFrame(rows, columns=columns)
        frame["created"] = pd.to_datetime(frame["created"], unit="s", utc=True)
        return frame

    def append(self, run_id: str, seq: int, event: Event) -> None:
        """Write an event before it takes effect; the same event at the same place again changes nothing."""
        text = to_json(event)
        with self._transaction() as db:
            known = db.execute("SELECT event FROM events WHERE run = ? AND seq = ?", (run_id, seq)).fetchone()
            if known is None:
                db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (run_id, seq, text, time.time()))
            elif known[0] != text:
                raise ValueError(f"run {run_id} already has another event {seq}")

    def events(self, run_id: str) -> list[Event]:
        """Return the events of a run in order."""
        rows = self._rows("SELECT event FROM events WHERE run = ? ORDER BY seq", run_id)
        return [from_json(row[0]) for row in rows]

    def add_attempt(
        self,
        run_id: str,
        *,
        task_fp: str,
        dsl: str,
        backend: str,
        arch: str,
        exam: str,
        params: Mapping[str, Any],
        code: str,
        origin: str,
        verdict: Verdict,
        parent: int | None = None,
        island: int | None = None,
    ) -> None:
        """Write down a verified candidate; one that is known already stays as it is."""
        row = (
            run_id, task_fp, parent, island, dsl, backend, arch, json.dumps(dict(params)), code_sha(code),
            code, origin, exam, verdict.stage, int(verdict.ok), verdict.kernel_ms, verdict.speedup,
            json.dumps([repr(x) for x in verdict.speedup_ci]), verdict.report.error, to_json(verdict),
            time.time(),
        )  # fmt: skip
        with self._transaction() as db:
            db.execute(
                "INSERT INTO attempts (run, task_fp, parent, island, dsl, backend, arch, params, code_sha,"
                " code, origin, exam, stage, ok, ms, speedup, ci, error, verdict, created)"
                f" VALUES ({', '.join('?' * len(row))}) ON CONFLICT DO NOTHING",
                row,
            )
            db.execute(
                "INSERT OR IGNORE INTO uses SELECT ?, id FROM attempts"
                " WHERE task_fp = ? AND code_sha = ? AND arch = ? AND exam = ?",
                (run_id, task_fp, code_sha(code), arch, exam),
            )

    def find_attempt(
        self, *, task_fp: str, code: str, arch: str, exam: str, run_id: str | None = None
    ) -> Verdict | None:
        """Return the verdict on this code under this examination on this device, or None.

        With `run_id` the attempt counts as one of that run from now on.
        """
        rows = self._rows(
            "SELECT verdict, id FROM attempts WHERE task_fp = ? AND code_sha = ? AND arch = ? AND exam = ?",
            task_fp, code_sha(code), arch, exam,
        )  # fmt: skip
        if rows and run_id is not None:
            with self._transaction() as db:
                db.execute("INSERT OR IGNORE INTO uses VALUES (?, ?)", (run_id, rows[0][1]))
        return from_json(rows[0][0]) if rows else None

    def attempts(self, run_id: str | None = None) -> pd.DataFrame:
        """Return the attempts of a run, or all, in the order in which they were made."""
        import pandas as pd

        columns = [
            "run",
            "dsl",
            "backend",
            "params",
            "code_sha",
            "origin",
            "stage",
            "ok",
            "ms",
            "speedup",
            "error",
        ]
        query = f"SELECT {', '.join(columns)} FROM attempts"
        if run_id is None:
            rows = self._rows(query + " ORDER BY id")
        else:
            chosen = " WHERE id IN (SELECT attempt FROM uses WHERE run = ?) ORDER BY id"
            rows = self._rows(query + chosen, run_id)
        frame = pd.DataFrame(rows, columns=columns)
        frame["ok"] = frame["ok"].astype(bool)
        frame["params"] = [json.loads(text) for text in frame["params"]]
        return frame

    def add_timing(self, run_id: str, round_: int, code: str, seconds: list[float]) -> None:
        """Write down the seconds of a candidate in a round of the search."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO timings VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (run_id, round_, code_sha(code), json.dumps(seconds)),
            )

    def timing(self, run_id: str, round_: int, code: str) -> list[float] | None:
        """Return what :meth:`add_timing` wrote, or None."""
        rows = self._rows(
            "SELECT seconds FROM timings WHERE run = ? AND round = ? AND code_sha = ?",
            run_id, round_, code_sha(code),
        )  # fmt: skip
        return json.loads(rows[0][0]) if rows else None

    def set_knobs(self, template: str, device: str, params: Mapping[str, Any], ms: float) -> None:
        """Remember the winner of a template and shape bucket on a device."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO knobs VALUES (?, ?, ?, ?, ?)",
                (template, device, json.dumps(dict(params)), ms, time.time()),
            )

    def knobs(self, template: str, device: str) -> dict[str, Any] | None:
        """Return the remembered winner, or None."""
        rows = self._rows("SELECT params FROM knobs WHERE template = ? AND device = ?", template, device)
        return json.loads(rows[0][0]) if rows else None

    def completion(self, key: str) -> Completion | None:
        """Return the answer of a language model to a request that was paid for, or None."""
        rows = self._rows("SELECT completion FROM llm_cache WHERE key = ?", key)
        return Completion.from_json(rows[0][0]) if rows else None

    def add_completion(self, run_id: str, key: str, completion: Completion | None, seconds: float) -> None:
        """Write down a call: its answer, kept for every run, and what this run spent; None is no answer."""
        spent = Spent().plus(completion, seconds)
        # sqlite stores nan as NULL, which is what an unknown cost is.
        with self._transaction() as db:
            if completion is not None:
                db.execute(
                    "INSERT OR REPLACE INTO llm_cache VALUES (?, ?, ?)",
                    (key, completion.to_json(), time.time()),
                )
            db.execute(
                "INSERT INTO llm_calls (run, key, tokens, cost, seconds, created) VALUES (?, ?, ?, ?, ?, ?)",
                (run_id, key, spent.tokens, spent.cost, seconds, time.time()),
            )

    def spent(self, run_id: str) -> Spent:
        """Return what a run's calls of a language model have cost."""
        rows = self._rows("SELECT tokens, cost, seconds FROM llm_calls WHERE run = ?", run_id)
        return Spent(
            len(rows),
            sum(row[0] for row in rows),
            math.fsum(math.nan if row[1] is None else row[1] for row in rows),
            math.fsum(row[2] for row in rows),
        )
