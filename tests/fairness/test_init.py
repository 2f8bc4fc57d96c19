from mlpapers import datasets, fairness


def test_loaders_are_those_of_the_datasets_package():
    for name in ("load_adult", "load_compas", "load_german"):
        assert getattr(fairness, name) is getattr(datasets, name)
