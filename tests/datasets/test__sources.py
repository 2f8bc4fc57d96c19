import io
import pickle
import warnings

import pytest

from mlpapers.datasets import DataUnavailableError, _sources
from mlpapers.datasets._sources import Wheel

TOY = Wheel("toy_wheel", "pip install toy-wheel")


@pytest.fixture
def places(tmp_path, install_wheels_at):
    """One folder for each source, and the toy wheel installed in one of them."""
    folders = {name: tmp_path / name for name in ("argument", "variable", "wheel", "sklearn/mlpapers")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    install_wheels_at(folders["wheel"])
    return folders


def _find(data_home=None, names=("a.txt",)):
    paths = _sources.find_files("toy", names, data_home=data_home, wheel=TOY, wheel_folder="inner")
    return None if paths is None else [path.parent for path in paths]


def test_order_of_the_sources(places, monkeypatch):
    assert _find() is None

    def add(folder):
        folder.mkdir(exist_ok=True)
        (folder / "a.txt").touch()
        return [folder]

    download = add(places["sklearn/mlpapers"] / "toy")
    assert _find() == download
    wheel = add(places["wheel"] / "inner")
    assert _find() == wheel
    monkeypatch.setenv("MLPAPERS_DATA", str(places["variable"]))
    assert _find() == wheel
    variable = add(places["variable"])
    assert _find() == variable
    assert _find(places["argument"]) == wheel  # the argument replaces the variable
    argument = add(places["argument"])
    assert _find(places["argument"]) == argument
    subfolder = add(places["argument"] / "toy")
    assert _find(str(places["argument"])) == subfolder


def test_files_that_belong_together_come_from_one_place(places):
    (places["argument"] / "a.txt").touch()
    (places["wheel"] / "inner").mkdir()
    for name in ("a.txt", "b.txt"):
        (places["wheel"] / "inner" / name).touch()
    assert _find(places["argument"], ("a.txt", "b.txt")) == [places["wheel"] / "inner"] * 2


def test_looking_creates_nothing(tmp_path, no_wheels):
    assert _find(tmp_path / "absent") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["toy.wheel", "", "a b"])
def test_wheel_takes_a_top_level_name_only(package):
    with pytest.raises(ValueError, match="top-level import name"):
        Wheel(package, "pip install toy")


def test_the_wheel_is_never_imported(tmp_path, monkeypatch):
    package = tmp_path / "toy_wheel"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert TOY.folder() == package


def test_a_module_has_no_folder(tmp_path, monkeypatch):
    (tmp_path / "toy_wheel.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert TOY.folder() is None


def test_the_error_is_a_file_not_found_error_and_can_be_pickled():
    error = _sources.unavailable("It", wheel=TOY, files=["a.txt"], data_home="/here", downloadable=True)
    assert isinstance(error, DataUnavailableError)
    assert isinstance(error, FileNotFoundError)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is DataUnavailableError
    assert str(copy) == str(error)
    for part in (
        "It is not available",
        "/here",
        "pip install toy-wheel",
        "a.txt",
        "MLPAPERS_DATA",
        "download=True",
    ):
        assert part in str(error)


@pytest.mark.parametrize(
    "failure", [TimeoutError("slow"), ConnectionResetError("gone"), ValueError("Dataset toy not found.")]
)
def test_every_failure_of_openml_is_unavailable(failure, monkeypatch):
    def fail(**query):
        warnings.warn("A network error occurred while downloading x. Retrying...", stacklevel=2)
        raise failure

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
    with pytest.raises(DataUnavailableError, match=str(failure)) as caught:
        _sources.fetch_openml("It", data_home=None, name="toy")
    assert caught.value.__cause__ is failure


def test_openml_keeps_its_files_in_the_data_folder(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("sklearn.datasets.fetch_openml", lambda **query: asked.append(query["data_home"]))
    _sources.fetch_openml("It", data_home=tmp_path / "a", name="toy")
    monkeypatch.setenv("MLPAPERS_DATA", str(tmp_path / "b"))
    _sources.fetch_openml("It", data_home=None, name="toy")
    monkeypatch.delenv("MLPAPERS_DATA")
    _sources.fetch_openml("It", data_home=None, name="toy")
    assert asked == [str(tmp_path / "a"), str(tmp_path / "b"), None]


def test_a_broken_download_leaves_nothing(tmp_path, monkeypatch):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 0:
                raise ConnectionResetError("gone")
            return super().read(min(size, 4))

    def urlopen(url, timeout):
        return Broken(b"12345678")

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    with pytest.raises(DataUnavailableError, match="gone"):
        _sources.download_file("It", "https://example.org/a", tmp_path / "sub" / "a")
    assert list((tmp_path / "sub").iterdir()) == []


@pytest.mark.parametrize("url", ["http://example.org/a", "file:///etc/hosts", "ftp://example.org/a"])
def test_only_https(url, tmp_path):
    with pytest.raises(ValueError, match="https"):
        _sources.download_file("It", url, tmp_path / "a")
