"""Estimators: finding them all, and checking that each keeps the library's contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator

from mlpapers.testing._contract import CLAUSES
from mlpapers.testing.api import walk_api
from mlpapers.testing.examples import Example, make_example

__all__ = ["ContractCheck", "all_estimators", "check_estimator_contract", "contract_checks"]


def all_estimators(root: str = "mlpapers") -> list[tuple[str, type[BaseEstimator]]]:
    """Return every public concrete BaseEstimator class with its qualified name, sorted by name.

    Parameters
    ----------
    root : str
        The package whose public names are walked, sub-packages included.

    Returns
    -------
    estimators : list of (name, class)

    Examples
    --------
    >>> from mlpapers.testing import all_estimators
    >>> [kind.__name__ for _, kind in all_estimators("mlpapers.valuation")][:3]
    ['AsymmetricShapley', 'BetaShapley', 'DataBanzhaf']
    """
    return sorted(
        (item.qualified_name, item.value)
        for item in walk_api(root)
        if isinstance(item.value, type)
        and issubclass(item.value, BaseEstimator)
        and not inspect.isabstract(item.value)
    )


@dataclass(frozen=True)
class ContractCheck:
    """One clause of the contract, bound to one estimator; call it to check.

    Attributes
    ----------
    name : str
        The clause, e.g. ``"pickle"``.
    run : callable
        Raises an AssertionError where the clause is broken.
    """

    name: str
    run: Callable[[], None]

    def __call__(self) -> None:
        """Check the clause."""
        self.run()


def contract_checks(source: type[BaseEstimator] | BaseEstimator, **given: Any) -> list[ContractCheck]:
    """Return the clauses that apply to an estimator, each as a callable check.

    An estimator of which no example can be made gets the one check ``"example"``, which raises the reason.

    Parameters
    ----------
    source : BaseEstimator class or instance
    **given
        ``method`` and ``arguments`` of :func:`make_example`.

    Returns
    -------
    checks : list of ContractCheck

    Examples
    --------
    >>> from mlpapers.testing import contract_checks
    >>> from mlpapers.valuation import KNNShapley
    >>> checks = contract_checks(KNNShapley)
    >>> [check.name for check in checks][:3]
    ['constructor', 'params', 'attributes']
    >>> checks[0]()
    """
    try:
        example = make_example(source, **given)
    except Exception as error:  # noqa: BLE001 - raised again when the check runs
        return [ContractCheck("example", _raiser(error))]
    return [
        ContractCheck(name, _binder(check, example))
        for name, (applies, check) in CLAUSES.items()
        if applies(example)
    ]


def check_estimator_contract(
    estimator: BaseEstimator,
    *,
    method: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Check a BaseEstimator against the library's contract.

    The constructor only stores; ``clone``, ``get_params`` and ``set_params`` work; running changes neither
    inputs nor parameters; the same ``random_state`` gives the same numbers for any ``n_jobs``; it pickles;
    what is learned ends with an underscore and is overwritten by the next fit; bad data and parameters are
    refused by name; methods raise NotFittedError before fit; frames give ``feature_names_in_``. Estimators
    with ``fit`` and ``predict`` should pass :func:`sklearn.utils.estimator_checks.check_estimator` besides.

    Parameters
    ----------
    estimator : BaseEstimator
        It is cloned, never run itself.
    method : str, optional
        The method that runs it; default: what its class says, else ``"fit"``.
    arguments : mapping, optional
        Small arguments for that method; default: what its class says, else small data by the names in its
        signature.
    expected_failures : mapping of str to str, optional
        Clauses that are known to fail -> why. One that passes all the same is an error.

    Raises
    ------
    AssertionError
        Lists every clause that is broken.

    Examples
    --------
    >>> from mlpapers.testing import check_estimator_contract
    >>> from mlpapers.valuation import KNNShapley
    >>> check_estimator_contract(KNNShapley(n_neighbors=3))
    """
    expected = dict(expected_failures or {})
    failures = {}
    checks = contract_checks(estimator, method=method, arguments=arguments)
    for check in checks:
        try:
            check()
        except Exception as error:  # noqa: BLE001 - every clause is examined, then all are reported
            failures[check.name] = error
    unknown = set(expected) - {check.name for check in checks}
    broken = [f"{name}: {error}" for name, error in failures.items() if name not in expected]
    stale = sorted(set(expected) - set(failures) - unknown)
    broken += [f"{name}: expected to fail ({expected[name]}), but holds" for name in stale]
    broken += [f"{name}: expected to fail, but is no clause that applies here" for name in sorted(unknown)]
    if broken:
        first = next((error for name, error in failures.items() if name not in expected), None)
        raise AssertionError(
            f"{type(estimator).__name__} breaks the contract:\n" + "\n".join(f"- {line}" for line in broken)
        ) from first


def _binder(check: Callable[[Example], None], example: Example) -> Callable[[], None]:
    return lambda: check(example)


def _raiser(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail
