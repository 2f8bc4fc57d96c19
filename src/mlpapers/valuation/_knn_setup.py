"""Checks of a valuer's parameters, and from the arguments of a batch fit to a nearest-neighbour game."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._distances import METRICS, DistanceBlocks, Metric, check_points
from mlpapers.core.validation import (
    check_bool,
    check_choice,
    check_real,
    check_workers,
    relabel_groups,
)
from mlpapers.valuation._knn import Rule
from mlpapers.valuation._knn_game import KNNGame, NearestState
from mlpapers.valuation._labels import as_labels, encode_scores, encode_targets


def check_n_neighbors(n_neighbors: Any) -> int:
    """Return `n_neighbors` as an int; ValueError unless it is an integer >= 1."""
    whole = isinstance(n_neighbors, numbers.Integral) and not isinstance(n_neighbors, bool | np.bool_)
    if not whole or n_neighbors < 1:
        raise ValueError(f"n_neighbors must be an integer >= 1; got {n_neighbors!r}")
    return int(n_neighbors)


def check_parameters(valuer: Any) -> None:
    """ValueError or TypeError naming the first parameter of a `KNNShapley` that is out of range."""
    check_n_neighbors(valuer.n_neighbors)
    check_choice("task", valuer.task, ("classification", "regression"))
    if not callable(valuer.metric):
        check_choice("metric", valuer.metric, METRICS)
    check_choice("denominator", valuer.denominator, ("k", "min"))
    check_choice("ties", valuer.ties, ("index", "later_group"))
    check_choice("algorithm", valuer.algorithm, ("fast", "theorem"))
    check_real("max_error", valuer.max_error, low=0.0, high=1.0, closed="left")
    check_bool("float32", valuer.float32)
    check_real("max_memory", valuer.max_memory, low=0.0, closed="neither")
    check_workers(valuer.n_jobs, valuer.verbose)
    if valuer.empty_value is not None:
        check_real("empty_value", valuer.empty_value)
        if valuer.denominator == "k" and valuer.empty_value != 0.0:
            raise ValueError(
                f"empty_value is a parameter of denominator='min'; got {valuer.empty_value!r} for 'k'"
            )
    if valuer.task == "regression" and valuer.denominator != "k":
        raise ValueError(f"denominator must be 'k' for task='regression'; got {valuer.denominator!r}")
    plain = valuer.task == "classification" and valuer.denominator == "k"
    if valuer.max_error > 0.0 and not plain:
        raise ValueError("max_error must be 0 unless task='classification' and denominator='k'")
    if valuer.algorithm == "theorem" and not (plain and valuer.max_error == 0.0):
        raise ValueError(
            "algorithm='theorem' is for task='classification', denominator='k' and max_error=0 only"
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """A game over a whole training set.

    Parameters
    ----------
    game : KNNGame
    groups : ndarray of shape (n,) of int
        Group codes 0..T-1 of the rows.
    columns : ndarray of shape (n,) of int or None
        Row behind each column of the game; None where they are the same.
    """

    game: KNNGame
    groups: NDArray[np.int64]
    columns: NDArray[np.int64] | None

    def by_row(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values (..., n) by column in the order of the rows."""
        if self.columns is None:
            return values
        out = np.empty_like(values)
        out[..., self.columns] = values
        return out


def check_self_valuation(points: NDArray[np.float64], y: Any, y_val: Any, metric: Metric) -> None:
    """ValueError unless a training set can value itself, each point but the one that is predicted."""
    n = len(points)
    if y_val is not None:
        raise ValueError("y_val must be None where X_val is None")
    if n < 2:
        raise ValueError(f"X must have at least 2 rows to value itself (X_val=None); got {n}")
    if np.ndim(y) != 1:
        raise ValueError("y must be 1-D for X to value itself (X_val=None): soft labels are no targets")
    if metric == "precomputed" and points.shape[1] != n:
        raise ValueError(
            "X must hold the distances (n, n) where metric='precomputed' and X_val is None; "
            f"got shape {points.shape}"
        )


def make_batch(
    points: NDArray[np.float64],
    y: Any,
    X_val: Any,
    y_val: Any,
    groups: Any,
    *,
    task: str,
    metric: Metric,
    float32: bool,
    rule: Rule,
    n_nearest: int | None,
    max_memory: float,
) -> Batch:
    """Check the arguments of a fit and set up its game.

    A `rule` whose `empty_value` is NaN gets 1 / number of classes; the value is 0 where the denominator is K.

    Raises
    ------
    ValueError
        If an argument has the wrong length, type or range.
    """
    n, y = len(points), as_labels(y)
    itself = X_val is None
    if itself:
        check_self_valuation(points, y, y_val, metric)
        X_val, y_val = points, y
    elif y_val is None:
        raise ValueError("y_val must be given where X_val is")
    points, queries = check_points(points, X_val, metric)
    targets = encode_targets(
        y, y_val, task, n, len(queries), remedy="; set task='regression' where they are targets"
    )
    scores = encode_scores(y, targets, n)
    codes = relabel_groups("groups", groups, n)
    columns = None if np.all(codes[1:] >= codes[:-1]) else np.argsort(codes, kind="stable")
    excluded = np.full(len(queries), -1)
    if itself:
        excluded[slice(None) if columns is None else columns] = np.arange(n)
    if not rule.refined:
        rule = rule._replace(empty_value=0.0)
    elif np.isnan(rule.empty_value):
        rule = rule._replace(empty_value=1.0 / targets.n_classes)
    game = KNNGame(
        blocks=DistanceBlocks(points, queries, metric, rows=columns, float32=float32),
        bounds=np.concatenate([[0], np.cumsum(np.bincount(codes))]).astype(np.int64),
        scores=scores.take(columns),
        targets=targets,
        rule=rule,
        earlier=NearestState.empty(len(queries)),
        excluded=excluded,
        n_nearest=n if n_nearest is None else n_nearest,
        max_memory=max_memory,
    )
    return Batch(game, codes, columns)
