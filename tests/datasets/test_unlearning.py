import urllib.error
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets

from mlpapers.datasets import DataUnavailableError, load_unlearning_data

TABLE = pd.DataFrame(
    {
        "size": [1.5, 2.0, 3.0, 4.0],
        "colour": ["red", "blue", "red", "green"],
        "label": ["yes", "no", "no", "yes"],
    }
)


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "table.csv"
    TABLE.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits", "iris", "wine"])
def test_bundled_sets_are_scikit_learns(name, assert_consistent):
    expected = getattr(sklearn.datasets, f"load_{name}")()
    bunch = load_unlearning_data(name)
    np.testing.assert_array_equal(bunch.data, expected.data)
    np.testing.assert_array_equal(bunch.target, expected.target)
    assert_consistent(lambda **options: load_unlearning_data(name, **options))


def test_csv_by_hand(csv):
    bunch = load_unlearning_data(csv)
    assert bunch.feature_names == ["size", "colour_blue", "colour_green", "colour_red"]
    np.testing.assert_array_equal(bunch.data, [[1.5, 0, 0, 1], [2, 1, 0, 0], [3, 0, 0, 1], [4, 0, 1, 0]])
    np.testing.assert_array_equal(bunch.target, [1, 0, 0, 1])
    assert bunch.target_names == ["no", "yes"]
    assert bunch.source == str(csv)


def test_csv_regression_target(csv):
    bunch = load_unlearning_data(str(csv), target_column="size")
    np.testing.assert_array_equal(bunch.target, [1.5, 2.0, 3.0, 4.0])
    assert bunch.target_names is None


def test_whole_numbers_stay_whole(tmp_path):
    path = tmp_path / "whole.csv"
    pd.DataFrame({"a": [1, 2], "y": [-1, 1]}).to_csv(path, index=False)
    target = load_unlearning_data(path).target
    assert target.dtype == np.int64
    np.testing.assert_array_equal(target, [-1, 1])


def test_options_agree(csv, assert_consistent):
    assert_consistent(lambda **options: load_unlearning_data(csv, **options))


def test_relative_path_in_data_home(csv, monkeypatch):
    assert load_unlearning_data("table.csv", data_home=csv.parent).source == str(csv)
    monkeypatch.setenv("MLPAPERS_DATA", str(csv.parent))
    assert load_unlearning_data("table.csv").source == str(csv)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"a": [1.0, np.nan], "y": [0, 1]}), "missing values in 'a'"),
        (pd.DataFrame({"a": [1.0, 2.0], "y": ["x", None]}), "target column 'y' has 1 missing"),
        (pd.DataFrame({"y": [0, 1]}), "must have rows, a target and a feature"),
        (pd.DataFrame({"a": [], "y": []}), "must have rows, a target and a feature"),
    ],
)
def test_unusable_tables(tmp_path, table, message):
    path = tmp_path / "bad.csv"
    table.to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        load_unlearning_data(path)


def test_empty_file(tmp_path):
    path = tmp_path / "empty.csv"
    path.touch()
    with pytest.raises(ValueError, match="not a CSV table"):
        load_unlearning_data(path)


def test_unknown_target_column(csv):
    with pytest.raises(ValueError, match="target_column must be one of 'size', 'colour', 'label'; got 'age'"):
        load_unlearning_data(csv, target_column="age")
    with pytest.raises(ValueError, match="target_column must be None"):
        load_unlearning_data("iris", target_column="species")


def test_unknown_name_lists_the_choices():
    with pytest.raises(
        ValueError, match=r"'breast_cancer', 'diabetes', 'digits', 'iris', 'wine'.*got 'adult'"
    ):
        load_unlearning_data("adult")


@pytest.mark.parametrize("name", ["openml:", "openml:x:y", "openml::3"])
def test_malformed_openml_name(name):
    with pytest.raises(ValueError, match="openml:NAME:VERSION"):
        load_unlearning_data(name, download=True)


def test_absent_csv(tmp_path):
    with pytest.raises(DataUnavailableError, match=r"nowhere\.csv"):
        load_unlearning_data(tmp_path / "nowhere.csv")


def test_openml_needs_permission():
    with pytest.raises(DataUnavailableError, match="download=True"):
        load_unlearning_data("openml:phoneme")


def test_openml_offline(offline):
    with pytest.raises(DataUnavailableError, match="phoneme") as caught:
        load_unlearning_data("openml:phoneme:2", download=True)
    assert isinstance(caught.value.__cause__, urllib.error.URLError)
    assert offline[0][1]["name"] == "phoneme"
    assert offline[0][1]["version"] == 2


def test_openml_table(csv, openml_gives):
    table = TABLE.astype({"colour": "category", "label": "category"})
    answer = SimpleNamespace(data=table[["size", "colour"]], target=table["label"])
    openml_gives(answer)
    remote, local = load_unlearning_data("openml:toy", download=True), load_unlearning_data(csv)
    np.testing.assert_array_equal(remote.data, local.data)
    np.testing.assert_array_equal(remote.target, local.target)
    assert remote.feature_names == local.feature_names
    assert remote.source == "openml:toy"


def test_openml_without_a_target(openml_gives):
    answer = SimpleNamespace(data=TABLE, target=None)
    openml_gives(answer)
    with pytest.raises(ValueError, match="target_column"):
        load_unlearning_data("openml:toy", download=True)
