"""Bringing an estimator up to date with its log."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from mlpapers.unlearning._unlearning import Unlearning
from mlpapers.unlearning.log import DeletionLog, LogCorruptionError, last_generation

__all__ = ["recover", "replay"]

Estimator = TypeVar("Estimator", bound=Unlearning)


def replay(est: Estimator, log: DeletionLog) -> Estimator:
    """Carry out again what the log says was committed since the last fit, and check every digest.

    Parameters
    ----------
    est : DVWUClassifier or DVWURegressor
        As it was after that fit (read from a state file, say); it is changed. Requests that it has already
        carried out are passed over.
    log : DeletionLog
        Only read.

    Returns
    -------
    est : the same estimator; on the same machine its ``coef_`` is bit-equal to the original's

    Raises
    ------
    LogCorruptionError
        If the log is damaged, or a digest differs: the log and the estimator do not belong together, or the
        arithmetic differs.
    TypeError
        If `log` is not a DeletionLog.
    """
    check_is_fitted(est, "_model")
    _check_log(log)
    records = last_generation(log.records())
    committed = {record.get("request_id") for record in records if record["event"] == "commit"}
    order: list[dict[str, Any]] = []
    for record in records:
        if record["event"] == "fit" and not est._requests:
            _check_digest(est, record)
        if record["event"] == "reanchor" or (
            record["event"] == "request" and record.get("request_id") in committed
        ):
            order.append(record)
    digests = {record.get("request_id"): record for record in records if record["event"] == "commit"}
    for record in order:
        name = _name_of(record)
        if name in est._requests:
            continue
        _apply(est, record, save=False, log_commit=False)
        _check_digest(est, record if record["event"] == "reanchor" else digests[name])
    return est


def recover(est: Estimator, log: DeletionLog) -> Estimator:
    """Finish what a crash interrupted: carry out every logged request that the estimator lacks.

    Requests are carried out in the order of the log, whether committed or pending; pending ones get their
    commit. Running it again changes nothing.

    Parameters
    ----------
    est : DVWUClassifier or DVWURegressor
        Read from the last state file; it is changed, and saved where it has a ``state_path``.
    log : DeletionLog

    Returns
    -------
    est : the same estimator

    Raises
    ------
    LogCorruptionError
        If the log is damaged otherwise than by a torn last line.
    TypeError
        If `log` is not a DeletionLog.
    """
    check_is_fitted(est, "_model")
    _check_log(log)
    est.log_ = log
    records = last_generation(log.records())
    committed = {record.get("request_id") for record in records if record["event"] == "commit"}
    for record in records:
        if record["event"] not in ("request", "reanchor"):
            continue
        name = _name_of(record)
        if name not in est._requests:
            _apply(est, record, save=True, log_commit=name not in committed)
        elif record["event"] == "request" and name not in committed:
            est._log_commit(est._requests[name])
    return est


def _check_log(log: Any) -> None:
    if not isinstance(log, DeletionLog):
        raise TypeError(f"log must be a DeletionLog; got {type(log).__name__}")


def _apply(est: Unlearning, record: dict[str, Any], *, save: bool, log_commit: bool) -> None:
    name = _name_of(record)
    if record["event"] == "reanchor":
        est._reanchor(name, log=False, save=save)
        return
    est._rows.compact()
    try:
        ids = est._rows.check(np.array(record.get("indices"), dtype=np.int64))
    except (TypeError, ValueError) as error:
        raise LogCorruptionError(
            f"record {record['seq']} does not fit the estimator, which may belong to another log: {error}"
        ) from error
    est._carry_out(ids, name, log_request=False, log_commit=log_commit, save=save)


def _name_of(record: dict[str, Any]) -> str:
    name = record.get("request_id")
    if not isinstance(name, str):
        raise LogCorruptionError(f"record {record['seq']} has no request_id")
    return name


def _check_digest(est: Unlearning, record: dict[str, Any]) -> None:
    if record.get("params_digest") != est._digest():
        raise LogCorruptionError(
            f"record {record['seq']} ({record['event']}) has another params_digest than the estimator: they "
            "do not belong together, or the arithmetic differs from the machine that wrote the log"
        )
