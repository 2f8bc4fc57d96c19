"""Real data, offline first.

A ``load_*`` function looks in the folder named by `data_home` or the environment variable MLPAPERS_DATA, then
in the installed packages that ship the data, and touches the network only with ``download=True``; a
``fetch_*`` function always may. For what is nowhere to be found they raise `DataUnavailableError`, a
FileNotFoundError whose message names the package or the command that provides it.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.datasets._sources import DataUnavailableError as DataUnavailableError
    from mlpapers.datasets.adult import load_adult as load_adult
    from mlpapers.datasets.bundled import load_breast_cancer as load_breast_cancer
    from mlpapers.datasets.bundled import load_diabetes as load_diabetes
    from mlpapers.datasets.bundled import load_digits as load_digits
    from mlpapers.datasets.bundled import load_iris as load_iris
    from mlpapers.datasets.bundled import load_wine as load_wine
    from mlpapers.datasets.cifar import load_cifar10 as load_cifar10
    from mlpapers.datasets.compas import load_compas as load_compas
    from mlpapers.datasets.german import load_german as load_german
    from mlpapers.datasets.libsvm import load_libsvm as load_libsvm
    from mlpapers.datasets.looptabfm import LOOPTABFM_IDS as LOOPTABFM_IDS
    from mlpapers.datasets.looptabfm import fetch_looptabfm_benchmark as fetch_looptabfm_benchmark
    from mlpapers.datasets.mnist import load_mnist5k as load_mnist5k
    from mlpapers.datasets.text import load_text as load_text
    from mlpapers.datasets.unlearning import load_unlearning_data as load_unlearning_data

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "DataUnavailableError": "_sources",
        "LOOPTABFM_IDS": "looptabfm",
        "fetch_looptabfm_benchmark": "looptabfm",
        "load_adult": "adult",
        "load_breast_cancer": "bundled",
        "load_cifar10": "cifar",
        "load_compas": "compas",
        "load_diabetes": "bundled",
        "load_digits": "bundled",
        "load_german": "german",
        "load_iris": "bundled",
        "load_libsvm": "libsvm",
        "load_mnist5k": "mnist",
        "load_text": "text",
        "load_unlearning_data": "unlearning",
        "load_wine": "bundled",
    },
)
