import pytest
import sklearn.datasets

from mlpapers import datasets


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("load_breast_cancer", (569, 30), 2),
        ("load_diabetes", (442, 10), None),
        ("load_digits", (1797, 64), 10),
        ("load_iris", (150, 4), 3),
        ("load_wine", (178, 13), 3),
    ],
)
def test_scikit_learns_own_functions(name, shape, classes, assert_consistent):
    loader = getattr(datasets, name)
    assert loader is getattr(sklearn.datasets, name)
    bunch = loader()
    assert bunch.data.shape == shape
    if classes is not None:
        assert len(set(bunch.target)) == classes
    assert_consistent(loader)
