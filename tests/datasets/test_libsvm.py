import urllib.error
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

from mlpapers.datasets import DataUnavailableError, libsvm, load_libsvm


@pytest.fixture(scope="module")
def phishing():
    """A file of the size and class sizes of phishing: row i has feature i mod 68 + 1 set to i mod 5 + 1."""
    labels = np.repeat([1, 0], [6157, 4898])
    np.random.default_rng(0).shuffle(labels)
    lines = [f"{label} {i % 68 + 1}:{i % 5 + 1}" for i, label in enumerate(labels)]
    return labels, ("\n".join(lines) + "\n").encode()


def _check(bunch, labels):
    assert bunch.data.shape == (11055, 68)
    assert scipy.sparse.isspmatrix_csr(bunch.data)
    np.testing.assert_array_equal(bunch.target, 2 * labels - 1)
    rows = np.arange(11055)
    np.testing.assert_array_equal(np.asarray(bunch.data[rows, rows % 68]).ravel(), rows % 5 + 1)
    assert bunch.data.nnz == 11055


@pytest.mark.parametrize("folder", ["", "libsvm"])
def test_reads_a_file_of_the_collection(tmp_path, phishing, folder):
    labels, content = phishing
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "phishing").write_bytes(content)
    bunch = load_libsvm("phishing", data_home=tmp_path)
    _check(bunch, labels)
    assert bunch.source == str(tmp_path / folder / "phishing")


def test_options_agree(tmp_path, phishing):
    (tmp_path / "phishing").write_bytes(phishing[1])
    plain = load_libsvm("phishing", data_home=tmp_path)
    framed = load_libsvm("phishing", data_home=tmp_path, as_frame=True)
    np.testing.assert_array_equal(framed.data.to_numpy(), plain.data.toarray())
    assert framed.frame.shape == (11055, 69)
    X, y = load_libsvm("phishing", data_home=tmp_path, return_X_y=True)
    assert (plain.data != X).nnz == 0
    np.testing.assert_array_equal(y, framed.target)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1 1:1\n0 2:1\n", "expected shape"),
        (b"1 1:1\n", "expected two labels"),
        (b"hello\n", "is not the LIBSVM set"),
        (b"1 99:1\n0 1:1\n", "is not the LIBSVM set"),
    ],
)
def test_damaged_file(tmp_path, content, message):
    (tmp_path / "phishing").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_libsvm("phishing", data_home=tmp_path)


@pytest.mark.parametrize("name", ["a9a", "w8a", "covtype.binary", "phishing"])
def test_absent_has_the_command(name):
    with pytest.raises(DataUnavailableError, match=r"curl -O https://www\.csie\.ntu\.edu\.tw") as caught:
        load_libsvm(name)
    assert libsvm.SETS[name].url in str(caught.value)


def test_class_sizes_make_the_rows():
    for chosen in libsvm.SETS.values():
        assert sum(chosen.class_sizes) == chosen.shape[0]


def test_absent_and_offline(offline):
    with pytest.raises(DataUnavailableError, match="no route to host") as caught:
        load_libsvm("a9a", download=True)
    assert isinstance(caught.value.__cause__, urllib.error.URLError)
    assert f"curl -O {libsvm.SETS['a9a'].url}" in str(caught.value)
    openml, collection = offline
    assert openml[1]["name"] == "a9a"
    assert collection[0] == (libsvm.SETS["a9a"].url,)


def test_openml_first(phishing, openml_gives):
    labels, _ = phishing
    rows = np.arange(11055)
    X = scipy.sparse.csr_matrix((rows % 5 + 1.0, (rows, rows % 68)), shape=(11055, 68))
    answer = SimpleNamespace(data=X, target=np.where(labels == 1, "1", "-1").astype(object))
    openml_gives(answer)
    bunch = load_libsvm("phishing", download=True)
    _check(bunch, labels)
    assert bunch.source == "openml:phishing"


def test_another_selection_on_openml_leads_to_the_collection(phishing, openml_gives, server_gives):
    labels, content = phishing
    answer = SimpleNamespace(data=np.eye(4), target=np.array(["1", "0", "1", "0"], dtype=object))
    openml_gives(answer)
    server_gives(content)
    bunch = load_libsvm("phishing", download=True)
    _check(bunch, labels)
    assert bunch.source == libsvm.SETS["phishing"].url
    # The file was kept and is found without permission to download.
    _check(load_libsvm("phishing"), labels)


def test_unknown_name():
    with pytest.raises(ValueError, match=r"'a9a', 'w8a', 'covtype\.binary', 'phishing'; got 'mnist'"):
        load_libsvm("mnist")
