"""How soft labels reach a base estimator that may not know them: four ways, one interface."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.pipeline import Pipeline

__all__ = [
    "SOFT_WAYS",
    "SoftModel",
    "choose_way",
    "fit_hard",
    "fit_soft",
    "predicts_probabilities",
    "why_hard",
]

Array = NDArray[np.float64]

SOFT_WAYS = ("soft", "regress", "weight", "hard")
_NEGLIGIBLE = 1e-12
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, np.generic)


class SoftModel:
    """A fitted base estimator that answers with distributions over given classes.

    Parameters
    ----------
    estimators : list of estimators
        One; or, for a regressor and three classes or more, one per class.
    classes : ndarray of shape (C,)
    regresses : bool, default=False
        Whether they predict 2P - 1.
    """

    def __init__(self, estimators: list[Any], classes: NDArray[Any], regresses: bool = False) -> None:
        self.estimators = estimators
        self.classes = classes
        self.regresses = regresses

    def predict_proba(self, X: Any) -> Array:
        """Return distributions (q, C); one-hot where the estimator predicts classes only."""
        C = len(self.classes)
        if not predicts_probabilities(self.estimators[0]):
            return np.eye(C)[np.searchsorted(self.classes, self.estimators[0].predict(X))]
        if not self.regresses:
            known = self.estimators[0].predict_proba(X)
            if len(self.estimators[0].classes_) == C:
                return np.asarray(known, dtype=np.float64)
            P = np.zeros((len(known), C))
            P[:, np.searchsorted(self.classes, self.estimators[0].classes_)] = known
            return P
        answers = [np.asarray(model.predict(X), dtype=np.float64).reshape(-1) for model in self.estimators]
        P = (1.0 + np.clip(np.column_stack(answers), -1.0, 1.0)) / 2.0
        if C == 2:
            return np.column_stack([1.0 - P[:, 0], P[:, 0]])
        total = P.sum(axis=1, keepdims=True)
        return np.where(total > 0.0, P / np.where(total > 0.0, total, 1.0), 1.0 / C)


def choose_way(estimator: Any, soft: str) -> str:
    """Return the way that "auto" stands for, or `soft` itself where the estimator can follow it.

    Raises
    ------
    TypeError
        Where the estimator cannot; it names the estimator.
    """
    name = type(estimator).__name__
    probable = predicts_probabilities(estimator)
    can = {
        "soft": callable(getattr(estimator, "fit_soft", None)),
        "regress": is_regressor(estimator),
        "weight": _takes_weights(estimator),
        "hard": True,
    }
    usable = {**can, "weight": can["weight"] and probable and not _splits_rows(estimator)}
    way = next(way for way in SOFT_WAYS if usable[way]) if soft == "auto" else soft
    reasons = {
        "soft": "has no method fit_soft(X, P, classes)",
        "regress": "is not a regressor",
        "weight": "takes no sample_weight in fit",
    }
    if not can[way]:
        raise TypeError(f"soft={way!r} does not work with estimator {name}, which {reasons[way]}")
    if way != "regress" and is_regressor(estimator):
        raise TypeError(f"soft={way!r} does not work with estimator {name}, a regressor; use soft='regress'")
    if not probable and (way != "hard" or not is_classifier(estimator)):
        raise TypeError(f"estimator {name} has no predict_proba, which soft={way!r} needs")
    return way


def predicts_probabilities(estimator: Any) -> bool:
    """Whether distributions can be had from the estimator: by predict_proba, or of a regressor."""
    return is_regressor(estimator) or callable(getattr(estimator, "predict_proba", None))


def why_hard(estimator: Any) -> str:
    """Return why "auto" comes down to hard labels."""
    name = type(estimator).__name__
    if not _takes_weights(estimator):
        return f"{name} takes neither soft labels nor weights"
    if not predicts_probabilities(estimator):
        return f"{name} predicts no probabilities"
    return f"{name} has its probabilities from folds of its own, which part the weighted copies of a row"


def fit_hard(
    estimator: Any, X: Array, codes: NDArray[np.int64], classes: NDArray[Any], way: str
) -> SoftModel:
    """Fit a clone to rows that all have a label: what the base does without loops."""
    if way == "regress":
        return fit_soft(estimator, X, np.eye(len(classes))[codes], classes, way)
    return SoftModel([_unfitted(estimator).fit(X, classes[codes])], classes)


def fit_soft(estimator: Any, X: Array, P: Array, classes: NDArray[Any], way: str) -> SoftModel:
    """Fit a clone to label distributions P (n, C).

    "soft" hands them over; "regress" fits 2P - 1, one target for two classes else C; "weight" repeats
    each row once per class with weight P_ic, for all steps of a pipeline that take weights; "hard" takes the
    most probable class.
    """
    C = len(classes)
    if way == "soft":
        return SoftModel([_unfitted(estimator).fit_soft(X, P, classes)], classes)
    if way == "regress":
        targets = 2.0 * (P[:, 1:] if C == 2 else P) - 1.0
        return SoftModel([_unfitted(estimator).fit(X, target) for target in targets.T], classes, True)
    if way == "hard":
        return SoftModel([_unfitted(estimator).fit(X, classes[P.argmax(axis=1)])], classes)
    rows, codes = np.nonzero(P > _NEGLIGIBLE)
    weights = dict.fromkeys(_weight_names(estimator), P[rows, codes])
    # Names of steps are understood where no routing is asked for.
    with config_context(enable_metadata_routing=False):
        model = _unfitted(estimator).fit(X[rows], classes[codes], **weights)
    return SoftModel([model], classes)


def _unfitted(estimator: Any) -> Any:
    """Return a clone of an estimator that was never fitted; a plain copy where its parameters are constants.

    What a clone costs, above all reading signatures, is a tenth of a fit of naive Bayes.
    """
    constant = all(isinstance(value, _CONSTANTS) for value in vars(estimator).values())
    own_way = getattr(type(estimator), "__sklearn_clone__", None) is not BaseEstimator.__sklearn_clone__
    if own_way or not constant:
        return clone(estimator)
    fresh = object.__new__(type(estimator))
    vars(fresh).update(vars(estimator))
    return fresh


def _takes_weights(estimator: Any) -> bool:
    last = _last_step(estimator)
    return is_classifier(last) and bool(_weight_names(last))


def _splits_rows(estimator: Any) -> bool:
    """Whether probabilities come from libsvm's cross-validation, which copies of rows would mislead."""
    return getattr(_last_step(estimator), "probability", None) is True


def _last_step(estimator: Any) -> Any:
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def _weight_names(estimator: Any) -> list[str]:
    """Return how fit is told the weights: in a pipeline each step that takes some gets them."""
    if isinstance(estimator, Pipeline):
        return [f"{step}__{name}" for step, part in estimator.steps for name in _weight_names(part)]
    fit = getattr(estimator, "fit", None)
    return ["sample_weight"] if fit is not None and _has_weights(getattr(fit, "__func__", fit)) else []


@functools.lru_cache(maxsize=64)
def _has_weights(fit: Callable[..., Any]) -> bool:
    return "sample_weight" in inspect.signature(fit).parameters
