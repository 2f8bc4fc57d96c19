"""Exact values of training points for nearest-neighbour models, in any order of arrival."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from mlpapers.core._distances import DistanceBlocks, Metric, check_points
from mlpapers.valuation._base import ValuerMixin, row_names
from mlpapers.valuation._knn import Rule
from mlpapers.valuation._knn_game import KNNGame, arrival_total
from mlpapers.valuation._knn_loo import knn_loo
from mlpapers.valuation._knn_market import Market
from mlpapers.valuation._knn_setup import Batch, check_n_neighbors, check_parameters, make_batch
from mlpapers.valuation._labels import encode_scores
from mlpapers.valuation._theorem import theorem_values

__all__ = ["KNNShapley", "check_n_neighbors", "knn_loo"]


class KNNShapley(ValuerMixin, BaseEstimator):
    r"""Exact Shapley values of training points for K nearest neighbours, symmetric or in order of arrival.

    The utility of a set S of training points for a validation point (x, t) is, with the sum over the
    :math:`\min(K, |S|)` members of S nearest to x,

    .. math::
        v(S) = \frac1K \sum 1[y_i = t] \quad \text{(classification)}, \qquad
        v(S) = -\Big(\frac1K \sum y_i - t\Big)^2 \quad \text{(regression)},

    and values are means over validation points. Without `groups` they are Data Shapley values [2]_. With
    `groups` they are asymmetric (Shapley values over the orders in which group 0 comes before group 1, and so
    on) [1]_: the members of a group share what the group adds to those before it,

    .. math:: \sum_{i \in D_t} \phi_i = v(D_1 \cup \dots \cup D_t) - v(D_1 \cup \dots \cup D_{t-1}),

    and later groups never change the values of earlier ones. The time is that of sorting the first group.

    Parameters
    ----------
    n_neighbors : int, default=5
        K; may exceed the number of training points.
    task : {"classification", "regression"}, default="classification"
        Which utility. Targets with fractions are refused as labels; whole numbers are labels, however many.
    metric : {"euclidean", "cosine", "manhattan", "precomputed"} or callable, default="euclidean"
        With "precomputed", `X_val` holds distances (M, n) and `X` only gives the number of rows (without
        `X_val` it holds the distances (n, n)). A callable maps blocks (a, d), (b, d) to distances (a, b).
    denominator : {"k", "min"}, default="k"
        What the sum is divided by: K, or :math:`\min(K, |S|)` [3]_ (classification only).
    empty_value : float or None, default=None
        v of the empty set where ``denominator="min"``; None: 1 / number of classes in `y` and `y_val`.
    ties : {"index", "later_group"}, default="index"
        Which of two training points at the same distance is nearer: the one of smaller index, or the one of
        the later group and, in a group, of smaller index (the convention of [1]_).
    algorithm : {"fast", "theorem"}, default="fast"
        "theorem" evaluates the printed form of [1]_, Theorem 5.1 (farthest value corrected), as a reference
        for groups of up to 500 points: classification with denominator "k" only.
    max_error : float, default=0
        If positive, only the max(K, ceil(1 / max_error)) nearest members of the first group are ranked and
        the others get 0; the error of a value is at most `max_error` for scores in [0, 1] ([2]_, Theorem 2).
        Classification with denominator "k" only.
    float32 : bool, default=False
        Single-precision distances, for which near-ties may swap.
    max_memory : float, default=512
        MiB of working memory per worker; at least one validation point is held at a time.
    n_jobs : int or None, default=None
        Workers over chunks of validation points. Values are bitwise the same for any number.
    verbose : int, default=0
        Progress messages of joblib.

    Attributes
    ----------
    values_ : ndarray of shape (n,)
        Values in units of accuracy, or of negative squared error.
    stderr_ : ndarray of shape (n,)
        Zeros: the values are exact.
    groups_ : ndarray of shape (n,) of int
        Groups relabelled 0..T-1.
    group_values_ : ndarray of shape (T,)
        Sum of the values of each group.
    total_utility_, empty_utility_ : float
        Utility of all training points and of none. Where the training set values itself, the former is that
        of all but the validation point, and the values sum to n / (n - 1) times the difference.
    n_samples_, n_features_in_ : int
        Rows and columns of `X`.
    feature_names_in_ : ndarray of shape (d,)
        Where `X` had string column names.
    n_evaluations_ : int
        0: no model is evaluated.
    converged_ : bool
        True.
    result_ : ValuationResult
        The same as one frozen object.

    References
    ----------
    .. [1] Zheng, Chang, Jia, Tan, "Towards Data Valuation via Asymmetric Data Shapley", arXiv 2411.00388,
       Theorem 5.1 and Algorithm 2.
    .. [2] Jia et al., "Efficient task-specific data valuation for nearest neighbor algorithms", VLDB 2019,
       Theorems 1, 2 and 6.
    .. [3] Wang and Jia, "A note on 'Efficient task-specific data valuation for nearest neighbor algorithms'",
       2023.

    Examples
    --------
    >>> from mlpapers.valuation import KNNShapley
    >>> X, y = [[0.0], [1.0], [2.0]], ["a", "b", "a"]
    >>> valuer = KNNShapley(n_neighbors=1).fit(X, y, X_val=[[0.2]], y_val=["a"])
    >>> valuer.values_.round(4).tolist()
    [0.8333, -0.1667, 0.3333]
    >>> valuer.fit(X, y, X_val=[[0.2]], y_val=["a"], groups=[0, 0, 1]).group_values_.tolist()
    [1.0, 0.0]
    """

    def __init__(
        self,
        n_neighbors: int = 5,
        *,
        task: str = "classification",
        metric: Metric = "euclidean",
        denominator: str = "k",
        empty_value: float | None = None,
        ties: str = "index",
        algorithm: str = "fast",
        max_error: float = 0.0,
        float32: bool = False,
        max_memory: float = 512,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.task = task
        self.metric = metric
        self.denominator = denominator
        self.empty_value = empty_value
        self.ties = ties
        self.algorithm = algorithm
        self.max_error = max_error
        self.float32 = float32
        self.max_memory = max_memory
        self.n_jobs = n_jobs
        self.verbose = verbose

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> KNNShapley:
        """Value every training point.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Training points.
        y : array-like of shape (n,) or (n, C)
            Labels of any hashable type but numbers with fractions, targets of a regression, or soft labels
            (rows sum to 1).
        X_val : array-like of shape (M, d), optional
            Validation points; without them the training set values itself, each point but the one that is
            predicted.
        y_val : array-like of shape (M,), optional
            Their labels or targets; column numbers of `y` where it holds soft labels.
        groups : array-like of shape (n,) of int, optional
            Smaller = earlier.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter or an array is not as described, as where real-valued targets meet
            ``task="classification"``.
        """
        check_parameters(self)
        points = self._check_points("X", X)
        self._check_val_columns(X_val)
        batch = self._batch(points, y, X_val, y_val, groups)
        game = batch.game
        values, state = game.total(self.n_jobs, self.verbose)
        if self.algorithm == "theorem":
            values = theorem_values(game)
        self_valued = X_val is None
        self._market = Market.opened(self, game, state, self_valued=self_valued)
        self._players_named = row_names(X)
        self._store(batch.by_row(values / (game.n_val - self_valued)), batch.groups)
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> KNNShapley:
        """Value a batch of new points as the next group; values of earlier points do not change.

        Equals :meth:`fit` on everything seen with one group a batch, but needs only the `n_neighbors` nearest
        of what came before for each validation point.

        Parameters
        ----------
        X, y : array-likes of shape (n_new, d) and (n_new,) or (n_new, C)
            The batch.
        X_val, y_val : array-likes
            The validation set: needed in the first call and not accepted in later ones, except that
            ``metric="precomputed"`` needs the distances (M, n_new) as `X_val` in each.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            As :meth:`fit`; also if the number of columns or the type of labels differs from that seen before,
            after a fit without `X_val`, if a parameter of the utility was changed, and for a new class where
            v(empty) counts the classes (``denominator="min"``, ``empty_value=None``).
        """
        if not hasattr(self, "values_"):
            if X_val is None or y_val is None:
                raise ValueError("X_val and y_val must be given in the first call of partial_fit")
            return self.fit(X, y, X_val, y_val)
        check_parameters(self)
        if self.algorithm != "fast":
            raise ValueError(f"algorithm must be 'fast' for partial_fit; got {self.algorithm!r}")
        market = self._market
        market.check_unchanged(self)
        if market.self_valued:
            raise ValueError("X_val must be given in the first fit for batches to follow")
        points, queries = self._arrivals("X", X, X_val, y_val)
        scores = encode_scores(y, market.targets, len(points))
        market.check_classes(y, self)
        game = KNNGame(
            blocks=DistanceBlocks(points, queries, self.metric, float32=self.float32),
            bounds=np.array([0, len(points)]),
            scores=scores,
            targets=market.targets,
            rule=self._rule(market.empty_value),
            earlier=market.state,
            excluded=np.full(len(queries), -1),
            n_nearest=len(points),
            max_memory=float(self.max_memory),
        )
        values, state = game.total(self.n_jobs, self.verbose)
        self._market = replace(market, state=state)
        codes = np.full(len(points), self.groups_.max() + 1)
        earlier, arrived = self._players_named, row_names(X)
        # Names and bare positions do not mix: one batch without names leaves all rows numbered.
        self._players_named = None if earlier is None or arrived is None else earlier.append(arrived)
        self._store(
            np.concatenate([self.values_, values / game.n_val]), np.concatenate([self.groups_, codes])
        )
        return self

    def values_per_val(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike,
        y_val: ArrayLike,
        groups: ArrayLike | None = None,
    ) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Iterate over the values for each validation point by itself.

        Their mean is what :meth:`fit` finds; the valuer need not be fitted and is not changed.

        Parameters
        ----------
        X, y, X_val, y_val, groups
            As in :meth:`fit`.

        Returns
        -------
        iterator of (chunk, values)
            A slice of the validation points and their values, of shape (m, n).

        Raises
        ------
        ValueError, TypeError
            As :meth:`fit`, when called.
        """
        check_parameters(self)
        if X_val is None:
            raise ValueError("X_val must be given; got None")
        points, _ = check_points(X, X_val, self.metric)
        batch = self._batch(points, y, X_val, y_val, groups)
        return ((chunk, batch.by_row(values)) for chunk, values in batch.game.per_validation_point())

    def predict_value(
        self, X_new: ArrayLike, y_new: ArrayLike, X_val: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return what each new point would be worth if it alone were the next group.

        Parameters
        ----------
        X_new, y_new : array-likes of shape (n_new, d) and (n_new,) or (n_new, C)
            Points that are not in the training set.
        X_val : array-like of shape (M, n_new), optional
            Their distances to the validation points, for ``metric="precomputed"`` only.

        Returns
        -------
        ndarray of shape (n_new,)
            Values in units of the utility.

        Raises
        ------
        NotFittedError
            If the valuer is not fitted.
        ValueError
            If an array has another shape or type than in `fit`, or a parameter of the utility was changed.
        """
        check_is_fitted(self, "values_")
        market = self._market
        market.check_unchanged(self)
        points, queries = self._arrivals("X_new", X_new, X_val, None)
        scores = encode_scores(y_new, market.targets, len(points), name="y_new")
        total = arrival_total(
            DistanceBlocks(points, queries, self.metric, float32=self.float32),
            scores,
            market.targets,
            market.state,
            self._rule(market.empty_value),
            market.state.n_seen - market.self_valued,
            self.max_memory,
        )
        return total / len(queries)

    def _check_val_columns(self, X_val: Any) -> None:
        names = getattr(self, "feature_names_in_", None)
        names_val = getattr(X_val, "columns", None)
        if names is None or names_val is None or self.metric == "precomputed":
            return
        if list(names) != list(names_val):
            raise ValueError(f"X_val must have the columns of X, {list(names)}; got {list(names_val)}")

    def _rule(self, empty_value: float) -> Rule:
        return Rule(int(self.n_neighbors), self.denominator == "min", empty_value, self.ties == "later_group")

    def _batch(self, points: NDArray[np.float64], y: Any, X_val: Any, y_val: Any, groups: Any) -> Batch:
        n_nearest = None
        if self.max_error > 0.0:
            n_nearest = max(int(self.n_neighbors), int(np.ceil(1.0 / self.max_error)))
        return make_batch(
            points,
            y,
            X_val,
            y_val,
            groups,
            task=self.task,
            metric=self.metric,
            float32=self.float32,
            rule=self._rule(np.nan if self.empty_value is None else float(self.empty_value)),
            n_nearest=n_nearest,
            max_memory=float(self.max_memory),
        )

    def _arrivals(
        self, name: str, X: ArrayLike, X_val: ArrayLike | None, y_val: Any
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return new points and the validation points they are compared with."""
        points = self._check_points(name, X, reset=False)
        return self._market.meet(points, X_val, y_val, self.metric)

    def _store(self, values: NDArray[np.float64], groups: NDArray[np.int64]) -> None:
        market = self._market
        state, k = market.state, int(self.n_neighbors)
        sums = state.score.sum(axis=1)
        if self.task == "regression":
            total = float(-np.mean((sums / k - market.targets.targets) ** 2))
            empty = float(-np.mean(market.targets.targets**2))
        else:
            total = float(np.mean(sums / (np.minimum(state.count, k) if self.denominator == "min" else k)))
            empty = market.empty_value
        metric = self.metric if isinstance(self.metric, str) else getattr(self.metric, "__name__", "callable")
        self._set_values(
            values,
            n_samples=len(values),
            total_utility=total,
            empty_utility=empty,
            method="knn",
            groups=groups,
            meta={
                "n_neighbors": k,
                "task": self.task,
                "metric": metric,
                "denominator": self.denominator,
                "n_val": len(state.count),
                "total_utility": total,
                "empty_utility": empty,
            },
        )
