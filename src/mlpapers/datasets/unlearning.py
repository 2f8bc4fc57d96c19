"""Tables to unlearn from: a bundled set, a CSV file of one's own, a set of OpenML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mlpapers.datasets import _sources, bundled
from mlpapers.datasets._frames import check_flags, encode_target, make_bunch, one_hot

BUNDLED = {
    "breast_cancer": bundled.load_breast_cancer,
    "diabetes": bundled.load_diabetes,
    "digits": bundled.load_digits,
    "iris": bundled.load_iris,
    "wine": bundled.load_wine,
}
_SUFFIXES = (".csv", ".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zip")


def load_unlearning_data(
    name: str | os.PathLike[str],
    *,
    target_column: str | None = None,
    as_frame: bool = False,
    return_X_y: bool = False,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Any:
    """Load a table by name: bundled with scikit-learn, a CSV file, or a set of OpenML.

    Parameters
    ----------
    name : str or path
        - "breast_cancer", "digits", "iris", "wine" (classification) or "diabetes" (regression);
        - the path of a CSV file with a header line (``.csv``, also compressed);
        - "openml:NAME" or "openml:NAME:VERSION", which needs ``download=True``.
    target_column : str, default=None
        The column to predict in a CSV file or a set of OpenML. None: the last column of a CSV file, OpenML's
        own choice.
    as_frame : bool, default=False
        Return a DataFrame and a Series instead of arrays.
    return_X_y : bool, default=False
        Return the pair (data, target) instead of a Bunch.
    data_home : path, default=None
        Folder in which a relative CSV path is looked up when it does not exist from the current folder, and
        in which OpenML's files are kept; None stands for the environment variable MLPAPERS_DATA.
    download : bool, default=False
        Allow OpenML.

    Returns
    -------
    Bunch with

    data : ndarray of shape (n, d), float64 (DataFrame if `as_frame`). Columns of a CSV file or of OpenML that
        hold no numbers become one 0/1 column per sorted value, after the numeric ones
    target : ndarray of shape (n,); whole numbers as int64, other numbers as float64, anything else as codes
        0, 1, ... of the sorted values (`target_names`)
    frame : DataFrame of data and target, or None
    feature_names, target_names : list of str; target_names is None for numbers
    source : str, where the data came from
    DESCR : str

    Raises
    ------
    DataUnavailableError
        For a CSV file that does not exist, or OpenML without `download` or without a network
        (a FileNotFoundError).
    ValueError
        For an unknown name, a missing value, an unknown target column or a table without rows or features.
    """
    check_flags(as_frame=as_frame, return_X_y=return_X_y, download=download)
    text = os.fspath(name)
    if text in BUNDLED:
        if target_column is not None:
            raise ValueError(
                f"target_column must be None for the bundled set {text!r}; got {target_column!r}"
            )
        return _bundled(text, as_frame=as_frame, return_X_y=return_X_y)
    if text.startswith("openml:"):
        table, target_column, source = _from_openml(text, target_column, data_home, download)
    elif isinstance(name, os.PathLike) or text.lower().endswith(_SUFFIXES):
        table, source = _from_csv(Path(text), data_home)
    else:
        raise ValueError(
            f"name must be one of {', '.join(map(repr, BUNDLED))}, the path of a CSV file "
            f"({', '.join(_SUFFIXES)}) or 'openml:NAME'; got {text!r}"
        )
    return _table_bunch(table, target_column, source, as_frame=as_frame, return_X_y=return_X_y)


def _bundled(name: str, *, as_frame: bool, return_X_y: bool) -> Any:
    if return_X_y:
        return BUNDLED[name](return_X_y=True, as_frame=as_frame)
    bunch = BUNDLED[name](as_frame=as_frame)
    bunch.source = f"sklearn.datasets.load_{name}"
    bunch.setdefault("target_names", None)
    return bunch


def _from_csv(path: Path, data_home: str | os.PathLike[str] | None) -> tuple[Any, str]:
    import pandas as pd

    places = [path.expanduser(), *(folder / path for folder in _sources.data_folders(data_home))]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise _sources.unavailable(
            f"The CSV file {str(path)!r}",
            remedy=f"make the file, or use one of the bundled sets {', '.join(map(repr, BUNDLED))}",
            data_home=data_home,
        )
    try:
        return pd.read_csv(found), str(found)
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{found} is not a CSV table with a header line: {error}") from error


def _from_openml(
    text: str, target_column: str | None, data_home: str | os.PathLike[str] | None, download: bool
) -> tuple[Any, str, str]:
    import pandas as pd

    _, _, rest = text.partition(":")
    dataset, _, version = rest.partition(":")
    if not dataset or (version and not version.isdecimal()):
        raise ValueError(f"name must be 'openml:NAME' or 'openml:NAME:VERSION' with a number; got {text!r}")
    what = f"The OpenML set {dataset!r}"
    remedy = f"use one of the bundled sets {', '.join(map(repr, BUNDLED))} or a CSV file"
    if not download:
        raise _sources.unavailable(what, remedy=remedy, downloadable=True)
    query: dict[str, Any] = {"name": dataset, "as_frame": True, "parser": "auto"}
    if version:
        query["version"] = int(version)
    if target_column is not None:
        query["target_column"] = target_column
    answer = _sources.fetch_openml(what, data_home=data_home, ways={"remedy": remedy}, **query)
    if not isinstance(answer.target, pd.Series):
        raise ValueError(f"{text!r} has no single target column; name one with target_column")
    return pd.concat([answer.data, answer.target], axis=1), str(answer.target.name), text


def _table_bunch(
    table: Any, target_column: str | None, source: str, *, as_frame: bool, return_X_y: bool
) -> Any:
    if table.shape[0] == 0 or table.shape[1] < 2:
        raise ValueError(f"{source} must have rows, a target and a feature; its shape is {table.shape}")
    chosen = table.columns[-1] if target_column is None else target_column
    if chosen not in table.columns:
        raise ValueError(
            f"target_column must be one of {', '.join(map(repr, table.columns))}; got {target_column!r}"
        )
    features = table.drop(columns=chosen)
    incomplete = features.columns[features.isna().any()]
    if len(incomplete):
        raise ValueError(
            f"{source} has missing values in {', '.join(map(repr, incomplete))}; fill or drop them first"
        )
    target, names = encode_target(table[chosen])
    return make_bunch(
        one_hot(features),
        target,
        target_name=str(chosen),
        as_frame=as_frame,
        return_X_y=return_X_y,
        target_names=names,
        source=source,
        DESCR=f"{table.shape[0]} rows of {source}; target {str(chosen)!r}.\n",
    )
