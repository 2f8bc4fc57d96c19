import importlib
import sys

import pytest

PACKAGE = """
from mlpapers.core._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__, {"Lion": "cats", "run": "run", "plants": None, "parallel_map": "mlpapers.core.parallel"}
)
"""


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    folder = tmp_path / "lazy_zoo"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "cats.py").write_text("class Lion: pass\n")
    (folder / "run.py").write_text("def run(): return 'ran'\n")
    (folder / "plants.py").write_text("import lazy_zoo.run\nTREE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("lazy_zoo")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lazy_zoo"]:
        del sys.modules[name]


def test_a_module_is_imported_when_a_name_is_used(zoo):
    assert "lazy_zoo.cats" not in sys.modules
    assert zoo.Lion is zoo.Lion
    assert zoo.Lion.__module__ == "lazy_zoo.cats"
    assert "lazy_zoo.plants" not in sys.modules
    assert zoo.plants.TREE == 1


def test_names_can_come_from_elsewhere(zoo):
    from mlpapers.core.parallel import parallel_map

    assert zoo.parallel_map is parallel_map


def test_all_and_dir_list_the_table(zoo):
    assert zoo.__all__ == ["Lion", "parallel_map", "plants", "run"]
    assert set(zoo.__all__) <= set(dir(zoo))
    assert "__name__" in dir(zoo)


def test_an_unknown_name_is_an_attribute_error(zoo):
    with pytest.raises(AttributeError, match="module 'lazy_zoo' has no attribute 'Tiger'"):
        _ = zoo.Tiger
    assert not hasattr(zoo, "Tiger")


def test_a_name_wins_over_the_submodule_of_the_same_name(zoo):
    assert zoo.run() == "ran"
    importlib.import_module("lazy_zoo.run")
    assert zoo.run() == "ran"


def test_a_name_wins_when_the_submodule_was_imported_first(zoo):
    module = importlib.import_module("lazy_zoo.run")
    assert sys.modules["lazy_zoo.run"] is module
    assert zoo.run() == "ran"
    importlib.import_module("lazy_zoo.plants")
    assert zoo.run() == "ran"


def test_a_star_import_gives_every_name(zoo):
    namespace = {}
    exec("from lazy_zoo import *", namespace)
    assert set(zoo.__all__) <= set(namespace)


def test_an_object_can_be_replaced(zoo, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("lazy_zoo.Lion", "a tiger")
        assert zoo.Lion == "a tiger"
    assert zoo.Lion.__name__ == "Lion"
