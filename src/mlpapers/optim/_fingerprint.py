"""By what a checkpoint knows its problem again: arguments, constraint, start, data, and one value."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse

from mlpapers.optim._run import Run
from mlpapers.optim.constraints._base import ConstraintSet

__all__ = ["check_fingerprint", "check_objective", "fingerprint"]

# Arrays up to this size are written out, so that a message shows how they differ.
_SHOWN = 4
# Attributes of the structured sums that are their data; the others follow from these.
_DATA = ("A", "y", "H", "b")


def fingerprint(run: Run, given: Mapping[str, Any]) -> dict[str, str]:
    """Return what a resumed run must have in common with the one that wrote its checkpoint.

    Of an objective the class, n, d and the data of structured sums are known; functions have no lasting name,
    and :func:`check_objective` looks at a value instead.
    """
    fun = run.oracle.fun
    held = {name: vars(fun)[name] for name in _DATA if name in vars(fun)}
    return {
        "fun": f"{type(fun).__name__}({_fields({'n_functions': run.n, 'dim': run.d, **held})})",
        "x0": _text(run.x),
        "constraint": _text(run.constraint),
        **{name: _text(given[name]) for name in ("fd", "mu", "query_domain")},
        **{name: _text(value) for name, value in dataclasses.asdict(run.settings).items()},
    }


def check_fingerprint(saved: Any, own: Mapping[str, str]) -> None:
    """Raise a ValueError that names the arguments in which a checkpoint differs from this run."""
    saved = saved if isinstance(saved, dict) else {}
    different = [name for name in own if saved.get(name) != own[name]]
    if different:
        parts = [f"{name}: {saved.get(name, 'not recorded')}, and here {own[name]}" for name in different]
        raise ValueError(
            "resume must be a checkpoint of the same problem and settings; it was written with another "
            + "; ".join(parts)
        )


def check_objective(run: Run) -> int:
    """Ask one value again that the checkpoint holds, the largest; return the number of queries.

    Raises a ValueError where it has changed by more than half of its digits.
    """
    for probe in run._probes:
        if probe.known is None or not np.isfinite(probe.values[probe.known]).any():
            continue
        known = np.where(probe.known & np.isfinite(probe.values), np.abs(probe.values), -1.0)
        i = int(known.argmax())
        expected = float(probe.values[i])
        value = float(run.oracle.fun.values(probe.point.x[None], np.array([i]))[0])
        eps = float(np.finfo(run.oracle.fun.dtype or np.float64).eps)
        if not abs(value - expected) <= math.sqrt(eps) * abs(expected):
            raise ValueError(
                f"resume must be a checkpoint of the same objective fun; function {i} was {expected!r} at a "
                f"point of the checkpoint, and is {value!r}"
            )
        return 1
    return 0


def _fields(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={_text(value)}" for name, value in sorted(values.items()))


def _text(value: Any) -> str:
    """Return a text that is the same for equal values, and short."""
    if isinstance(value, ConstraintSet):
        public = {name: item for name, item in vars(value).items() if not name.startswith("_")}
        return f"{type(value).__name__}({_fields(public)})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{_fields(value)}}}"
    if scipy.sparse.issparse(value):
        return f"sparse{_text([value.shape, value.data, value.indices, value.indptr])}"
    if isinstance(value, np.ndarray):
        if value.size <= _SHOWN:
            return repr(value.tolist())
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        return f"array of shape {value.shape} #{digest}"
    if isinstance(value, bool | int | float | str | None):
        return repr(value)
    return type(value).__name__
