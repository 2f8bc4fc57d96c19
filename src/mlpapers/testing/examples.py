"""Examples: how to make an instance of any estimator and small arguments for the method that runs it.

A class whose constructor needs nothing and whose ``fit`` takes the usual arguments (``X``, ``y``, ``X_val``)
needs no preparation. Any other class says how with a classmethod, which its subclasses inherit::

    @classmethod
    def __mlpapers_example__(cls):
        return {
            "params": {"dim": 2},  # constructor parameters: required ones, small sizes
            "method": "run",  # the method that does the work, default "fit"
            "arguments": {"env": Env(), "horizon": 100},  # what it is called with, default by name
        }

Every key may be left out.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone, is_regressor
from sklearn.utils import get_tags

HOOK = "__mlpapers_example__"
_HOOK_KEYS = frozenset({"params", "method", "arguments"})
# Optional arguments of fit that are passed all the same: without them a class works differently or warns.
_USUAL = ("X", "y", "X_val", "y_val", "sensitive_features")


@dataclass(frozen=True)
class Example:
    """An estimator that was never run, the method that runs it, and arguments.

    Attributes
    ----------
    estimator : BaseEstimator
        A template; :meth:`new` makes the instances that are run.
    method : str
        ``"fit"``, or the class's own verb (``"run"``, ``"reset"``, ``"generate"`` …).
    arguments : mapping
        Small arguments for it, by name.
    other_arguments : mapping
        Different data (other sizes) where the arguments are the default ones, else the same.
    """

    estimator: BaseEstimator
    method: str = "fit"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    other_arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, Any]:
        """The constructor parameters of the estimator."""
        return dict(self.estimator.get_params(deep=False))

    @property
    def accepts(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the method."""
        return inspect.signature(getattr(self.estimator, self.method)).parameters

    def takes(self, name: str) -> bool:
        """Whether the constructor or the method has a parameter `name`."""
        return name in self.params or name in self.accepts

    def new(self, **changes: Any) -> BaseEstimator:
        """Return a fresh instance with `changes` to its parameters; ``random_state`` is 0 unless changed."""
        estimator = clone(self.estimator)
        if "random_state" in self.params:
            changes = {"random_state": 0, **changes}
        return estimator.set_params(**changes)

    def run(self, estimator: BaseEstimator, arguments: Mapping[str, Any] | None = None) -> Any:
        """Call the method on `estimator` with copies of the arguments and return what it returns."""
        chosen = dict(copy.deepcopy(dict(self.arguments if arguments is None else arguments)))
        if "random_state" in self.accepts:
            chosen.setdefault("random_state", 0)
        return getattr(estimator, self.method)(**chosen)


def make_example(source: type[BaseEstimator] | BaseEstimator, **given: Any) -> Example:
    """Return an Example for a class or for an instance.

    Parameters
    ----------
    source : BaseEstimator class or instance
        For a class the parameters come from its ``__mlpapers_example__``, else from its defaults.
    **given
        ``method`` and ``arguments`` that replace those of the class.

    Returns
    -------
    example : Example

    Raises
    ------
    TypeError
        If no instance or no arguments can be made; the message says what is missing.

    Examples
    --------
    >>> from mlpapers.testing import make_example
    >>> from mlpapers.valuation import KNNShapley
    >>> example = make_example(KNNShapley)
    >>> example.method, sorted(example.arguments)
    ('fit', ['X', 'X_val', 'y', 'y_val'])
    >>> example.run(example.new(n_neighbors=1)).n_neighbors
    1
    """
    kind = source if isinstance(source, type) else type(source)
    recipe = {**_recipe(kind), **{key: value for key, value in given.items() if value is not None}}
    estimator = _make_instance(kind, recipe.get("params", {})) if isinstance(source, type) else clone(source)
    method = recipe.get("method", "fit")
    if not callable(getattr(estimator, method, None)):
        raise TypeError(f"{kind.__name__} has no method {method!r}; {_advice()}")
    if "arguments" in recipe:
        arguments = dict(recipe["arguments"])
        return Example(estimator, method, arguments, arguments)
    function = getattr(estimator, method)
    return Example(
        estimator,
        method,
        default_arguments(function, make_data(estimator, seed=0, n_samples=40, n_features=5)),
        default_arguments(function, make_data(estimator, seed=1, n_samples=31, n_features=7)),
    )


def make_data(estimator: BaseEstimator, *, seed: int, n_samples: int, n_features: int) -> dict[str, Any]:
    """Return arrays by their names in the library's vocabulary, fit for what the estimator's tags say.

    Three Gaussian classes (two for binary-only classifiers, a linear response for regressors); ``X, y`` have
    `n_samples` rows, ``X_val, y_val`` and ``X_test, y_test`` a third of that, ``X_new, y_new`` 4.
    """
    rng = np.random.default_rng(seed)
    tags = get_tags(estimator)
    binary = tags.classifier_tags is not None and not tags.classifier_tags.multi_class
    n_classes = 2 if binary else 3
    centres = rng.normal(scale=2.0, size=(n_classes, n_features))

    def draw(n: int) -> tuple[Any, Any]:
        labels = np.arange(n) % n_classes
        points = centres[labels] + rng.normal(size=(n, n_features))
        if tags.input_tags.positive_only:
            points = np.abs(points)
        targets = points @ np.linspace(1.0, 2.0, n_features) if is_regressor(estimator) else labels
        return points, targets

    data: dict[str, Any] = {}
    for suffix, n in {"": n_samples, "_val": n_samples // 3, "_test": n_samples // 3, "_new": 4}.items():
        data[f"X{suffix}"], data[f"y{suffix}"] = draw(n)
    data["sensitive_features"] = np.where(rng.random(n_samples) < 0.5, "a", "b")
    return data


def default_arguments(function: Callable[..., Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `data` that `function` requires or usually gets; TypeError for an unknown one."""
    arguments = {}
    for name, parameter in inspect.signature(function).parameters.items():
        required = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        )
        if required and name not in data:
            raise TypeError(f"no example of {name!r}, which {function.__qualname__} requires; {_advice()}")
        if required or name in _USUAL:
            arguments[name] = data[name]
    return arguments


def _make_instance(kind: type[BaseEstimator], params: Mapping[str, Any]) -> BaseEstimator:
    try:
        return kind(**params)
    except TypeError as error:
        raise TypeError(f"{kind.__name__} cannot be made: {error}; {_advice()}") from error


def _recipe(kind: type[BaseEstimator]) -> dict[str, Any]:
    hook = getattr(kind, HOOK, None)
    recipe = dict(hook()) if hook is not None else {}
    unknown = set(recipe) - _HOOK_KEYS
    if unknown:
        raise TypeError(f"{kind.__name__}.{HOOK} has the unknown keys {sorted(unknown)}; {_advice()}")
    return recipe


def _advice() -> str:
    return f"define the classmethod {HOOK} (see mlpapers.testing.examples)"
