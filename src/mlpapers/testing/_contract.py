"""The clauses of the estimator contract; each raises an AssertionError that says what is broken."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone

from mlpapers.testing._equality import same
from mlpapers.testing._refusals import check_bad_data, check_bad_parameters, check_not_fitted
from mlpapers.testing._require import require
from mlpapers.testing.examples import Example

# Wall times differ between runs that are otherwise the same.
TIMES = ("seconds", "seconds_", "wall_time", "wall_time_")
# What a result names its rows by: the index of a frame.
ROW_NAMES = ("players",)


def check_constructor(example: Example) -> None:
    """Check that ``__init__`` stores every parameter as it is, whatever it is, and does nothing else."""
    kind = type(example.estimator)
    parameters = list(inspect.signature(kind).parameters.values())
    variadic = [p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    require(not variadic, f"__init__ takes {variadic} as * or **; every parameter must be explicit")
    mutable = [p.name for p in parameters if isinstance(p.default, list | dict | set | np.ndarray)]
    require(not mutable, f"the defaults of {mutable} are mutable, so instances would share them")

    marks = {parameter.name: object() for parameter in parameters}
    try:
        estimator = kind(**marks)
    except Exception as error:
        raise AssertionError(f"__init__ looks at its parameters: {type(error).__name__}: {error}") from error
    stored = vars(estimator)
    changed = [name for name, mark in marks.items() if stored.get(name) is not mark]
    require(not changed, f"__init__ does not store {changed} as given")
    extra = sorted(set(stored) - set(marks))
    require(not extra, f"__init__ sets {extra}, which are no parameters")


def check_params(example: Example) -> None:
    """Check that ``clone``, ``get_params`` and ``set_params`` agree, before and after the run."""
    estimator = example.new()
    params = estimator.get_params(deep=False)
    require(
        set(params) == set(inspect.signature(type(estimator)).parameters), "get_params() misses parameters"
    )
    require(same(clone(estimator).get_params(deep=False), params), "clone() changes parameters")
    marks = {name: object() for name in params}
    marked = clone(estimator).set_params(**marks)
    wrong = [name for name, mark in marks.items() if marked.get_params(deep=False)[name] is not mark]
    require(not wrong, f"set_params() does not store {wrong} as given")
    try:
        clone(estimator).set_params(no_such_parameter=1)
    except ValueError:
        pass
    else:
        raise AssertionError("set_params() accepts an unknown parameter")
    example.run(estimator)
    left = sorted(learned(clone(estimator)))
    require(not left, f"clone() keeps what was learned: {left}")


def check_attributes(example: Example) -> None:
    """Check that what is learned ends with an underscore and parameters stay as they were."""
    estimator = example.new()
    early = [name for name in _learned_names(estimator) if _has(estimator, name)]
    require(not early, f"{early} exist before {example.method}")

    before, kept = dict(vars(estimator)), copy.deepcopy(estimator.get_params(deep=False))
    output = example.run(estimator)
    if example.method == "fit":
        require(output is estimator, f"fit returns {type(output).__name__}, not self")
    require(bool(learned(estimator, output)), f"{example.method} learns nothing and returns nothing")
    names = set(vars(estimator)) - set(before)
    odd = sorted(name for name in names if not (name.startswith("_") or name.endswith("_")))
    require(not odd, f"{odd} appear after {example.method} without a trailing underscore")
    replaced = [name for name, value in before.items() if vars(estimator).get(name) is not value]
    require(not replaced, f"{example.method} replaces the parameters {replaced}")
    changed = [name for name, value in kept.items() if not same(getattr(estimator, name), value)]
    if "random_state" in changed:
        changed.remove("random_state")  # a generator that was given advances
    require(not changed, f"{example.method} changes the objects given as {changed}; clone them")


def check_inputs(example: Example) -> None:
    """Check that the run changes none of its arguments and works on read-only arrays."""
    given = copy.deepcopy(dict(example.arguments))
    kept = copy.deepcopy(given)
    for array in _arrays(given):
        array.setflags(write=False)
    estimator = example.new()
    try:
        getattr(estimator, example.method)(**given)
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise AssertionError(f"{example.method} writes to its inputs: {error}") from error
    changed = [name for name, value in kept.items() if not same(given[name], value)]
    require(not changed, f"{example.method} changes its arguments {changed}")


def check_random_state(example: Example) -> None:
    """Check that an int, RandomState or Generator fixes the numbers, without numpy's global state."""
    kinds: dict[str, Callable[[], Any]] = {
        "an int": lambda: 0,
        "a RandomState": lambda: np.random.RandomState(0),
        "a Generator": lambda: np.random.default_rng(0),
    }
    before = np.random.get_state(legacy=False)  # noqa: NPY002 - it is the global state that is watched
    for name, make in kinds.items():
        runs = [_run(example, "random_state", make()) for _ in range(2)]
        require(
            same(*runs, ignore=TIMES), f"two runs with {name} as random_state differ in {_differences(*runs)}"
        )
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    require(same(before, after), "numpy's global random state is used although random_state is given")


def check_n_jobs(example: Example) -> None:
    """Check that the numbers do not depend on ``n_jobs``, to the last bit."""
    serial, parallel = (_run(example, "n_jobs", n_jobs) for n_jobs in (1, 2))
    require(
        same(serial, parallel, ignore=TIMES),
        f"n_jobs=1 and n_jobs=2 differ in {_differences(serial, parallel)}",
    )


def check_pickle(example: Example) -> None:
    """Check that a pickle brings back the parameters before the run, and what was learned after it."""
    estimator = example.new()
    copied = _pickled(estimator)
    require(
        same(copied.get_params(deep=False), estimator.get_params(deep=False)), "pickling changes parameters"
    )
    output = example.run(estimator)
    restored = _pickled(estimator)
    require(type(restored) is type(estimator), f"pickling gives a {type(restored).__name__}")
    require(
        same(learned(restored), learned(estimator)),
        f"pickling changes {_differences(learned(restored), learned(estimator))}",
    )
    again = learned(copied, example.run(copied))
    require(same(again, learned(estimator, output), ignore=TIMES), "an unpickled estimator runs differently")


def check_refit(example: Example) -> None:
    """Check that a second run forgets the first."""
    used = example.new()
    example.run(used, example.other_arguments)
    again, fresh = learned(used, example.run(used)), _run(example)
    require(
        same(again, fresh, ignore=TIMES),
        f"a second {example.method} leaves other values than a first one in {_differences(again, fresh)}",
    )


def check_frames(example: Example) -> None:
    """Check that frames give the numbers that arrays give, and ``feature_names_in_``."""
    columns = [f"feature {j}" for j in range(example.arguments["X"].shape[1])]
    frames = {name: _as_frame(value, columns) for name, value in example.arguments.items()}
    estimator = example.new()
    output = example.run(estimator, frames)
    names = list(getattr(estimator, "feature_names_in_", ()))
    require(names == columns, f"feature_names_in_ is {names}, not the columns {columns}")
    n_features = getattr(estimator, "n_features_in_", None)
    require(n_features == len(columns), f"n_features_in_ is {n_features}, not {len(columns)}")
    from_frames, from_arrays = learned(estimator, output), _run(example)
    del from_frames["feature_names_in_"]
    require(
        same(from_frames, from_arrays, ignore=(*TIMES, *ROW_NAMES)),
        f"frames and arrays give different {_differences(from_frames, from_arrays)}",
    )


def learned(estimator: BaseEstimator, output: Any = None) -> dict[str, Any]:
    """Return what a run left: the public attributes with a trailing underscore, and what it returned."""
    state = {name: value for name, value in vars(estimator).items() if _is_learned(name)}
    if output is not None and output is not estimator:
        state["(returned)"] = list(output) if isinstance(output, Iterator) else output
    return state


def _pickled(estimator: BaseEstimator) -> Any:
    return pickle.loads(pickle.dumps(estimator))  # noqa: S301 - written on the same line


def _run(example: Example, name: str | None = None, value: Any = None) -> dict[str, Any]:
    """Run a fresh instance, with `name` set to `value` where it is a parameter; return what it left."""
    changes = {name: value} if name in example.params else {}
    arguments = dict(example.arguments)
    if name is not None and name in example.accepts:
        arguments[name] = value
    estimator = example.new(**changes)
    return learned(estimator, example.run(estimator, arguments))


def _learned_names(estimator: BaseEstimator) -> list[str]:
    return sorted(name for name in {*vars(estimator), *dir(type(estimator))} if _is_learned(name))


def _is_learned(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


def _has(estimator: BaseEstimator, name: str) -> bool:
    # NotFittedError is an AttributeError, so a property may raise it.
    return hasattr(estimator, name)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in {*a, *b} if name not in a or name not in b or not same(a[name], b[name]))


def _as_frame(value: Any, columns: list[str]) -> Any:
    """Return arrays as a DataFrame or Series whose index counts backwards, so that alignment by it shows."""
    if not isinstance(value, np.ndarray) or value.ndim not in (1, 2):
        return value
    index = np.arange(len(value))[::-1]
    if value.ndim == 1:
        return pd.Series(value, index=index)
    return pd.DataFrame(value, index=index, columns=columns if value.shape[1] == len(columns) else None)


def _arrays(value: Any) -> Iterator[Any]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _arrays(item)


def _always(_: Example) -> bool:
    return True


def _has_table(example: Example) -> bool:
    table = example.arguments.get("X")
    return isinstance(table, np.ndarray) and table.ndim == 2


# Name of a clause -> (whether it applies, the check).
CLAUSES: dict[str, tuple[Callable[[Example], bool], Callable[[Example], None]]] = {
    "constructor": (_always, check_constructor),
    "params": (_always, check_params),
    "attributes": (_always, check_attributes),
    "inputs": (_always, check_inputs),
    "random_state": (lambda example: example.takes("random_state"), check_random_state),
    "n_jobs": (lambda example: example.takes("n_jobs"), check_n_jobs),
    "pickle": (_always, check_pickle),
    "refit": (_always, check_refit),
    "frames": (_has_table, check_frames),
    "bad_data": (_has_table, check_bad_data),
    "bad_parameters": (lambda example: bool(example.params), check_bad_parameters),
    "not_fitted": (lambda example: example.method == "fit", check_not_fitted),
}
