"""Posteriors P(S = m, Y = y | x) from any classifier, on the training rows out of fold."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import has_fit_parameter

from mlpapers.core.parallel import parallel_map
from mlpapers.fairness._checks import FairnessWarning

__all__ = ["JointModel", "JointTask", "append_cells", "cross_fit", "fit_weighted", "takes_weights"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
_WARM_SOLVERS = frozenset({"lbfgs", "newton-cg", "newton-cholesky", "sag", "saga"})


@dataclass(frozen=True, eq=False)
class JointTask:
    """What is to be estimated, and with which classifiers.

    Parameters
    ----------
    estimator : classifier
    group_estimator : classifier
        For the cell, in "factorized" and "group_first".
    joint : {"direct", "factorized", "group_first"}
    separate_eta : bool
        Whether P(Y = 1 | x) has a model of its own besides.
    aware : bool
        Whether the cell is an input: P(Y = 1 | x, s) from [X, one-hot cells].
    n_cells : int
    random_states : tuple of int
        A seed for the model of all data, then one for each fold.
    classes : tuple
        What a model of the label calls Y = 0 and Y = 1.
    """

    estimator: Any
    group_estimator: Any
    joint: str
    separate_eta: bool
    aware: bool
    n_cells: int
    random_states: tuple[int, ...]
    classes: tuple[Any, Any] = (0, 1)


@dataclass(frozen=True, eq=False)
class JointModel:
    """Fitted classifiers that give the posteriors of new rows.

    Parameters
    ----------
    task : JointTask
    label_model : classifier
        Of the (cell, label) pair ("direct"), of the label ("factorized", aware), or of the label given x and
        the cell ("group_first").
    cell_models : tuple of classifiers
        Of the cell given Y = 0 and Y = 1 ("factorized"), or one ("group_first").
    eta_model : classifier or None
    """

    task: JointTask
    label_model: Any
    cell_models: tuple[Any, ...]
    eta_model: Any

    def joint(self, X: Any, codes: Codes | None = None) -> Array:
        """Return P(S = m, Y = y | x) at the rows of `X`, of shape (n, M, 2); aware models need `codes`."""
        n, n_cells = len(X), self.task.n_cells
        if self.task.aware:
            assert codes is not None
            positive = self._positive_given_cell(X, codes)
            joint = np.zeros((n, n_cells, 2))
            joint[np.arange(n), codes] = np.stack([1.0 - positive, positive], axis=1)
            return joint
        if self.task.joint == "direct":
            return probabilities(self.label_model, X, 2 * n_cells).reshape(n, n_cells, 2)
        if self.task.joint == "factorized":
            label = self._label(X)
            cells = [probabilities(model, X, n_cells) for model in self.cell_models]
            return np.stack([cells[y] * label[:, y, None] for y in (0, 1)], axis=2)
        cell = probabilities(self.cell_models[0], X, n_cells)
        positive = np.stack(
            [self._positive_given_cell(X, np.full(n, m, dtype=np.int64)) for m in range(n_cells)], axis=1
        )
        return np.stack([cell * (1.0 - positive), cell * positive], axis=2)

    def eta(self, X: Any, joint: Array) -> Array:
        """Return P(Y = 1 | x): the separate model's, or the sum over the cells."""
        if self.eta_model is not None:
            return probabilities(self.eta_model, X, 2)[:, 1]
        return joint[:, :, 1].sum(axis=1)

    def _positive_given_cell(self, X: Any, codes: Codes) -> Array:
        # A model fitted elsewhere may know the label without the cell.
        n_inputs = getattr(self.label_model, "n_features_in_", None)
        plain = n_inputs is not None and n_inputs == X.shape[1]
        inputs = X if plain else append_cells(X, codes, self.task.n_cells)
        return self._label(inputs)[:, 1]

    def _label(self, X: Any) -> Array:
        rows = np.asarray(self.label_model.predict_proba(X), dtype=np.float64)
        known = np.asarray(self.label_model.classes_).tolist()
        return rows[:, [known.index(label) for label in self.task.classes]]


def probabilities(model: Any, X: Any, n_classes: int) -> Array:
    """Return predict_proba with a column for each of the classes 0..n_classes-1, zeros for unseen ones."""
    rows = np.asarray(model.predict_proba(X), dtype=np.float64)
    classes = np.asarray(model.classes_).astype(np.int64)
    if len(classes) == n_classes:
        return rows
    full = np.zeros((len(rows), n_classes))
    full[:, classes] = rows
    return full


def append_cells(X: Any, codes: Codes, n_cells: int) -> Any:
    """Return `X` with one 0/1 column per cell on the right."""
    onehot = (codes[:, None] == np.arange(n_cells)).astype(np.float64)
    if not isinstance(X, pd.DataFrame):
        return np.hstack([np.asarray(X), onehot])
    named = all(isinstance(column, str) for column in X.columns)
    columns = (
        [f"cell {m}" for m in range(n_cells)] if named else list(range(X.shape[1], X.shape[1] + n_cells))
    )
    return pd.concat([X, pd.DataFrame(onehot, index=X.index, columns=columns)], axis=1)


def takes_weights(estimator: Any) -> bool:
    """Whether fit accepts sample weights (a pipeline: its last step's)."""
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    return takes_weights(last) if isinstance(last, Pipeline) else has_fit_parameter(last, "sample_weight")


def fit_weighted(
    estimator: Any, X: Any, target: NDArray[Any], weights: Array | None, *, warm: Any = None, seed: int = 0
) -> Any:
    """Return a fitted clone; `weights` reach all steps of a pipeline, `warm` is a fitted neighbour.

    A logistic regression starts at the coefficients of the neighbour: its optimum is the same, and near.
    Random states that are None are set from `seed`.
    """
    model = _seeded(clone(estimator), seed)
    options = {} if weights is None else dict.fromkeys(_weight_names(model), weights)
    restored = _start_at(model, warm, target)
    try:
        model.fit(X, target, **options)
    except ValueError:
        # Preprocessing may give other columns on other rows; the coefficients then do not fit.
        if restored is None:
            raise
        model = _seeded(clone(estimator), seed).fit(X, target, **options)
    if restored is not None:
        _last(model).set_params(warm_start=restored)
    return model


def _weight_names(model: Any) -> list[str]:
    """Return how fit is told the weights: in a pipeline every step that takes some gets them."""
    if not isinstance(model, Pipeline):
        return ["sample_weight"] if has_fit_parameter(model, "sample_weight") else []
    return [f"{step}__{name}" for step, part in model.steps for name in _weight_names(part)]


def _last(model: Any) -> Any:
    while isinstance(model, Pipeline):
        model = model.steps[-1][1]
    return model


def _seeded(model: Any, seed: int) -> Any:
    """Set every random_state that is None, nested ones too, to a seed of its own."""
    params = model.get_params(deep=True) if isinstance(model, BaseEstimator) else {}
    unset = [
        name for name in sorted(params) if name.split("__")[-1] == "random_state" and params[name] is None
    ]
    if not unset:
        return model
    seeds = np.random.SeedSequence(seed).generate_state(len(unset))
    return model.set_params(**{name: int(value >> 1) for name, value in zip(unset, seeds)})


def _start_at(model: Any, warm: Any, target: NDArray[Any]) -> bool | None:
    """Give a logistic regression the coefficients of `warm`; return its former warm_start, else None."""
    if warm is None:
        return None
    last, neighbour = _last(model), _last(warm)
    if type(last) is not LogisticRegression or last.solver not in _WARM_SOLVERS:
        return None
    if not np.array_equal(neighbour.classes_, np.unique(target)):
        return None
    former = bool(last.warm_start)
    last.coef_, last.intercept_ = neighbour.coef_.copy(), neighbour.intercept_.copy()
    last.classes_ = neighbour.classes_
    last.set_params(warm_start=True)
    return former


def fit_joint(
    task: JointTask,
    X: Any,
    cell: Codes,
    y: Codes,
    weights: Array | None,
    *,
    number: int = 0,
    warm: JointModel | None = None,
) -> JointModel:
    """Fit the classifiers on the given rows; `number` picks the seed, `warm` is the model of all rows."""
    seeds = np.random.SeedSequence(task.random_states[number]).generate_state(4)

    def fit(estimator: Any, rows: Any, target: Codes, kept: Any, part: int, near: Any) -> Any:
        chosen = None if weights is None else weights[kept]
        return fit_weighted(estimator, rows, target, chosen, warm=near, seed=int(seeds[part]))

    everyone = slice(None)
    near_label = None if warm is None else warm.label_model
    near_cells = (None, None) if warm is None else warm.cell_models
    cell_models: tuple[Any, ...] = ()
    if task.aware:
        label_model = fit(task.estimator, append_cells(X, cell, task.n_cells), y, everyone, 0, near_label)
    elif task.joint == "direct":
        label_model = fit(task.estimator, X, 2 * cell + y, everyone, 0, near_label)
    elif task.joint == "factorized":
        label_model = fit(task.estimator, X, y, everyone, 0, near_label)
        cell_models = tuple(
            _cell_model(fit, task, X, cell, np.flatnonzero(y == label), label, near_cells[label])
            for label in (0, 1)
        )
    else:
        label_model = fit(task.estimator, append_cells(X, cell, task.n_cells), y, everyone, 0, near_label)
        cell_models = (_cell_model(fit, task, X, cell, np.arange(len(y)), 0, near_cells[0]),)
    eta_model = None
    if task.separate_eta and not task.aware:
        near = None if warm is None else warm.eta_model
        eta_model = fit(task.estimator, X, y, everyone, 3, near)
    return JointModel(task, label_model, cell_models, eta_model)


@dataclass(frozen=True, eq=False)
class _OnlyCell:
    """Stands for a classifier where there is one class."""

    classes_: Codes

    def predict_proba(self, X: Any) -> Array:
        return np.ones((len(X), 1))


def _cell_model(fit: Any, task: JointTask, X: Any, cell: Codes, rows: Codes, part: int, near: Any) -> Any:
    classes = np.unique(cell[rows])
    if len(classes) == 1:
        return _OnlyCell(classes)
    near = None if isinstance(near, _OnlyCell) else near
    return fit(task.group_estimator, _safe_indexing(X, rows), cell[rows], rows, 1 + part, near)


def cross_fit(
    task: JointTask,
    X: Any,
    cell: Codes,
    y: Codes,
    weights: Array | None,
    folds: Iterable[tuple[Codes, Codes]],
    *,
    n_jobs: int | None,
    verbose: int,
) -> tuple[JointModel, Array, Array]:
    """Fit on all rows, and for the posteriors of the rows themselves on the other folds.

    Returns
    -------
    model : JointModel
        Of all rows.
    joint : ndarray of shape (n, M, 2)
        Out of fold.
    eta : ndarray of shape (n,)
        P(Y = 1 | x) out of fold.
    """
    tasks = [(number, train, test) for number, (train, test) in enumerate(folds, start=1)]
    model = fit_joint(task, X, cell, y, weights)
    shared = (task, X, cell, y, weights, model)
    parts = parallel_map(_fit_fold, tasks, n_jobs=n_jobs, verbose=verbose, shared=shared)
    joint = np.empty((len(y), task.n_cells, 2))
    eta = np.empty(len(y))
    for (_, _, test), (part, eta_part) in zip(tasks, parts):
        joint[test], eta[test] = part, eta_part
    return model, joint, eta


def _fit_fold(
    task: JointTask,
    X: Any,
    cell: Codes,
    y: Codes,
    weights: Array | None,
    model: JointModel,
    fold: tuple[int, Codes, Codes],
) -> tuple[Array, Array]:
    number, train, test = fold
    chosen = None if weights is None else weights[train]
    fitted = fit_joint(
        task, _safe_indexing(X, train), cell[train], y[train], chosen, number=number, warm=model
    )
    rows = _safe_indexing(X, test)
    joint = fitted.joint(rows, cell[test])
    return joint, fitted.eta(rows, joint)


def stratified_folds(cell: Codes, y: Codes, cv: int, seed: int) -> list[tuple[Codes, Codes]]:
    """Return folds that share out every (cell, label) pair; pairs rarer than the folds are pooled."""
    n_splits = min(cv, len(y), max(2, int(np.bincount(y).min(initial=cv))))
    strata = np.unique(2 * cell + y, return_inverse=True)[1]
    count = np.bincount(strata)
    rare = count[strata] < n_splits
    if rare.any():
        warnings.warn(
            f"{int((count < n_splits).sum())} combinations of cell and label have fewer members than the "
            f"{n_splits} folds",
            FairnessWarning,
            stacklevel=4,
        )
        strata[rare] = -1
        # A pool that is itself too small joins the commonest stratum.
        if rare.sum() < n_splits:
            strata[rare] = int(count.argmax())
    splitter = StratifiedKFold(n_splits, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros((len(y), 1)), strata))
