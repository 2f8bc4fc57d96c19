import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mlpapers.datasets import DataUnavailableError, load_cifar10


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in with torchvision's behaviour: RuntimeError where the files are missing."""
    rng = np.random.default_rng(0)
    content = {True: rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), False: None}
    content[False] = content[True][:2]

    def make(root, train, download):
        if not download:
            raise RuntimeError("Dataset not found or corrupted.")
        return SimpleNamespace(
            data=content[train], targets=[0, 1] * (len(content[train]) // 2), classes=["x"]
        )

    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(CIFAR10=make))
    return content


def test_pixels(torchvision, assert_consistent):
    bunch = load_cifar10(download=True)
    np.testing.assert_array_equal(bunch.images, torchvision[True])
    np.testing.assert_array_equal(bunch.data.reshape(6, 32, 32, 3), torchvision[True])
    assert bunch.data[1, bunch.feature_names.index("pixel_3_5_g")] == torchvision[True][1, 3, 5, 1]
    assert len(load_cifar10(subset="test", download=True).target) == 2
    assert_consistent(lambda **options: load_cifar10(download=True, **options))


def test_files_absent(torchvision):
    with pytest.raises(DataUnavailableError, match="not found or corrupted") as caught:
        load_cifar10()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_torchvision_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(DataUnavailableError, match="pip install torchvision"):
        load_cifar10()


def test_unknown_subset():
    with pytest.raises(ValueError, match="subset must be one of 'train', 'test'"):
        load_cifar10(subset="all")
