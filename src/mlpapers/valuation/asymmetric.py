"""Asymmetric data Shapley values, and the symmetric special case, for any model and any score."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.core.validation import check_int
from mlpapers.valuation._games import as_game
from mlpapers.valuation._shapley import ShapleyValuer, as_players, knn_task
from mlpapers.valuation.game import check_structure
from mlpapers.valuation.knn import KNNShapley

__all__ = ["AsymmetricShapley", "DataShapley"]

_METHODS = ("auto", "knn", "exact", "mc")


class _PermutationValuer(ShapleyValuer):
    """The parameters and the procedure that AsymmetricShapley and DataShapley share."""

    def __init__(
        self,
        estimator: Any = None,
        *,
        method: str = "auto",
        scoring: str | Callable[..., float] | None = None,
        n_neighbors: int = 5,
        max_permutations: int = 1000,
        rtol: float = 0.05,
        epsilon: float | None = None,
        delta: float = 0.05,
        value_range: float = 1.0,
        truncation: float = 0.0,
        antithetic: bool = False,
        incremental: bool = True,
        empty_value: float | str = "auto",
        on_error: str = "empty",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.scoring = scoring
        self.n_neighbors = n_neighbors
        self.max_permutations = max_permutations
        self.rtol = rtol
        self.epsilon = epsilon
        self.delta = delta
        self.value_range = value_range
        self.truncation = truncation
        self.antithetic = antithetic
        self.incremental = incremental
        self.empty_value = empty_value
        self.on_error = on_error
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike,
        y_val: ArrayLike,
        *,
        groups: ArrayLike | None,
        sources: ArrayLike | None,
        precedence: Iterable[tuple[int, int]] | None,
        player_weights: ArrayLike | None,
    ) -> None:
        self._check_parameters(_METHODS)
        self._forget()
        n = self._check_rows(X, X_val, y_val)
        blocks, player_groups = self._players(sources, groups, n)
        n_players = n if blocks is None else len(blocks)
        structure = check_structure(n_players, player_groups, precedence, player_weights)
        if self._closed_form(plain=precedence is None and player_weights is None):
            self._fit_knn(X, y, X_val, y_val, groups, blocks, structure[0])
        else:
            game = as_players(self._utility(X, y, X_val, y_val), blocks)
            self._value_game(game, structure, n_samples=n)

    def _fit_game(
        self,
        v: Callable[[NDArray[np.int64]], float],
        n_players: int,
        *,
        groups: ArrayLike | None,
        precedence: Iterable[tuple[int, int]] | None,
        player_weights: ArrayLike | None,
    ) -> None:
        self._check_parameters(_METHODS)
        if self.method == "knn":
            raise ValueError("method must be 'auto', 'exact' or 'mc' for a game; got 'knn'")
        self._forget()
        n_players = check_int("n_players", n_players, minimum=1)
        structure = check_structure(n_players, groups, precedence, player_weights)
        self._value_game(as_game(v, n_players), structure, n_samples=n_players)

    def _closed_form(self, *, plain: bool) -> bool:
        """Say whether to use the nearest-neighbour recursion; ValueError where it is asked for in vain."""
        if self.method == "auto":
            return self.estimator is None and self.scoring is None and plain
        if self.method != "knn":
            return False
        if self.estimator is not None or self.scoring is not None:
            raise ValueError(
                "method='knn' values the nearest-neighbour utility, without estimator and scoring; "
                f"got estimator={self.estimator!r}, scoring={self.scoring!r}"
            )
        if not plain:
            raise ValueError("method='knn' takes neither precedence nor player_weights; use 'exact' or 'mc'")
        return True

    def _fit_knn(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike,
        y_val: ArrayLike,
        groups: ArrayLike | None,
        blocks: list[NDArray[np.int64]] | None,
        player_groups: NDArray[np.int64],
    ) -> None:
        task = knn_task(y, y_val)
        valuer = KNNShapley(self.n_neighbors, task=task, n_jobs=self.n_jobs, verbose=self.verbose)
        valuer.fit(X, y, X_val, y_val, groups=groups)
        values = valuer.values_
        if blocks is not None:
            self.instance_values_ = values
            values = np.array([values[block].sum() for block in blocks])
        self.method_ = "knn"
        self._set_values(
            values,
            n_samples=valuer.n_samples_,
            total_utility=valuer.total_utility_,
            empty_utility=valuer.empty_utility_,
            method="knn",
            groups=player_groups,
            meta={"n_neighbors": self.n_neighbors},
        )


class AsymmetricShapley(_PermutationValuer):
    r"""Asymmetric data Shapley values: each contribution is measured against what was there before.

    For groups :math:`D_1, \dots, D_T` in order of arrival, with :math:`\Pi` the orders of all players in
    which :math:`D_1` precedes :math:`D_2`, and so on,

    .. math::
        \phi_i = \frac{1}{|\Pi|} \sum_{\pi \in \Pi} \big( v(P_i^\pi \cup \{i\}) - v(P_i^\pi) \big),

    where :math:`P_i^\pi` are the players before i. A group shares what it adds to the earlier ones,
    :math:`\sum_{i \in D_t} \phi_i = v(D_1 \cup \dots \cup D_t) - v(D_1 \cup \dots \cup D_{t-1})`; one group
    gives Data Shapley. `player_weights` makes the orders inside a group non-uniform, `precedence` replaces
    groups by any partial order.

    Parameters
    ----------
    estimator : scikit-learn classifier or regressor, optional
        The model whose score is the utility; one that draws at random needs a ``random_state`` of its own.
        None stands for the linear K-nearest-neighbour utility of ``KNNShapley`` (its regression where `y` or
        `y_val` has fractions; whole numbers are class labels, with a warning where they are very many).
    method : {"auto", "knn", "exact", "mc"}, default="auto"
        "knn" is the closed form for nearest neighbours (only without an estimator, weights and precedence),
        "exact" enumerates coalitions (at most 16 players per group), "mc" scans random orders. "auto" picks
        "knn" where it applies; else "exact" where groups are small enough and the coalitions no more than the
        utility evaluations of the scans allowed; else "mc".
    scoring : str, callable or None, default=None
        A scikit-learn scorer, higher is better; None is the estimator's ``score``.
    n_neighbors : int, default=5
        K where there is no estimator.
    max_permutations : int, default=1000
        Most scans for "mc".
    rtol : float, default=0.05
        "mc" stops when the largest standard error is below this share of the spread (max - min) of the
        values; looked at every 64 scans. 0 for all scans.
    epsilon : float or None, default=None
        If given, "mc" makes exactly the number of scans (see :func:`required_permutations`) after which all
        errors are below `epsilon` with probability 1 - `delta`, whatever `max_permutations` and `rtol` say.
    delta : float, default=0.05
    value_range : float, default=1.0
        Largest minus smallest possible marginal contribution, for `epsilon`. The default is the original
        choice for accuracy, and it is too small unless marginals have one sign: in general they lie in [-1,
        1], and the guarantee needs 2.
    truncation : float, default=0.0
        If positive, a scan ends when the utility has been within `truncation` * \|v(D) - v(empty)\| of v(D)
        for five steps; the marginals that remain count as 0. This is biased and gives up exact efficiency.
    antithetic : bool, default=False
        Pair each scan with the scan of the mirrored order (the reverse inside each group): twice the
        evaluations per scan, often much less variance. Standard errors are those of the pairs.
    incremental : bool, default=True
        Update the model instead of refitting it, where that gives the same numbers (ridge and linear
        regression, nearest neighbours, Gaussian naive Bayes, nearest centroid).
    empty_value : float or "auto", default="auto"
        v of no data, see :class:`Utility`. Without an estimator it is that of the nearest-neighbour utility.
    on_error : {"empty", "raise"}, default="empty"
        What becomes of a subset that the estimator cannot be fitted on, see :class:`Utility`.
    random_state : int, Generator, RandomState or None, default=None
        Each scan has a seed of its own: results are bitwise the same for any number of workers.
    n_jobs : int or None, default=None
    verbose : int, default=0

    Attributes
    ----------
    values_ : ndarray of shape (n,)
        Values of the players, points or sources, in units of the score.
    stderr_ : ndarray of shape (n,)
        Monte Carlo standard errors; zeros for exact values, infinite after a single scan. They say how far
        the sampling is from its limit, not how the values would change with other data.
    groups_, group_values_ : ndarray of shape (n,) of int and (T,)
    total_utility_, empty_utility_ : float
        v(D) and v(empty).
    n_samples_, n_features_in_ : int
        Rows and columns of X.
    n_evaluations_ : int
        Coalitions whose utility was evaluated, empty and full one included; a coalition that all orders pass
        (the union of the first groups) counts once. 0 for "knn".
    converged_ : bool
        Whether `rtol` was reached; True for exact values and with `epsilon`.
    method_ : {"knn", "exact", "mc"}
    sampler_ : {"groups", "weights", "forest", "counting", "mcmc"}
        How orders were drawn ("mc" only). All but "mcmc", a Markov chain for large interlaced partial orders,
        are exact.
    n_permutations_ : int
        Scans made ("mc" only).
    sources_ : ndarray
        Labels of the sources, sorted; the players (only with `sources`).
    instance_values_ : ndarray of shape (n_samples,)
        Values of the points of which those of the sources are sums ("knn" with `sources` only).
    result_ : ValuationResult

    References
    ----------
    .. [1] Zheng, Chang, Jia, Tan, "Towards Data Valuation via Asymmetric Data Shapley", arXiv 2411.00388,
       Theorem 4.1, Algorithms 1 and 2, Appendix B.3.
    .. [2] Nowak, Radzik, "On axiomatizations of the weighted Shapley values", Games and Economic Behavior 8
       (1995).

    Examples
    --------
    >>> from mlpapers.valuation import AsymmetricShapley
    >>> majority = lambda S: float(len(S) > 0)
    >>> AsymmetricShapley().fit_game(majority, 3, groups=[0, 0, 1]).values_.tolist()
    [0.5, 0.5, 0.0]
    """

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike,
        y_val: ArrayLike,
        groups: ArrayLike | None = None,
        sources: ArrayLike | None = None,
        precedence: Iterable[tuple[int, int]] | None = None,
        player_weights: ArrayLike | None = None,
    ) -> AsymmetricShapley:
        """Value the rows of `X`, or their sources.

        Parameters
        ----------
        X, y : array-like of shape (n, d) and (n,)
            Training data.
        X_val, y_val : array-like of shape (M, d) and (M,)
            Validation data.
        groups : array-like of shape (n,) of int, optional
            Smaller = earlier; any integers.
        sources : array-like of shape (n,), optional
            Owner of each row; sources become the players. "knn" sums the values of the rows of a source; for
            "exact" and "mc" a source's rows enter at once. These are two different games with different
            values.
        precedence : iterable of (before, after), optional
            Pairs of players (rows, or positions in `sources_`); not together with `groups` or
            `player_weights`.
        player_weights : array-like of shape (n_players,), optional
            Positive weights of the players inside their groups (Kalai and Samet): built from the back, the
            last of those left is i with probability proportional to its weight.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If data or options are malformed; if "exact" meets a group of more than 16 players; if
            `precedence` has a cycle; if a utility is not finite (with the subset size).
        """
        self._fit(
            X,
            y,
            X_val,
            y_val,
            groups=groups,
            sources=sources,
            precedence=precedence,
            player_weights=player_weights,
        )
        return self

    def fit_game(
        self,
        v: Callable[[NDArray[np.int64]], float],
        n_players: int,
        groups: ArrayLike | None = None,
        precedence: Iterable[tuple[int, int]] | None = None,
        player_weights: ArrayLike | None = None,
    ) -> AsymmetricShapley:
        """Value the players of any game.

        Parameters
        ----------
        v : callable
            Maps a sorted index array to the utility of these players; a :class:`Utility` is scanned
            incrementally.
        n_players : int
        groups, precedence, player_weights
            As in :meth:`fit`.

        Returns
        -------
        self
        """
        self._fit_game(v, n_players, groups=groups, precedence=precedence, player_weights=player_weights)
        return self


class DataShapley(_PermutationValuer):
    r"""Data Shapley values: the average marginal contribution over all orders of the training points.

    .. math::
        \phi_i = \frac1n \sum_{k=0}^{n-1} \binom{n-1}{k}^{-1} \sum_{S \not\ni i,\, |S| = k} \big( v(S + i) -
        v(S) \big)

    The case of one group of :class:`AsymmetricShapley`.

    Parameters
    ----------
    estimator, method, scoring, n_neighbors
        As in :class:`AsymmetricShapley`: the utility, and how its values are computed.
    max_permutations, rtol, epsilon, delta, value_range, truncation, antithetic, incremental
        As in :class:`AsymmetricShapley`: how many random orders are scanned, and how.
    empty_value, on_error, random_state, n_jobs, verbose
        As in :class:`AsymmetricShapley`.

    Attributes
    ----------
    values_, stderr_ : ndarray of shape (n,)
        Values in units of the score, and Monte Carlo standard errors; the other attributes are those of
        :class:`AsymmetricShapley`.

    References
    ----------
    .. [1] Ghorbani, Zou, "Data Shapley: Equitable valuation of data for machine learning", ICML 2019.

    Examples
    --------
    >>> from mlpapers.valuation import DataShapley
    >>> DataShapley().fit_game(lambda S: float(len(S) > 1), 2).values_.tolist()
    [0.5, 0.5]
    """

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike,
        y_val: ArrayLike,
        sources: ArrayLike | None = None,
    ) -> DataShapley:
        """Value the rows of `X`, or their sources; see :meth:`AsymmetricShapley.fit`.

        Parameters
        ----------
        X, y : array-like of shape (n, d) and (n,)
        X_val, y_val : array-like of shape (M, d) and (M,)
        sources : array-like of shape (n,), optional

        Returns
        -------
        self
        """
        self._fit(X, y, X_val, y_val, groups=None, sources=sources, precedence=None, player_weights=None)
        return self

    def fit_game(self, v: Callable[[NDArray[np.int64]], float], n_players: int) -> DataShapley:
        """Value the players of any game; see :meth:`AsymmetricShapley.fit_game`.

        Parameters
        ----------
        v : callable
        n_players : int

        Returns
        -------
        self
        """
        self._fit_game(v, n_players, groups=None, precedence=None, player_weights=None)
        return self
