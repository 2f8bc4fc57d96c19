"""An append-only, hash-chained record of what was forgotten."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpapers.core.validation import check_choice
from mlpapers.unlearning._lock import locked

__all__ = ["DeletionLog", "LogCorruptionError", "LogReport"]

EVENTS = ("fit", "request", "commit", "reanchor", "retrain", "release")
GENESIS = "0" * 64
_REQUIRED = ("seq", "time_utc", "event", "prev_hash", "hash")
_OWN = frozenset({"seq", "time_utc", "event", "prev_hash", "hash"})


class LogCorruptionError(RuntimeError):
    """The log is broken, or it does not belong to the estimator it is used with."""


@dataclass(frozen=True)
class LogReport:
    """What :meth:`DeletionLog.verify` found.

    Attributes
    ----------
    ok : bool
        Every record is whole and in the chain, and the last line is terminated.
    n_records : int
        Records before the first bad one.
    first_bad : int or None
        Sequence number of the first record that is damaged; None where all are sound.
    torn_tail : bool
        The last line has no terminator: a crash in the middle of an append, which the next append repairs.
    """

    ok: bool
    n_records: int
    first_bad: int | None
    torn_tail: bool


class DeletionLog:
    """A log of deletion requests: one JSON record a line, each holding the hash of the one before.

    A record has ``seq``, ``time_utc``, ``event`` (fit, request, commit, reanchor, retrain, release),
    ``prev_hash`` and ``hash`` (sha256 of the record as canonical JSON without ``hash``; the first
    ``prev_hash`` is 64 zeros), and what the event adds: ``request_id``, ``indices``, ``params_digest``
    (sha256 of the published parameters), ``action``, ``residual_bound``, ``budget``. It never holds feature
    values. Changing, removing, inserting or reordering records breaks the chain; cutting records off the end
    does not, so keep the last hash elsewhere.

    An append takes a lock, writes one line and waits until it is on disk. Several processes may append. A
    last line without terminator, left by a crash, is cut off by the next append, with a RuntimeWarning.

    Parameters
    ----------
    path : str or path
        The file; made by the first append.

    Examples
    --------
    >>> import tempfile
    >>> log = DeletionLog(Path(tempfile.mkdtemp()) / "forgotten.jsonl")
    >>> log.append("request", request_id="r1", indices=[3])["seq"]
    0
    >>> [record["request_id"] for record in log.pending()], log.verify().ok
    (['r1'], True)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._forget_file()

    def __repr__(self) -> str:
        return f"DeletionLog({str(self.path)!r})"

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one record, durably, and return it.

        Parameters
        ----------
        event : {"fit", "request", "commit", "reanchor", "retrain", "release"}
        **fields
            What else the record holds: JSON values.

        Returns
        -------
        record : dict

        Raises
        ------
        ValueError
            For an unknown event, a field that the log itself sets, or a number that JSON has not.
        TypeError
            If a field is not a JSON value.
        LogCorruptionError
            If what the file holds is damaged otherwise than by a torn last line.
        """
        check_choice("event", event, EVENTS)
        reserved = _OWN & set(fields)
        if reserved:
            raise ValueError(f"fields must not set {', '.join(sorted(reserved))}: the log does")
        for name, value in fields.items():
            try:
                canonical({name: value})
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"{name} must be a JSON value; got {value!r}: {error}") from error
        with self._opened() as descriptor:
            self._catch_up(descriptor)
            record = {
                "seq": self._n_records,
                "time_utc": dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
                "event": event,
                **fields,
                "prev_hash": self._last_hash,
            }
            record["hash"] = hash_record(record)
            # What is kept must be what a reader of the file would get (tuples become lists, say).
            line = canonical(record)
            record = json.loads(line)
            self._write(descriptor, line + b"\n")
            self._accept(record, len(line) + 1)
        return dict(record)

    def records(self) -> list[dict[str, Any]]:
        """Return all records, oldest first; a torn last line is left out.

        Raises
        ------
        LogCorruptionError
            If the chain is broken.
        """
        lines, _ = _split(self._read())
        records: list[dict[str, Any]] = []
        previous = GENESIS
        for number, line in enumerate(lines):
            record = check_line(line, number, previous)
            records.append(record)
            previous = record["hash"]
        return records

    def pending(self) -> list[dict[str, Any]]:
        """Return the requests since the last fit that have no commit, oldest first."""
        generation = last_generation(self.records())
        done = {record.get("request_id") for record in generation if record["event"] == "commit"}
        requests = (record for record in generation if record["event"] == "request")
        return [record for record in requests if record.get("request_id") not in done]

    def verify(self) -> LogReport:
        """Check every byte of the file; never raises because of damage.

        Returns
        -------
        report : LogReport
        """
        lines, tail = _split(self._read())
        previous = GENESIS
        for number, line in enumerate(lines):
            try:
                previous = check_line(line, number, previous)["hash"]
            except LogCorruptionError:
                return LogReport(False, number, number, bool(tail))
        return LogReport(not tail, len(lines), None, bool(tail))

    def find(self, request_id: str) -> tuple[dict[str, Any] | None, bool]:
        """Return the request of this id since the last fit, or None, and whether it was committed."""
        with self._opened() as descriptor:
            self._catch_up(descriptor)
        return self._requests.get(request_id), request_id in self._committed

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["path"])  # type: ignore[misc]

    def _forget_file(self) -> None:
        self._n_records = 0
        self._last_hash = GENESIS
        self._requests: dict[str, dict[str, Any]] = {}
        self._committed: set[str] = set()
        self._size = 0
        self._inode: int | None = None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        is_new = not self.path.exists()
        descriptor = os.open(self.path, flags, 0o666)
        try:
            if is_new:
                sync_folder(self.path.parent)
            with locked(descriptor):
                yield descriptor
        finally:
            os.close(descriptor)

    def _catch_up(self, descriptor: int) -> None:
        """Read and check what was appended since this object last looked; cut a torn tail off."""
        status = os.fstat(descriptor)
        if status.st_ino == self._inode and status.st_size == self._size:
            return
        if status.st_ino != self._inode or status.st_size < self._size:
            self._forget_file()
            self._inode = status.st_ino
        os.lseek(descriptor, self._size, os.SEEK_SET)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            lines, tail = _split(file.read())
        for line in lines:
            self._accept(check_line(line, self._n_records, self._last_hash), len(line) + 1)
        if tail:
            os.ftruncate(descriptor, self._size)
            os.fsync(descriptor)
            warnings.warn(
                f"{self.path}: cut off a torn last line of {len(tail)} bytes, left by an append that was "
                "interrupted",
                RuntimeWarning,
                stacklevel=4,
            )

    def _accept(self, record: dict[str, Any], n_bytes: int) -> None:
        self._n_records += 1
        self._last_hash = record["hash"]
        self._size += n_bytes
        request_id = record.get("request_id")
        if record["event"] == "fit":
            self._requests, self._committed = {}, set()
        elif record["event"] == "request" and isinstance(request_id, str):
            self._requests[request_id] = record
        elif record["event"] == "commit" and isinstance(request_id, str):
            self._committed.add(request_id)

    def _write(self, descriptor: int, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
        except OSError:
            # A full disk must not leave half a record that later ones would be glued to.
            os.ftruncate(descriptor, self._size)
            raise

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""


def canonical(record: dict[str, Any]) -> bytes:
    """Return a record as canonical JSON: sorted keys, no spaces, ASCII."""
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def hash_record(record: dict[str, Any]) -> str:
    """Return the sha256 of a record without its own hash, in hexadecimal."""
    return hashlib.sha256(canonical({key: record[key] for key in record if key != "hash"})).hexdigest()


def check_line(line: bytes, number: int, previous: str) -> dict[str, Any]:
    """Return the record of an unterminated line if it is sound as record `number` after hash `previous`."""
    try:
        record = json.loads(line)
        sound = isinstance(record, dict) and canonical(record) == line
    except (ValueError, RecursionError) as error:
        raise LogCorruptionError(f"record {number} is not JSON: {error}") from error
    if not sound:
        raise LogCorruptionError(f"record {number} is not in canonical form")
    missing = [name for name in _REQUIRED if name not in record]
    if missing:
        raise LogCorruptionError(f"record {number} lacks {', '.join(missing)}")
    if record["seq"] != number or record["event"] not in EVENTS:
        raise LogCorruptionError(f"record {number} has seq {record['seq']!r} and event {record['event']!r}")
    if record["prev_hash"] != previous:
        raise LogCorruptionError(f"record {number} does not follow the record before it (prev_hash)")
    if record["hash"] != hash_record(record):
        raise LogCorruptionError(f"record {number} was changed (hash)")
    return record


def last_generation(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records from the last fit on; all where there is none."""
    starts = [number for number, record in enumerate(records) if record["event"] == "fit"]
    return records[starts[-1] :] if starts else records


def sync_folder(folder: Path) -> None:
    """Make a new name in `folder` durable, where the system allows it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _split(content: bytes) -> tuple[list[bytes], bytes]:
    """Return the terminated lines, without terminators, and what follows the last of them."""
    *lines, tail = content.split(b"\n")
    return lines, tail
