"""The library's vocabulary: one name per concept, checked on every public signature."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from mlpapers.core.result import Result
from mlpapers.testing.api import PublicObject, walk_api

__all__ = ["find_vocabulary_violations"]

# Name that is not used -> name that is; in any public signature.
NAMES = {
    "X_eval": "X_test",
    "X_valid": "X_val",
    "T": "horizon",
    "budget": "max_queries, max_permutations, n_subsets, n_loops or time_budget",
    "chunk": "chunk_size",
    "ci": "confidence",
    "confidence_level": "confidence",
    "data": "X",
    "ensemble_size": "n_estimators",
    "filename": "path",
    "filepath": "path",
    "jobs": "n_jobs",
    "K": "n_neighbors",
    "key_padding_mask": "attention_mask",
    "kind": "method, strategy or search",
    "algorithm": "method, strategy or search",
    "mode": "method, strategy or search",
    "labels": "y",
    "level": "confidence",
    "max_batch": "chunk_size",
    "n_ensembles": "n_estimators",
    "n_workers": "n_jobs",
    "nfev": "n_queries",
    "random_seed": "random_state",
    "rng": "random_state",
    "scores": "data_values",
    "seed": "random_state",
    "seeds": "random_states or n_replications",
    "solver_tol": "tol",
    "steps": "max_iter or n_steps",
    "weights": "sample_weight",
    "x_new": "X_new",
    "y_eval": "y_test",
    "y_valid": "y_val",
}
# Only in the constructor of a class with fit.
ESTIMATOR_NAMES = {
    "C": "alpha",
    "base": "estimator",
    "base_estimator": "estimator",
    "lam": "alpha",
    "model": "estimator",
}
# Letters that a module of theory may keep where its docstring defines them.
_LETTERS = frozenset({"eps"})
_DISTANCES = frozenset({"cosine", "euclidean", "manhattan", "minkowski", "precomputed"})


@dataclasses.dataclass(frozen=True)
class _Signature:
    """One public callable.

    `owner` is the public class or None; `name` the qualified name without the leading ``mlpapers.``.
    """

    name: str
    function: Callable[..., Any]
    owner: type | None
    package: str

    @property
    def parameters(self) -> list[inspect.Parameter]:
        try:
            found = list(inspect.signature(self.function).parameters.values())
        except ValueError:  # some builtins have no signature
            return []
        return [parameter for parameter in found if parameter.name not in ("self", "cls")]

    @property
    def verb(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def is_constructor(self) -> bool:
        return self.function is self.owner


def find_vocabulary_violations(
    exempt: Collection[str] = (), *, objects: Iterable[PublicObject] | None = None
) -> list[str]:
    """Return one line per name in a public signature that the vocabulary replaces by another.

    Parameters
    ----------
    exempt : collection of str
        Qualified names that stand although the vocabulary has another, e.g.
        ``"valuation.KNNShapley.algorithm"`` (constructor), ``"valuation.DataMarket.offer.kind"`` (method).
        One that exempts nothing is itself reported.
    objects : iterable of PublicObject, optional
        What to examine; default: the whole public API.

    Returns
    -------
    violations : list of str

    Examples
    --------
    >>> from mlpapers.testing import PublicObject
    >>> def fit(X, labels):
    ...     pass
    >>> find_vocabulary_violations(objects=[PublicObject("mine", "fit", fit)])
    ['fit.labels: call it y']
    """
    found: dict[str, str] = {}
    for item in walk_api() if objects is None else objects:
        for signature in _signatures(item):
            found.update(_violations(signature))
        found.update(_class_violations(item))
    lines = [f"{name}: {reason}" for name, reason in sorted(found.items()) if name not in exempt]
    lines += [f"{name}: is exempt, but breaks no rule" for name in sorted(set(exempt) - set(found))]
    return lines


def _violations(signature: _Signature) -> dict[str, str]:
    reasons = {}
    for parameter in signature.parameters:
        reason = _reason(parameter, signature)
        if reason:
            reasons[f"{signature.name}.{parameter.name}"] = reason
    if signature.verb == "fit" and not signature.is_constructor:
        reasons.update(_fit_order(signature))
    return reasons


def _reason(parameter: inspect.Parameter, signature: _Signature) -> str | None:
    """Return why the parameter's name is wrong in this signature, or None."""
    name, default = parameter.name, parameter.default
    if name in NAMES:
        return f"call it {NAMES[name]}"
    if signature.is_constructor and hasattr(signature.owner, "fit") and name in ESTIMATOR_NAMES:
        return f"call it {ESTIMATOR_NAMES[name]}"
    if name in _LETTERS and not _is_theory(signature, name):
        return "call it epsilon"
    if name == "alpha" and ("confidence" in signature.verb or "interval" in signature.verb):
        return "call it confidence"
    if name == "metric" and default not in _DISTANCES and "distance" not in signature.verb:
        return "metric is a distance; call it scoring"
    if name == "groups":
        return _groups_reason(default, signature)
    if name in ("A", "S") and signature.package == "mlpapers.fairness":
        return "call it sensitive_features"
    if name in ("X_test", "y_test") and signature.verb in ("fit", "partial_fit"):
        return f"data to learn or value against are {name.replace('test', 'val')}"
    if name == "sensitive_features" and signature.verb in ("fit", "predict", "score", "decision_function"):
        return None if parameter.kind is parameter.KEYWORD_ONLY else "make it keyword-only"
    if name == "download" and default is not False:
        return "download must be False by default"
    return None


def _groups_reason(default: Any, signature: _Signature) -> str | None:
    if isinstance(default, int) and not isinstance(default, bool):
        return "a count is n_groups"
    if signature.package == "mlpapers.valuation" or isinstance(default, str):
        return None
    return "call it sensitive_features"


def _fit_order(signature: _Signature) -> dict[str, str]:
    names = [parameter.name for parameter in signature.parameters]
    if "sample_weight" in names and names[:3] != ["X", "y", "sample_weight"]:
        return {f"{signature.name}.sample_weight": "make it the third parameter of fit, after X and y"}
    return {}


def _class_violations(item: PublicObject) -> dict[str, str]:
    value = item.value
    if isinstance(value, type) and value.__name__.endswith("Result") and not issubclass(value, Result):
        return {_short(item): "only subclasses of mlpapers.core.Result end in Result"}
    return {}


def _signatures(item: PublicObject) -> Iterator[_Signature]:
    """Yield the constructor and the public methods of a class, or the function itself."""
    value = item.value
    name = _short(item)
    if not isinstance(value, type):
        if inspect.isroutine(value):
            yield _Signature(name, value, None, item.package)
        return
    yield _Signature(name, value, value, item.package)
    for attribute in sorted(dir(value)):
        static = inspect.getattr_static(value, attribute)
        function = static.__func__ if isinstance(static, classmethod | staticmethod) else static
        origin = getattr(function, "__module__", None) or ""
        root = item.package.partition(".")[0]
        if not attribute.startswith("_") and inspect.isfunction(function) and origin.startswith(root):
            yield _Signature(f"{name}.{attribute}", function, value, item.package)


def _is_theory(signature: _Signature, letter: str) -> bool:
    module = getattr(signature.function, "__module__", "")
    defined = f"{letter} :" in (inspect.getdoc(signature.function) or "")
    return "theory" in module.rpartition(".")[2] and defined


def _short(item: PublicObject) -> str:
    return item.qualified_name.partition(".")[2]
