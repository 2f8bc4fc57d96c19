"""Machine-learning theory papers as software: every method an estimator, every claim an experiment."""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach
from mlpapers.core._numba_cache import ensure_numba_cache

__version__ = "0.1.0"

ensure_numba_cache()

if TYPE_CHECKING:
    from mlpapers import attention as attention
    from mlpapers import bandits as bandits
    from mlpapers import core as core
    from mlpapers import datasets as datasets
    from mlpapers import fairness as fairness
    from mlpapers import icl as icl
    from mlpapers import kernels as kernels
    from mlpapers import optim as optim
    from mlpapers import testing as testing
    from mlpapers import unlearning as unlearning
    from mlpapers import valuation as valuation
    from mlpapers.core.paper import papers as papers
    from mlpapers.core.reproduce import reproduce as reproduce

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "attention": None,
        "bandits": None,
        "core": None,
        "datasets": None,
        "fairness": None,
        "icl": None,
        "kernels": None,
        "optim": None,
        "papers": "core.paper",
        "reproduce": "core.reproduce",
        "testing": None,
        "unlearning": None,
        "valuation": None,
    },
)
