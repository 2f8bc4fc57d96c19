"""Out-of-fold posteriors of a training sample, as the parameters of a classifier ask for them."""

from __future__ import annotations

import reprlib
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.utils.validation import check_is_fitted

from mlpapers.core.validation import check_bool, check_choice, check_int, check_real, check_workers
from mlpapers.fairness._base import FairClassifier, Sample
from mlpapers.fairness._checks import FairnessWarning, check_weights
from mlpapers.fairness._fair_rule import Posteriors, RuleSettings
from mlpapers.fairness._posteriors import JointModel, JointTask, cross_fit, stratified_folds, takes_weights
from mlpapers.fairness.solver import SOLVERS

__all__ = ["check_rule_parameters", "draw_posteriors"]

Codes = NDArray[np.int64]


def check_rule_parameters(model: Any) -> RuleSettings:
    """Check the parameters of a classifier that finds an optimal rule; the error names the parameter."""
    options = model._check_shared()
    check_choice("correction", model.correction, ("none", "shrunk", "full"))
    check_choice("solver", model.solver, SOLVERS)
    check_choice("randomize", getattr(model, "randomize", "none"), ("hash", "independent", "none"))
    check_bool("prefit", getattr(model, "prefit", False))
    check_int("min_group_count", model.min_group_count, minimum=1)
    check_real("tol", model.tol, low=0.0, closed="neither")
    check_workers(model.n_jobs, model.verbose)
    if isinstance(model.cv, str) or not (hasattr(model.cv, "split") or isinstance(model.cv, list | tuple)):
        check_int("cv", model.cv, minimum=2)
    return RuleSettings(
        options,
        model.groups,
        model.attribute_aware,
        float(model.cost),
        model.correction,
        model.multipliers,
        int(model.min_group_count),
        model.solver,
        float(model.tol),
    )


def draw_posteriors(model: FairClassifier, sample: Sample) -> tuple[JointModel, Posteriors]:
    """Fit the base models of `model` and return them with the posteriors of the sample.

    Posteriors are out of fold, except where nothing is constrained (one cell) and where the models were
    fitted elsewhere.
    """
    codes = sample.encoding.codes
    task = model._joint_task(sample.encoding, sample.random_states)
    if getattr(model, "prefit", False):
        fitted = _prefit(model, replace(task, classes=tuple(model.classes_.tolist())))
        joint = fitted.joint(sample.X, codes)
        eta = fitted.eta(sample.X, joint)
    else:
        vacuous = sample.encoding.n_cells == 1
        # How the base models are called is settled here, whatever is routed to this classifier.
        with config_context(enable_metadata_routing=False):
            fitted, joint, eta = cross_fit(
                task,
                sample.X,
                codes,
                sample.y,
                _base_weights(task, sample),
                [] if vacuous else _folds(model, sample),  # type: ignore[attr-defined]
                n_jobs=model.n_jobs,  # type: ignore[attr-defined]
                verbose=int(model.verbose),  # type: ignore[attr-defined]
            )
            if vacuous:
                joint = fitted.joint(sample.X, codes)
                eta = fitted.eta(sample.X, joint)
    weights = check_weights(sample.weights, len(sample.y))
    return fitted, Posteriors(joint, eta, sample.y, weights, sample.encoding)


def _base_weights(task: JointTask, sample: Sample) -> NDArray[np.float64] | None:
    if sample.weights is None or takes_weights(task.estimator):
        return sample.weights
    warnings.warn(
        f"{type(task.estimator).__name__} takes no sample_weight; the weights count in the constraints only",
        FairnessWarning,
        stacklevel=4,
    )
    return None


def _folds(model: Any, sample: Sample) -> list[tuple[Codes, Codes]]:
    codes = sample.encoding.codes
    if isinstance(model.cv, list | tuple):
        splits = model.cv
    elif hasattr(model.cv, "split"):
        splits = model.cv.split(sample.X, 2 * codes + sample.y)
    else:
        return stratified_folds(codes, sample.y, int(model.cv), sample.random_states[1])
    try:
        folds = [(np.asarray(train), np.asarray(test)) for train, test in splits]
    except (TypeError, ValueError) as error:
        if splits is not model.cv:
            raise
        raise ValueError(
            f"cv must be an integer, a splitter or pairs (train, test); got {reprlib.repr(model.cv)}"
        ) from error
    if not folds:
        raise ValueError("cv must have at least one pair (train, test); got none")
    tested = np.concatenate([test for _, test in folds])
    if not np.array_equal(np.sort(tested), np.arange(len(sample.y))):
        raise ValueError("cv must test every sample exactly once")
    return folds


def _check_cells(name: str, models: tuple[Any, ...], task: JointTask, *, n_labels: int) -> None:
    """ValueError unless fitted models predict cells, or 2 * cell + label, and none of the cells is unknown.

    A cell that nobody knows has no posterior: nothing would hold for it.
    """
    numbers = range(n_labels * task.n_cells)
    known = sorted({k for model in models for k in np.asarray(model.classes_).tolist()}, key=str)
    if all(k in numbers for k in known) and len({int(k) // n_labels for k in known}) == task.n_cells:
        return
    meaning = "2 * cell + label" if n_labels == 2 else "the cell"
    raise ValueError(
        f"{name} must predict {meaning}, a number from 0 to {numbers[-1]}, and know all {task.n_cells} "
        f"cells, with prefit=True and joint={task.joint!r}; it knows {reprlib.repr(known)}"
    )


def _prefit(model: Any, task: JointTask) -> JointModel:
    if model.estimator is None:
        raise ValueError("estimator must be fitted with prefit=True; got None")
    if model.eta != "joint":
        raise ValueError(f"eta must be 'joint' with prefit=True; got {model.eta!r}")
    given = model.group_estimator
    cell_models = () if given is None else given if isinstance(given, tuple) else (given,)
    wanted = 0 if task.aware else {"direct": 0, "factorized": 2, "group_first": 1}[task.joint]
    if len(cell_models) != wanted:
        raise ValueError(
            f"group_estimator must hold {wanted} fitted models with prefit=True and joint={task.joint!r}; "
            f"got {len(cell_models)}"
        )
    for fitted in (model.estimator, *cell_models):
        check_is_fitted(fitted)
    if not task.aware and task.joint == "direct":
        _check_cells("estimator", (model.estimator,), task, n_labels=2)
        return JointModel(task, model.estimator, (), None)
    known = np.asarray(model.estimator.classes_).tolist()
    if set(known) != set(task.classes):
        raise ValueError(
            f"estimator must predict the classes of y, {list(task.classes)}, with prefit=True; "
            f"it knows {reprlib.repr(known)}"
        )
    if cell_models:
        _check_cells("group_estimator", cell_models, task, n_labels=1)
    return JointModel(task, model.estimator, cell_models, None)
