import urllib.error
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mlpapers.datasets import LOOPTABFM_IDS, DataUnavailableError, fetch_looptabfm_benchmark


@pytest.fixture
def openml(monkeypatch):
    """Every id is a table of four rows whose first number is the id."""
    asked = []

    def fetch(**query):
        asked.append(query["data_id"])
        data = pd.DataFrame(
            {
                "number": [float(query["data_id"]), 1.0, np.nan, 3.0],
                "word": pd.Categorical(["b", "a", None, "b"], categories=["b", "a"]),
            }
        )
        target = pd.Series(pd.Categorical(["good", "bad", "good", "good"]), name="class")
        return SimpleNamespace(data=data, target=target, details={"name": "toy"}, DESCR="toy")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    return asked


def test_seventeen_tables_in_order(openml):
    benchmark = fetch_looptabfm_benchmark()
    assert tuple(benchmark) == tuple(openml) == LOOPTABFM_IDS
    assert len(set(LOOPTABFM_IDS)) == 17


def test_codes_and_classes(openml):
    bunch = fetch_looptabfm_benchmark(data_ids=[31])[31]
    np.testing.assert_array_equal(bunch.data, [[31, 1], [1, 0], [np.nan, -1], [3, 1]])
    np.testing.assert_array_equal(bunch.target, [1, 0, 1, 1])
    assert bunch.target_names == ["bad", "good"]
    framed = fetch_looptabfm_benchmark(data_ids=[31], as_frame=True)[31]
    np.testing.assert_array_equal(framed.data.to_numpy(), bunch.data)


def test_more_than_two_classes_is_refused(openml_gives):
    answer = SimpleNamespace(data=pd.DataFrame({"x": [1.0, 2.0, 3.0]}), target=pd.Series(["a", "b", "c"]))
    openml_gives(answer)
    with pytest.raises(ValueError, match="two classes"):
        fetch_looptabfm_benchmark(data_ids=[3])


def test_offline_lists_the_bundled_sets(offline):
    with pytest.raises(DataUnavailableError, match="load_breast_cancer") as caught:
        fetch_looptabfm_benchmark()
    assert isinstance(caught.value.__cause__, urllib.error.URLError)


def test_unknown_id():
    with pytest.raises(ValueError, match=r"got \[4\]"):
        fetch_looptabfm_benchmark(data_ids=[3, 4])
