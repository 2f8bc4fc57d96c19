"""The test harness: checks that hold for every paper package, usable on anybody's own classes and results.

``check_result`` examines a Result, ``check_estimator_contract`` an estimator, ``check_claim`` a claim, and
``find_vocabulary_violations`` the names of an API. ``mlpapers.testing.plugin`` is the pytest plugin behind
``pytest --mlpapers-claims``.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.testing.api import PublicObject as PublicObject
    from mlpapers.testing.api import walk_api as walk_api
    from mlpapers.testing.claims import ClaimFailure as ClaimFailure
    from mlpapers.testing.claims import check_claim as check_claim
    from mlpapers.testing.estimators import ContractCheck as ContractCheck
    from mlpapers.testing.estimators import all_estimators as all_estimators
    from mlpapers.testing.estimators import check_estimator_contract as check_estimator_contract
    from mlpapers.testing.estimators import contract_checks as contract_checks
    from mlpapers.testing.examples import Example as Example
    from mlpapers.testing.examples import make_example as make_example
    from mlpapers.testing.results import check_result as check_result
    from mlpapers.testing.results import same as same
    from mlpapers.testing.vocabulary import find_vocabulary_violations as find_vocabulary_violations

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "ClaimFailure": "claims",
        "ContractCheck": "estimators",
        "Example": "examples",
        "PublicObject": "api",
        "all_estimators": "estimators",
        "check_claim": "claims",
        "check_estimator_contract": "estimators",
        "check_result": "results",
        "contract_checks": "estimators",
        "find_vocabulary_violations": "vocabulary",
        "make_example": "examples",
        "same": "results",
        "walk_api": "api",
    },
)
