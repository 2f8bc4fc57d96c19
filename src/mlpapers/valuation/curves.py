"""What values are good for: models as points are added or removed by value."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_int
from mlpapers.valuation._labels import as_labels
from mlpapers.valuation._values import as_numbers, as_values
from mlpapers.valuation.utility import Utility, check_refitted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "CurveResult",
    "intervention_curves",
    "point_addition_curve",
    "point_removal_curve",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveResult(Result):
    """Test score as points are added or removed in order of value.

    Parameters
    ----------
    fractions : ndarray of shape (steps + 1,)
        Share of the points added or removed, from 0 to 1.
    scores : ndarray of shape (steps + 1,)
        Score of the model fitted on what is there.
    auc : float
        Area under `scores` over `fractions` (trapezoids): the mean score on the way.
    action : {"add", "remove"}
    order : {"high", "low"}
        Which points go first.
    """

    fractions: NDArray[np.float64]
    scores: NDArray[np.float64]
    auc: float
    action: str
    order: str

    def to_frame(self) -> pd.DataFrame:
        """Return one row per step: fraction, score."""
        return pd.DataFrame({"fraction": self.fractions, "score": self.scores})

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        done = {"add": "added", "remove": "removed"}[self.action]
        label = f"{done}, {'highest' if self.order == 'high' else 'lowest'} first"
        ax.plot(self.fractions, self.scores, **{"label": label, **options})
        ax.set_xlabel(f"fraction of points {done}")
        ax.set_ylabel("score")
        ax.legend()
        return ax


def point_addition_curve(
    values: ArrayLike | Any,
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    X_test: ArrayLike,
    y_test: ArrayLike,
    *,
    base: tuple[ArrayLike, ArrayLike] | None = None,
    order: str = "high",
    steps: int = 20,
    scoring: Any = None,
) -> CurveResult:
    """Score a model on growing training sets, points added in order of value.

    Parameters
    ----------
    values : array-like of shape (n,), or a fitted valuer or result with as many values
        Values of the rows of `X`; ties are added in the order of the rows ("low") or against it ("high").
    estimator : scikit-learn classifier or regressor
    X, y : array-like of shape (n, d) and (n,)
    X_test, y_test : array-like of shape (m, d) and (m,)
        Data that the values have not seen, if the curve is to say anything about new data.
    base : pair (X_base, y_base), optional
        Points that are always there. Without it the curve starts from the score of a constant model.
    order : {"high", "low"}, default="high"
        Whether the most or the least valuable points are added first.
    steps : int, default=20
        The curve has ``steps + 1`` points, equally spaced fractions from 0 to 1.
    scoring : str, callable or None, default=None
        Scorer; None is the estimator's own.

    Returns
    -------
    CurveResult

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from mlpapers.valuation import KNNShapley
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 2))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> bought = np.where(rng.random(100) < 0.4, 1 - y[:100], y[:100])
    >>> valuer = KNNShapley().fit(X[:100], bought, X[100:200], y[100:200])
    >>> pool, test = (X[:100], bought), (X[200:], y[200:])
    >>> for order in ("high", "low"):
    ...     curve = point_addition_curve(valuer, LogisticRegression(), *pool, *test, order=order)
    ...     print(order, round(curve.auc, 1))
    high 0.9
    low 0.3
    """
    data = (estimator, X, y, X_test, y_test, base, scoring)
    return _curve(values, "add", check_choice("order", order, ("high", "low")), steps, *data)


def point_removal_curve(
    values: ArrayLike | Any,
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    X_test: ArrayLike,
    y_test: ArrayLike,
    *,
    base: tuple[ArrayLike, ArrayLike] | None = None,
    order: str = "high",
    steps: int = 20,
    scoring: Any = None,
) -> CurveResult:
    """Score a model on shrinking training sets, points removed in order of value.

    Parameters
    ----------
    values, estimator, X, y, X_test, y_test, base
        As in :func:`point_addition_curve`.
    order : {"high", "low"}, default="high"
        Whether the most or the least valuable points are removed first.
    steps, scoring
        As in :func:`point_addition_curve`.

    Returns
    -------
    CurveResult

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from mlpapers.valuation import KNNShapley
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 2))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> bought = np.where(rng.random(100) < 0.4, 1 - y[:100], y[:100])
    >>> valuer = KNNShapley().fit(X[:100], bought, X[100:200], y[100:200])
    >>> pool, test = (X[:100], bought), (X[200:], y[200:])
    >>> curve = point_removal_curve(valuer, LogisticRegression(), *pool, *test, order="low", steps=2)
    >>> curve.to_frame().round(1)
       fraction  score
    0       0.0    1.0
    1       0.5    1.0
    2       1.0    0.5
    """
    data = (estimator, X, y, X_test, y_test, base, scoring)
    return _curve(values, "remove", check_choice("order", order, ("high", "low")), steps, *data)


def intervention_curves(
    values: ArrayLike | Any,
    estimator: Any,
    X_base: ArrayLike,
    y_base: ArrayLike,
    X_pool: ArrayLike,
    y_pool: ArrayLike,
    X_test: ArrayLike,
    y_test: ArrayLike,
    *,
    fractions: Sequence[float] | NDArray[np.float64] = (0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    scoring: Any = None,
) -> dict[str, NDArray[np.float64]]:
    r"""Score a model after a part of a pool is removed from, or added to, the training data.

    With n points in the pool and :math:`q = \mathrm{round}(f n)`, the q points of lowest or highest value are
    removed from base and pool together, or added to the base alone. Scores are relative to the score before.

    Parameters
    ----------
    values : array-like of shape (n,), or a fitted valuer or result with as many values
        Values of the pool; sorted stably, so that of equal ones the first row counts as lower.
    estimator : scikit-learn classifier or regressor
    X_base, y_base : array-like of shape (n_base, d) and (n_base,)
        Points that are always there.
    X_pool, y_pool : array-like of shape (n, d) and (n,)
    X_test, y_test : array-like of shape (m, d) and (m,)
    fractions : sequence of float, default=(0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
        f, each in [0, 1].
    scoring : str, callable or None, default=None
        Scorer; None is the estimator's own.

    Returns
    -------
    dict of str to ndarray of shape (len(fractions),)
        ``remove_low``, ``remove_high``, ``add_low``, ``add_high``: score after / score before.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described, or the score before is 0.

    References
    ----------
    .. [1] Zheng, Chang, Jia, Tan, "Towards Data Valuation via Asymmetric Data Shapley", arXiv 2411.00388,
       Figure 2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from mlpapers.valuation import KNNShapley
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 2))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> bought = np.where(rng.random(100) < 0.4, 1 - y[:100], y[:100])
    >>> values = KNNShapley().fit(X[:100], bought, X[100:200], y[100:200])
    >>> base, test = (X[200:210], y[200:210]), (X[210:], y[210:])
    >>> curves = intervention_curves(
    ...     values, LogisticRegression(), *base, X[:100], bought, *test, fractions=[0.0, 0.4]
    ... )
    >>> {name: round(float(scores[1]), 1) for name, scores in curves.items()}
    {'remove_low': 1.1, 'remove_high': 0.0, 'add_low': 0.2, 'add_high': 1.3}
    """
    shares = as_numbers("fractions", fractions)
    if shares.ndim != 1 or shares.size == 0 or not ((shares >= 0.0) & (shares <= 1.0)).all():
        raise ValueError(f"fractions must be a sequence of numbers in [0, 1]; got {fractions!r}")
    game, n_base = _game(estimator, X_pool, y_pool, X_test, y_test, (X_base, y_base), scoring)
    n = game.n_players - n_base
    ascending = np.argsort(as_values(values, n, "X_pool"), kind="stable")
    q = np.rint(shares * n).astype(np.int64)
    counts = np.concatenate([q, n - q, [0, n]])
    from_low = _scores_along(game, n_base, ascending, counts)
    from_high = _scores_along(game, n_base, ascending[::-1], counts)
    add_low, remove_high, (base, everything) = np.split(from_low, [len(q), 2 * len(q)])
    add_high, remove_low, _ = np.split(from_high, [len(q), 2 * len(q)])
    for what, score in (("the base", base), ("base and pool", everything)):
        if score == 0.0:
            raise ValueError(f"the score of {what} is 0, so that no score can be relative to it")
    return {
        "remove_low": remove_low / everything,
        "remove_high": remove_high / everything,
        "add_low": add_low / base,
        "add_high": add_high / base,
    }


def _curve(
    values: Any,
    action: str,
    order: str,
    steps: int,
    estimator: Any,
    X: Any,
    y: Any,
    X_test: Any,
    y_test: Any,
    base: tuple[Any, Any] | None,
    scoring: Any,
) -> CurveResult:
    steps = check_int("steps", steps, minimum=1)
    game, n_base = _game(estimator, X, y, X_test, y_test, base, scoring)
    n = game.n_players - n_base
    ascending = np.argsort(as_values(values, n, "X"), kind="stable")
    moved = ascending if order == "low" else ascending[::-1]
    fractions = np.linspace(0.0, 1.0, steps + 1)
    counts = np.rint(fractions * n).astype(np.int64)
    if action == "add":
        scores = _scores_along(game, n_base, moved, counts)
    else:
        # What is left after removing the first q is what the reverse order has added after n - q.
        scores = _scores_along(game, n_base, moved[::-1], n - counts)
    auc = float(np.trapezoid(scores, fractions))
    return CurveResult(fractions=fractions, scores=scores, auc=auc, action=action, order=order)


def _game(
    estimator: Any, X: Any, y: Any, X_test: Any, y_test: Any, base: Any, scoring: Any
) -> tuple[Utility, int]:
    """Return the utility of sets of points, the first of which are the base, and the size of the base."""
    check_refitted(estimator)
    if base is None:
        return Utility(estimator, X, y, X_test, y_test, scoring=scoring), 0
    if not isinstance(base, tuple | list) or len(base) != 2:
        raise TypeError(f"base must be a pair (X_base, y_base) or None; got {reprlib.repr(base)}")
    X_base, y_base = base
    n_base = len(X_base)
    labels_base = as_labels(y_base)
    if len(labels_base) != n_base:
        raise ValueError(f"y_base must have one entry per row of X_base ({n_base}); got {len(labels_base)}")
    points: Any
    if isinstance(X, pd.DataFrame) and isinstance(X_base, pd.DataFrame):
        if list(X.columns) != list(X_base.columns):
            raise ValueError(
                f"X_base must have the columns of X, {list(X.columns)}; got {list(X_base.columns)}"
            )
        points = pd.concat([X_base, X], ignore_index=True)
    else:
        rows, rows_base = np.asarray(X), np.asarray(X_base)
        if rows.ndim != 2 or rows_base.ndim != 2 or rows.shape[1] != rows_base.shape[1]:
            raise ValueError(
                f"X_base must have as many columns as X; got shapes {rows_base.shape}, {rows.shape}"
            )
        points = np.concatenate([rows_base, rows])
    labels = np.concatenate([labels_base, as_labels(y)])
    return Utility(estimator, points, labels, X_test, y_test, scoring=scoring), n_base


def _scores_along(
    game: Utility, n_base: int, order: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the score of the base and the first c points of `order`, for each c of `counts`."""
    scan = game.scan()
    scan.clear()
    for player in range(n_base):
        scan.insert(player)
    scores, entered = {}, 0
    for count in np.unique(counts):
        for player in order[entered:count]:
            scan.insert(n_base + int(player))
        entered = int(count)
        scores[entered] = scan.value()
    return np.array([scores[int(count)] for count in counts])
