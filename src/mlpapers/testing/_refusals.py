"""The clauses of the estimator contract about what must be refused, and how."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import get_tags

from mlpapers.testing._require import require
from mlpapers.testing.examples import Example, make_data

# scikit-learn's own checks name no argument when lengths differ; its wording is known well enough.
_LENGTHS = "inconsistent numbers of samples"
_NEW_POINTS = frozenset({"X", "y", "X_new", "y_new", "X_test", "y_test"})
_NOT_QUERIES = re.compile(r"(get|set)_.*|(partial_)?fit(_.*)?")


def check_bad_data(example: Example) -> None:
    """Check that impossible data raise a ValueError or TypeError that names the argument."""
    for what, pattern, arguments in _bad_arguments(example):
        _expect(lambda: example.run(example.new(), arguments), pattern, what)  # noqa: B023 - called at once


def check_bad_parameters(example: Example) -> None:
    """Check that the run refuses an impossible parameter with its name in the message."""
    defaults = inspect.signature(type(example.estimator)).parameters
    broken = []
    for name in example.params:
        for what, value in _bad_values(defaults[name].default):
            try:
                _expect(
                    lambda: example.run(example.new(**{name: value})),  # noqa: B023 - called at once
                    rf"\b{name}\b",
                    f"{name}={what}",
                )
            except AssertionError as error:
                broken.append(str(error))
                break
    require(not broken, "; ".join(broken))


def check_not_fitted(example: Example) -> None:
    """Check that methods which need ``fit`` raise NotFittedError before it, and no other error."""
    estimator = example.new()
    data = make_data(estimator, seed=0, n_samples=40, n_features=5)
    for name, method in _queries(estimator):
        required = {
            parameter.name
            for parameter in inspect.signature(method).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        if not required <= set(data):
            continue
        try:
            output = method(**{argument: data[argument] for argument in required})
            if inspect.isgenerator(output):
                next(output, None)
        except NotFittedError:
            continue
        except Exception as error:
            raise AssertionError(
                f"{name}() before fit raises {type(error).__name__} ({error}), not NotFittedError"
            ) from error
        # A method that is given training and validation data of its own may work without fit.
        require(not required <= _NEW_POINTS, f"{name}() answers before fit; it must raise NotFittedError")


def _bad_arguments(example: Example) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (what is wrong, what the message must say, arguments)."""
    good = dict(example.arguments)
    tags = get_tags(example.estimator)
    for name in (name for name in good if name in ("X", "X_val", "X_test")):
        for value in (np.nan, np.inf):
            if not tags.input_tags.allow_nan:
                spoiled = good[name].copy()
                spoiled[1, 0] = value
                yield f"{value} in {name}", rf"\b{name}\b", {**good, name: spoiled}
        target = name.replace("X", "y")
        if target in good:
            short = {**good, target: good[target][:-1]}
            yield f"{target} shorter than {name}", rf"\b{target}\b|{_LENGTHS}", short
        if name != "X":
            narrow = {**good, name: good[name][:, :-1]}
            yield f"{name} with a column less than X", rf"\b{name}\b|features", narrow
            if target in example.accepts and example.accepts[target].default is not inspect.Parameter.empty:
                alone = {key: value for key, value in good.items() if key != target}
                yield f"{name} without {target}", rf"\b{target}\b", alone
    empty = {key: value[:0] if isinstance(value, np.ndarray) else value for key, value in good.items()}
    yield "empty data", r"\bX\b|0 sample|minimum of", {**empty, **{k: good[k] for k in good if "_val" in k}}
    yield "a one-dimensional X", r"\bX\b|1D array", {**good, "X": good["X"][:, 0]}
    if not tags.input_tags.sparse:
        yield "a sparse X", r"[Ss]parse", {**good, "X": sparse.csr_array(good["X"])}


def _bad_values(default: Any) -> Iterator[tuple[str, Any]]:
    yield "object()", object()
    if isinstance(default, str):
        yield "'no such option'", "no such option"
    if isinstance(default, int | float) and not isinstance(default, bool):
        yield "nan", float("nan")


def _queries(estimator: BaseEstimator) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the public methods that ask a fitted estimator for something."""
    for name in sorted(dir(type(estimator))):
        static = inspect.getattr_static(type(estimator), name)
        if name.startswith("_") or _NOT_QUERIES.fullmatch(name):
            continue
        if isinstance(static, classmethod | staticmethod | property):
            continue
        method = getattr(estimator, name, None)
        if inspect.ismethod(method):
            yield name, method


def _expect(action: Callable[[], Any], pattern: str, what: str) -> None:
    """Raise unless `action` raises a ValueError or TypeError whose message matches `pattern`."""
    try:
        action()
    except (ValueError, TypeError) as error:
        require(not isinstance(error, NotFittedError), f"{what} raises NotFittedError: {error}")
        require(
            re.search(pattern, str(error)) is not None,
            f"{what} is refused by a message that does not name it: {type(error).__name__}: {error}",
        )
    except Exception as error:
        raise AssertionError(
            f"{what} raises {type(error).__name__} ({error}), not a ValueError or TypeError"
        ) from error
    else:
        raise AssertionError(f"{what} is accepted")
