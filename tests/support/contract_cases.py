"""A good estimator, and one broken variant for every clause of the contract."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpapers.core.parallel import parallel_map, spawn_seeds
from mlpapers.core.validation import check_choice, check_int, check_real


class Good(BaseEstimator):
    """Scores each training point by its distance to noisy copies of the validation mean."""

    def __init__(self, scale=1.0, *, method="mean", n_draws=3, random_state=None, n_jobs=None):
        self.scale = scale
        self.method = method
        self.n_draws = n_draws
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X, y, X_val=None, y_val=None):
        X, y, X_val = self._validate(X, y, X_val, y_val)
        draws = self._draw(X, X_val)
        self.values_ = np.mean(draws, axis=0)
        self.draws_ = draws
        self.labels_ = np.unique(y)
        return self

    def _validate(self, X, y, X_val, y_val):
        check_real("scale", self.scale, low=0.0)
        check_choice("method", self.method, ["mean", "median"])
        check_int("n_draws", self.n_draws, minimum=1)
        if self.n_jobs is not None:
            check_int("n_jobs", self.n_jobs)
        X, y = validate_data(self, X, y)
        if X_val is None:
            return X, y, X
        if y_val is None:
            raise ValueError("y_val must be given where X_val is")
        X_val = check_array(X_val, input_name="X_val")
        if len(y_val) != len(X_val):
            raise ValueError(f"y_val must have {len(X_val)} entries; got {len(y_val)}")
        if X_val.shape[1] != X.shape[1]:
            raise ValueError(f"X_val must have {X.shape[1]} columns; got {X_val.shape[1]}")
        return X, y, X_val

    def _draw(self, X, X_val):
        centre = getattr(np, self.method)(X_val, axis=0)
        seeds = spawn_seeds(self.random_state, self.n_draws)
        return np.array(
            parallel_map(noisy_distance, seeds, shared=(X, centre, self.scale), n_jobs=self.n_jobs)
        )

    def ranking(self):
        check_is_fitted(self)
        return np.argsort(self.values_)

    def evaluate(self, X_new):
        check_is_fitted(self)
        return np.linalg.norm(X_new, axis=1)

    def distances(self, X, X_val):
        return np.linalg.norm(X[:, None] - X_val[None], axis=2)

    def stream(self, X):
        check_is_fitted(self)
        yield from X


def noisy_distance(X, centre, scale, seed):
    noise = np.random.default_rng(seed).normal(scale=scale, size=centre.shape)
    return np.linalg.norm(X - centre - noise, axis=1)


class ComputesInInit(Good):
    def __init__(self, scale=1.0, *, method="mean", n_draws=3, random_state=None, n_jobs=None):
        super().__init__(scale, method=method, n_draws=n_draws, random_state=random_state, n_jobs=n_jobs)
        self.variance = 1.0


class ConvertsInInit(Good):
    def __init__(self, scale=1.0, *, method="mean", n_draws=3, random_state=None, n_jobs=None):
        super().__init__(scale, method=str(method), n_draws=n_draws, random_state=random_state, n_jobs=n_jobs)


class ValidatesInInit(Good):
    def __init__(self, scale=1.0, *, method="mean", n_draws=3, random_state=None, n_jobs=None):
        check_choice("method", method, ["mean", "median"])
        super().__init__(scale, method=method, n_draws=n_draws, random_state=random_state, n_jobs=n_jobs)


class MutableDefault(Good):
    def __init__(self, scale=1.0, *, method="mean", n_draws=3, random_state=None, n_jobs=None, weights=[]):  # noqa: B006
        super().__init__(scale, method=method, n_draws=n_draws, random_state=random_state, n_jobs=n_jobs)
        self.weights = weights


class HidesAParameter(Good):
    def get_params(self, deep=True):
        params = super().get_params(deep)
        del params["n_draws"]
        return params


class SwallowsUnknownParams(Good):
    def set_params(self, **params):
        known = self.get_params(deep=False)
        return super().set_params(**{name: value for name, value in params.items() if name in known})


class LearnedTooEarly(Good):
    classes_ = ("a", "b")


class ReturnsNothing(Good):
    def fit(self, X, y, X_val=None, y_val=None):
        super().fit(X, y, X_val, y_val)


class UnmarkedAttribute(Good):
    def fit(self, X, y, X_val=None, y_val=None):
        super().fit(X, y, X_val, y_val)
        self.n_rows = len(X)
        return self


class ReplacesParameter(Good):
    def fit(self, X, y, X_val=None, y_val=None):
        super().fit(X, y, X_val, y_val)
        self.scale = 2.0
        return self


class FitsItsParameter(Good):
    """Fits the estimator that it was given, not a clone of it."""

    def __init__(self, estimator, scale=1.0, *, method="mean", n_draws=3, random_state=None, n_jobs=None):
        super().__init__(scale, method=method, n_draws=n_draws, random_state=random_state, n_jobs=n_jobs)
        self.estimator = estimator

    def fit(self, X, y, X_val=None, y_val=None):
        if not hasattr(self.estimator, "fit"):
            raise TypeError(f"estimator must have fit; got {self.estimator!r}")
        super().fit(X, y, X_val, y_val)
        self.estimator.fit(X, y)
        return self


class WritesToX(Good):
    def fit(self, X, y, X_val=None, y_val=None):
        if isinstance(X, np.ndarray) and X.ndim == 2 and len(X):
            X[0, 0] = 0.0
        return super().fit(X, y, X_val, y_val)


class SortsTargets(Good):
    """Writes through a path that ignores the read-only flag."""

    def fit(self, X, y, X_val=None, y_val=None):
        super().fit(X, y, X_val, y_val)
        if isinstance(y, np.ndarray):
            y.flags.writeable = True
            y.sort()
        return self


class IgnoresRandomState(Good):
    def _draw(self, X, X_val):
        return np.array([noisy_distance(X, X_val.mean(axis=0), self.scale, None)])


class UsesGlobalState(Good):
    def _draw(self, X, X_val):
        np.random.seed(0)  # noqa: NPY002
        return super()._draw(X, X_val)


class NoGenerators(Good):
    def _draw(self, X, X_val):
        np.random.RandomState(self.random_state)
        return super()._draw(X, X_val)


class DependsOnWorkers(Good):
    def _draw(self, X, X_val):
        return super()._draw(X, X_val) * (1.0 + 1e-15 * (self.n_jobs or 1))


class LosesStateInPickle(Good):
    def __getstate__(self):
        state = dict(super().__getstate__())
        state.pop("draws_", None)
        return state


class CannotPickle(Good):
    def fit(self, X, y, X_val=None, y_val=None):
        super().fit(X, y, X_val, y_val)
        self.function_ = lambda: 0
        return self


class WarmStart(Good):
    def fit(self, X, y, X_val=None, y_val=None):
        runs = getattr(self, "n_runs_", 0)
        super().fit(X, y, X_val, y_val)
        self.n_runs_ = runs + 1
        return self


class LeavesStaleAttributes(Good):
    def fit(self, X, y, X_val=None, y_val=None):
        super().fit(X, y, X_val, y_val)
        if len(X) < 35:
            self.warning_ = "few rows"
        return self


class DropsNames(Good):
    def fit(self, X, y, X_val=None, y_val=None):
        super().fit(X, y, X_val, y_val)
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self


class AlignsByIndex(Good):
    def fit(self, X, y, X_val=None, y_val=None):
        super().fit(X, y, X_val, y_val)
        self.order_ = np.asarray(getattr(X, "index", np.arange(len(X))))
        return self


class AcceptsNaN(Good):
    def _validate(self, X, y, X_val, y_val):
        finite = [np.nan_to_num(table) if isinstance(table, np.ndarray) else table for table in (X, X_val)]
        return super()._validate(finite[0], y, finite[1], y_val)


class NamelessError(Good):
    def _validate(self, X, y, X_val, y_val):
        if X_val is not None and len(X_val) != len(y_val):
            raise ValueError("something is wrong")
        return super()._validate(X, y, X_val, y_val)


class BareIndexError(Good):
    def _validate(self, X, y, X_val, y_val):
        np.asarray(y)[len(X) - 1]
        return super()._validate(X, y, X_val, y_val)


class UncheckedOption(Good):
    def _validate(self, X, y, X_val, y_val):
        if isinstance(self.method, str) and self.method not in ("mean", "median"):
            self._fallback = True
            return Good()._validate(X, y, X_val, y_val)
        return super()._validate(X, y, X_val, y_val)

    def _draw(self, X, X_val):
        return Good(n_draws=self.n_draws, random_state=self.random_state)._draw(X, X_val)


class NamelessParameterError(Good):
    def _validate(self, X, y, X_val, y_val):
        if not isinstance(self.n_draws, int):
            raise TypeError("expected an integer")
        return super()._validate(X, y, X_val, y_val)


class AttributeErrorBeforeFit(Good):
    def ranking(self):
        return np.argsort(self.values_)


class AnswersBeforeFit(Good):
    def ranking(self):
        return np.argsort(getattr(self, "values_", np.zeros(3)))


class WrongErrorInStream(Good):
    def stream(self, X):
        if not hasattr(self, "values_"):
            raise RuntimeError("fit first")
        yield from X


class Runner(BaseEstimator):
    """No fit: it runs, on arguments that only its class knows."""

    def __init__(self, step, rounds=2):
        self.step = step
        self.rounds = rounds

    @classmethod
    def __mlpapers_example__(cls):
        return {"params": {"step": 0.5}, "method": "run", "arguments": {"start": np.ones(3), "horizon": 4}}

    def run(self, start, horizon, *, random_state=None, n_jobs=None):
        check_real("step", self.step)
        check_int("rounds", self.rounds, minimum=1)
        tasks = spawn_seeds(random_state, self.rounds)
        return parallel_map(walk, tasks, shared=(start, self.step, horizon), n_jobs=n_jobs)


def walk(start, step, horizon, seed):
    return start + step * np.random.default_rng(seed).normal(size=(horizon, len(start))).sum(axis=0)


class InheritsExample(Runner):
    pass


class NeedsUnknownArgument(BaseEstimator):
    def fit(self, X, y, timetable):
        return self


class NeedsUnknownParameter(BaseEstimator):
    def __init__(self, gadget):
        self.gadget = gadget

    def fit(self, X, y):
        raise NotFittedError


class MisspeltHook(BaseEstimator):
    @classmethod
    def __mlpapers_example__(cls):
        return {"parameters": {}}


# Broken class -> (the clause that must catch it, what the message must say).
BROKEN = {
    ComputesInInit: ("constructor", "sets \\['variance'\\]"),
    ConvertsInInit: ("constructor", "does not store \\['method'\\]"),
    ValidatesInInit: ("constructor", "looks at its parameters"),
    MutableDefault: ("constructor", "'weights'.*mutable"),
    HidesAParameter: ("params", "misses parameters"),
    SwallowsUnknownParams: ("params", "unknown parameter"),
    LearnedTooEarly: ("attributes", "'classes_'.*before fit"),
    ReturnsNothing: ("attributes", "returns NoneType"),
    UnmarkedAttribute: ("attributes", "'n_rows'"),
    ReplacesParameter: ("attributes", "replaces the parameters \\['scale'\\]"),
    WritesToX: ("inputs", "writes to its inputs"),
    SortsTargets: ("inputs", "changes its arguments \\['y'\\]"),
    IgnoresRandomState: ("random_state", "'draws_', 'values_'"),
    UsesGlobalState: ("random_state", "global random state"),
    NoGenerators: ("random_state", "Cannot cast"),
    DependsOnWorkers: ("n_jobs", "differ in \\['draws_', 'values_'\\]"),
    LosesStateInPickle: ("pickle", "draws_"),
    CannotPickle: ("pickle", "pickle"),
    WarmStart: ("refit", "n_runs_"),
    LeavesStaleAttributes: ("refit", "warning_"),
    DropsNames: ("frames", "feature_names_in_"),
    AlignsByIndex: ("frames", "order_"),
    AcceptsNaN: ("bad_data", "nan in X is accepted"),
    NamelessError: ("bad_data", "does not name it"),
    BareIndexError: ("bad_data", "raises IndexError"),
    UncheckedOption: ("bad_parameters", "no such option"),
    NamelessParameterError: ("bad_parameters", "n_draws.*does not name it"),
    AttributeErrorBeforeFit: ("not_fitted", "ranking.*AttributeError"),
    AnswersBeforeFit: ("not_fitted", "answers before fit"),
    WrongErrorInStream: ("not_fitted", "stream.*RuntimeError"),
}
