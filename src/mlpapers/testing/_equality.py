"""Deep equality of whatever estimators and results hold."""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._tensors import is_tensor


def same(a: Any, b: Any, *, ignore: Collection[str] = ()) -> bool:
    """Return whether `a` and `b` hold the same values, of the same types, all the way down.

    NaN equals NaN; arrays must agree in dtype and shape, frames in dtypes, index, columns and their names. A
    torch tensor counts as its array and every dict type as a dict, for that is what saving makes of them.
    Other objects are compared by what pickling would store.

    Parameters
    ----------
    a, b : object
    ignore : collection of str
        Names of attributes, fields, keys and columns that may differ (wall times, say).

    Returns
    -------
    bool

    Examples
    --------
    >>> same({"values": np.array([1.0, np.nan])}, {"values": np.array([1.0, np.nan])})
    True
    >>> same(np.zeros(2, dtype=np.float32), np.zeros(2))
    False
    """
    return _same(a, b, frozenset(ignore), set())


def _same(a: Any, b: Any, ignore: frozenset[str], open_pairs: set[tuple[int, int]]) -> bool:
    a, b = _as_array(a), _as_array(b)
    if a is b:
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        names = {key for key in a if not _ignored(key, ignore)}
        return names == {key for key in b if not _ignored(key, ignore)} and all(
            _same(a[name], b[name], ignore, open_pairs) for name in names
        )
    if type(a) is not type(b) or isinstance(a, enum.Enum | type):
        return False
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and _same_arrays(np.asarray(a), np.asarray(b), ignore, open_pairs)
    if isinstance(a, float | complex):
        return bool(a == b or (a != a and b != b))
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(_same(x, y, ignore, open_pairs) for x, y in zip(a, b))
    if isinstance(a, str | bytes | int | set | frozenset):
        return bool(a == b)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(a, pandas.DataFrame | pandas.Series | pandas.Index):
        return _same_pandas(a, b, ignore)
    # Objects may refer to themselves: a pair that is being compared already is taken as equal.
    pair = (id(a), id(b))
    if pair in open_pairs:
        return True
    open_pairs.add(pair)
    try:
        return _same_objects(a, b, ignore, open_pairs)
    finally:
        open_pairs.discard(pair)


def _same_objects(a: Any, b: Any, ignore: frozenset[str], open_pairs: set[tuple[int, int]]) -> bool:
    if dataclasses.is_dataclass(a):
        names = [field.name for field in dataclasses.fields(a) if not _ignored(field.name, ignore)]
        return all(_same(getattr(a, name), getattr(b, name), ignore, open_pairs) for name in names)
    try:
        states = a.__reduce_ex__(4), b.__reduce_ex__(4)
    except TypeError:  # not picklable: nothing but its own equality is known
        return bool(a == b)
    if isinstance(states[0], str):
        return False  # a global object, and the two are not the same one
    # Items 3 and 4 are iterators over the entries of list and dict subclasses.
    plain = [tuple(list(part) if hasattr(part, "__next__") else part for part in state) for state in states]
    return _same(plain[0], plain[1], ignore, open_pairs)


def _same_arrays(
    a: NDArray[Any], b: NDArray[Any], ignore: frozenset[str], open_pairs: set[tuple[int, int]]
) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.names:
        names = [name for name in a.dtype.names if not _ignored(name, ignore)]
        return all(_same_arrays(a[name], b[name], ignore, open_pairs) for name in names)
    if a.dtype.hasobject:
        return all(_same(x, y, ignore, open_pairs) for x, y in zip(a.ravel().tolist(), b.ravel().tolist()))
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fcmM")


def _same_pandas(a: Any, b: Any, ignore: frozenset[str]) -> bool:
    from pandas import DataFrame, Series, testing

    try:
        if isinstance(a, DataFrame):
            a, b = (frame.loc[:, [not _ignored(c, ignore) for c in frame.columns]] for frame in (a, b))
            testing.assert_frame_equal(
                a, b, check_exact=True, check_index_type=True, check_column_type=True, check_freq=False
            )
        elif isinstance(a, Series):
            testing.assert_series_equal(a, b, check_exact=True, check_index_type=True, check_freq=False)
        else:
            testing.assert_index_equal(a, b, exact=True, check_exact=True)
    except AssertionError:
        return False
    return True


def _as_array(value: Any) -> Any:
    if is_tensor(value):
        return value.detach().cpu().resolve_conj().resolve_neg().numpy()
    # Workers hand large arrays back as memory maps.
    return np.asarray(value) if isinstance(value, np.memmap) else value


def _ignored(name: Any, ignore: frozenset[str]) -> bool:
    return isinstance(name, str) and name in ignore
