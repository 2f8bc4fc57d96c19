"""The seventeen binary OpenML tables on which looped tabular foundation models were compared."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mlpapers.datasets import _sources
from mlpapers.datasets._frames import (
    categorical_columns,
    check_flags,
    encode_target,
    make_bunch,
    sorted_codes,
)

# In the order of Table 1.
LOOPTABFM_IDS = (
    3, 31, 1049, 1067, 1464, 1487, 1489, 1494, 40701, 40900, 40981, 40983, 41143, 41144, 41145, 41146, 41156,
)  # fmt: skip
_WAYS: _sources.Ways = {
    "remedy": "call again where there is a network; bundled sets that need none are load_breast_cancer, "
    "load_wine, load_iris and load_digits"
}


def fetch_looptabfm_benchmark(
    *,
    data_ids: Sequence[int] | None = None,
    as_frame: bool = False,
    data_home: str | os.PathLike[str] | None = None,
) -> dict[int, Any]:
    """Fetch the benchmark of 17 binary classification tables from OpenML.

    scikit-learn keeps what it fetched, so that a repeated call needs no network.

    Parameters
    ----------
    data_ids : sequence of int, default=None
        A part of the benchmark; None for all 17 tables.
    as_frame : bool, default=False
        Give DataFrames and Series instead of arrays.
    data_home : path, default=None
        Folder in which the files are kept; None stands for the environment variable MLPAPERS_DATA, otherwise
        scikit-learn's data home.

    Returns
    -------
    benchmark : dict of int to Bunch, in the order asked for; each with

        data : ndarray of shape (n, d), float64 (DataFrame if `as_frame`): the columns in OpenML's order,
        categorical ones as the codes 0, 1, ... of their sorted values (a missing one is -1), a missing number
        is NaN;
        target : ndarray of shape (n,), int64, 0 or 1 in the order of `target_names`;
        frame, feature_names, target_names, name, source, DESCR.

    Raises
    ------
    DataUnavailableError
        Without a network (a FileNotFoundError); the message names bundled sets to use instead.
    ValueError
        For an id that is not in the benchmark, or a table that is not binary.

    Examples
    --------
    >>> from mlpapers.datasets import fetch_looptabfm_benchmark
    >>> tables = fetch_looptabfm_benchmark(data_ids=[31])  # doctest: +SKIP
    >>> tables[31].data.shape  # doctest: +SKIP
    (1000, 20)
    """
    check_flags(as_frame=as_frame)
    chosen = LOOPTABFM_IDS if data_ids is None else tuple(data_ids)
    unknown = [data_id for data_id in chosen if data_id not in LOOPTABFM_IDS]
    if unknown:
        raise ValueError(f"data_ids must be among {', '.join(map(str, LOOPTABFM_IDS))}; got {unknown}")
    return {data_id: _fetch(data_id, as_frame=as_frame, data_home=data_home) for data_id in chosen}


def _fetch(data_id: int, *, as_frame: bool, data_home: str | os.PathLike[str] | None) -> Any:
    what = f"The OpenML set {data_id}"
    answer = _sources.fetch_openml(
        what, data_home=data_home, ways=_WAYS, data_id=data_id, as_frame=True, parser="auto"
    )
    table = answer.data
    categorical = categorical_columns(table)
    data = table.assign(**{name: sorted_codes(table[name].astype(object))[0] for name in categorical})
    codes, names = encode_target(answer.target.astype(str))
    if names is None or len(names) != 2:
        raise ValueError(f"OpenML set {data_id} must have two classes; got {names}")
    return make_bunch(
        data.astype(np.float64),
        codes,
        target_name=str(answer.target.name),
        as_frame=as_frame,
        return_X_y=False,
        target_names=names,
        name=answer.details["name"],
        source=f"openml:{data_id}",
        DESCR=answer.DESCR,
    )
