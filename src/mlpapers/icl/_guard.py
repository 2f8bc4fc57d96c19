"""The labelled-fold check: how well looping and the single pass predict held-out labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.icl._loop import LoopSettings, run_loops

__all__ = ["MIN_LABELS", "labeled_errors"]

Array = NDArray[np.float64]

MIN_LABELS = 5
_MOST_FOLDS = 10


def labeled_errors(
    estimator: Any,
    X: Array,
    codes: NDArray[np.int64],
    X_unlabeled: Array,
    classes: NDArray[Any],
    settings: LoopSettings,
    rng: np.random.Generator,
) -> Array:
    """Return the error rates on held-out labelled rows of loop 0 and of the calmest later loop.

    Ten folds, stratified; with ten labels or fewer, one row at a time. A held-out row joins the unlabelled
    ones, as it would have without its label. The error rate is the measure, because looping makes every model
    more confident: a logarithmic loss refuses it for one bold mistake even where it gains accuracy.
    """
    n_folds = min(_MOST_FOLDS, len(codes))
    fold = stratified_folds(codes, n_folds, rng)
    wrong = np.empty((len(codes), 2))
    settings = replace(settings, verbose=0)
    for number in range(n_folds):
        held = fold == number
        trace = run_loops(
            estimator, X[~held], codes[~held], np.concatenate([X[held], X_unlabeled]), classes, settings, rng
        )
        later = 1 + int(np.argmin(trace.risks[1:])) if len(trace.risks) > 1 else 0
        for column, loop in enumerate((0, later)):
            wrong[held, column] = trace.models[loop].predict_proba(X[held]).argmax(axis=1) != codes[held]
    return wrong.mean(axis=0)


def stratified_folds(codes: NDArray[np.int64], n_folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold of every row; the rows of a class are dealt out in random order."""
    fold = np.empty(len(codes), dtype=np.int64)
    start = 0
    for code in np.unique(codes):
        rows = rng.permutation(np.flatnonzero(codes == code))
        fold[rows] = (np.arange(len(rows)) + start) % n_folds
        start += len(rows)
    return fold
