"""Other ways to value data: Beta Shapley, Banzhaf, leave-one-out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, gammaln

from mlpapers.core.parallel import chunk_slices, parallel_map, spawn_seeds
from mlpapers.core.validation import check_int, check_real
from mlpapers.valuation._games import Game, as_game
from mlpapers.valuation._knn_utility import KNNUtility
from mlpapers.valuation._shapley import GameValuer, ShapleyValuer, as_players
from mlpapers.valuation.game import check_structure

__all__ = ["BetaShapley", "DataBanzhaf", "LeaveOneOut"]

# Subsets, or players, per task: fixed, so that results don't depend on workers.
_EVALUATIONS_PER_TASK = 16


class _SymmetricValuer(GameValuer):
    """A valuer of points, or their sources, without order: checks, then values of a game."""

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        X_val: ArrayLike,
        y_val: ArrayLike,
        sources: ArrayLike | None = None,
    ) -> Self:
        """Value the rows of `X`, or their sources.

        Parameters
        ----------
        X, y : array-like of shape (n, d) and (n,)
        X_val, y_val : array-like of shape (M, d) and (M,)
        sources : array-like of shape (n,), optional
            Owner of each row; a source's rows enter and leave at once.

        Returns
        -------
        self
        """
        self._check()
        self._forget()
        n = self._check_rows(X, X_val, y_val)
        blocks, _ = self._players(sources, None, n)
        self._value(as_players(self._utility(X, y, X_val, y_val), blocks), n)
        return self

    def fit_game(self, v: Callable[[NDArray[np.int64]], float], n_players: int) -> Self:
        """Value the players of any game.

        Parameters
        ----------
        v : callable
            Maps a sorted index array to the utility of these players.
        n_players : int

        Returns
        -------
        self
        """
        self._check()
        self._forget()
        n_players = check_int("n_players", n_players, minimum=1)
        self._value(as_game(v, n_players), n_players)
        return self

    @abstractmethod
    def _check(self) -> None: ...

    @abstractmethod
    def _value(self, game: Game, n_samples: int) -> None: ...


class BetaShapley(_SymmetricValuer, ShapleyValuer):
    r"""Beta Shapley values: marginal contributions weighted by the size of the set that is joined.

    .. math::
        \phi_i = \frac1n \sum_{k=0}^{n-1} w_k \binom{n-1}{k}^{-1} \sum_{S \not\ni i,\, |S| = k} \Delta_i(S),
        \qquad w_k = n \binom{n-1}{k} \frac{B(k + \beta,\, n - 1 - k + \alpha)}{B(\alpha, \beta)}, \qquad
        \sum_k w_k = n.

    Data Shapley for :math:`\alpha = \beta = 1`. A large :math:`\beta` stresses what a point adds to large
    sets, close to leave-one-out; a large :math:`\alpha`, as in (16, 1), what it adds to small ones, which the
    authors found better at telling noisy labels. The values don't sum to v(D) - v(empty) in general.

    Parameters
    ----------
    alpha, beta : float, default=1 and 16
        Positive shape parameters.
    estimator : scikit-learn classifier or regressor, optional
        None stands for the nearest-neighbour utility.
    method : {"auto", "exact", "mc"}, default="auto"
        As in :class:`AsymmetricShapley`.
    scoring, n_neighbors, max_permutations, rtol, antithetic, incremental, empty_value, on_error
        As in :class:`AsymmetricShapley`.
    random_state, n_jobs, verbose
        As in :class:`AsymmetricShapley`.

    References
    ----------
    .. [1] Kwon, Zou, "Beta Shapley: a unified and noise-reduced data valuation framework for machine
       learning", AISTATS 2022.

    Examples
    --------
    >>> from mlpapers.valuation import BetaShapley
    >>> BetaShapley(alpha=1, beta=1).fit_game(lambda S: float(len(S) > 1), 2).values_.tolist()
    [0.5, 0.5]
    """

    def __init__(
        self,
        alpha: float = 1,
        beta: float = 16,
        estimator: Any = None,
        *,
        method: str = "auto",
        scoring: str | Callable[..., float] | None = None,
        n_neighbors: int = 5,
        max_permutations: int = 1000,
        rtol: float = 0.05,
        antithetic: bool = False,
        incremental: bool = True,
        empty_value: float | str = "auto",
        on_error: str = "empty",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.beta = beta
        self.estimator = estimator
        self.method = method
        self.scoring = scoring
        self.n_neighbors = n_neighbors
        self.max_permutations = max_permutations
        self.rtol = rtol
        self.antithetic = antithetic
        self.incremental = incremental
        self.empty_value = empty_value
        self.on_error = on_error
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _check(self) -> None:
        self._check_parameters(("auto", "exact", "mc"))
        check_real("alpha", self.alpha, low=0.0, closed="neither")
        check_real("beta", self.beta, low=0.0, closed="neither")

    def _value(self, game: Game, n_samples: int) -> None:
        structure = check_structure(game.n_players, None, None, None)
        weights = beta_weights(game.n_players, self.alpha, self.beta)
        self._value_game(game, structure, n_samples=n_samples, size_weights=weights)


class DataBanzhaf(_SymmetricValuer):
    r"""Data Banzhaf values by maximum sample reuse.

    .. math::
        \phi_i = 2^{-(n-1)} \sum_{S \not\ni i} \Delta_i(S)
        \approx \operatorname{mean}\{v(S) : S \ni i\} - \operatorname{mean}\{v(S) : S \not\ni i\},

    with S drawn by a fair coin for each player; every evaluation serves all players. All subsets are used,
    and the values exact, where they are no more than `n_subsets`.

    Parameters
    ----------
    n_subsets : int, default=1000
        Subsets to evaluate, beside the empty and the full set.
    estimator : scikit-learn classifier or regressor, optional
        None stands for the nearest-neighbour utility.
    scoring, n_neighbors, empty_value, on_error, random_state, n_jobs, verbose
        As in :class:`AsymmetricShapley`.

    References
    ----------
    .. [1] Wang, Jia, "Data Banzhaf: a robust data valuation framework for machine learning", AISTATS 2023.

    Examples
    --------
    >>> from mlpapers.valuation import DataBanzhaf
    >>> DataBanzhaf().fit_game(lambda S: float(len(S) > 1), 3).values_.tolist()
    [0.5, 0.5, 0.5]
    """

    def __init__(
        self,
        n_subsets: int = 1000,
        estimator: Any = None,
        *,
        scoring: str | Callable[..., float] | None = None,
        n_neighbors: int = 5,
        empty_value: float | str = "auto",
        on_error: str = "empty",
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_subsets = n_subsets
        self.estimator = estimator
        self.scoring = scoring
        self.n_neighbors = n_neighbors
        self.empty_value = empty_value
        self.on_error = on_error
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _check(self) -> None:
        self._check_common()
        check_int("n_subsets", self.n_subsets, minimum=2)

    def _value(self, game: Game, n_samples: int) -> None:
        n = game.n_players
        exact = n < 60 and 2**n <= self.n_subsets
        self.method_ = "exact" if exact else "mc"
        members = _all_subsets(n) if exact else self._draw_subsets(n)
        tasks = [members[chunk] for chunk in chunk_slices(len(members), _EVALUATIONS_PER_TASK)]
        parts = parallel_map(_evaluate_rows, tasks, n_jobs=self.n_jobs, shared=(game,), verbose=self.verbose)
        utilities = np.concatenate(parts)
        n_with = members.sum(axis=0)
        n_without = len(members) - n_with
        with_sum, without_sum = utilities @ members, utilities @ ~members
        values = with_sum / n_with - without_sum / n_without
        stderr = np.zeros(n)
        if exact:
            empty, total = float(utilities[0]), float(utilities[-1])
        else:
            empty, total = game.evaluate(np.arange(0)), game.evaluate(np.arange(n))
            stderr = np.sqrt(_mean_variance(utilities, members) + _mean_variance(utilities, ~members))
        self._set_values(
            values,
            stderr=stderr,
            n_samples=n_samples,
            total_utility=total,
            empty_utility=empty,
            method="banzhaf",
            n_evaluations=len(members) + (0 if exact else 2),
            meta={"n_subsets": len(members), "exact": exact},
        )

    def _draw_subsets(self, n: int) -> NDArray[np.bool_]:
        seed = spawn_seeds(self.random_state, 1)[0]
        members = np.random.default_rng(seed).integers(0, 2, size=(self.n_subsets, n)).astype(bool)
        one_sided = members.all(axis=0) | ~members.any(axis=0)
        if one_sided.any():
            raise ValueError(
                f"n_subsets must give subsets with and without each player; {self.n_subsets} left player "
                f"{int(np.argmax(one_sided))} on one side"
            )
        return members


class LeaveOneOut(_SymmetricValuer):
    r"""Leave-one-out values, :math:`\phi_i = v(D) - v(D - i)`.

    Parameters
    ----------
    estimator : scikit-learn classifier or regressor, optional
        None stands for the nearest-neighbour utility, which has a closed form (used without `sources`).
    scoring : str, callable or None, default=None
    n_neighbors, empty_value, on_error, n_jobs, verbose
        As in :class:`AsymmetricShapley`.

    Examples
    --------
    >>> from mlpapers.valuation import LeaveOneOut
    >>> LeaveOneOut().fit_game(lambda S: float(len(S) > 1), 2).values_.tolist()
    [1.0, 1.0]
    """

    def __init__(
        self,
        estimator: Any = None,
        scoring: str | Callable[..., float] | None = None,
        *,
        n_neighbors: int = 5,
        empty_value: float | str = "auto",
        on_error: str = "empty",
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.scoring = scoring
        self.n_neighbors = n_neighbors
        self.empty_value = empty_value
        self.on_error = on_error
        self.n_jobs = n_jobs
        self.verbose = verbose

    def _check(self) -> None:
        self._check_common()

    def _value(self, game: Game, n_samples: int) -> None:
        n = game.n_players
        if isinstance(game, KNNUtility):
            values, total = game.leave_one_out()
            empty, n_evaluations = game.empty_value_, 0
        else:
            total, empty = game.evaluate(np.arange(n)), game.evaluate(np.arange(0))
            tasks = [np.arange(n)[chunk] for chunk in chunk_slices(n, _EVALUATIONS_PER_TASK)]
            parts = parallel_map(
                _evaluate_without, tasks, n_jobs=self.n_jobs, shared=(game,), verbose=self.verbose
            )
            values, n_evaluations = total - np.concatenate(parts), n + 2
        self.method_ = "knn" if isinstance(game, KNNUtility) else "refit"
        self._set_values(
            values,
            n_samples=n_samples,
            total_utility=total,
            empty_utility=empty,
            method="loo",
            n_evaluations=n_evaluations,
        )


def beta_weights(n: int, alpha: float, beta: float) -> NDArray[np.float64]:
    r"""Return :math:`w_k`, k = 0..n-1, of :class:`BetaShapley`."""
    k = np.arange(n)
    log_binomial = gammaln(n) - gammaln(k + 1) - gammaln(n - k)
    log_weights = log_binomial + betaln(k + beta, n - 1 - k + alpha) - betaln(alpha, beta)
    return np.asarray(n * np.exp(log_weights))


def _all_subsets(n: int) -> NDArray[np.bool_]:
    return np.asarray((np.arange(1 << n)[:, None] >> np.arange(n)) & 1, dtype=bool)


def _evaluate_rows(game: Game, members: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.array([game.evaluate(np.flatnonzero(row)) for row in members])


def _evaluate_without(game: Game, players: NDArray[np.int64]) -> NDArray[np.float64]:
    everybody = np.arange(game.n_players)
    return np.array([game.evaluate(np.delete(everybody, player)) for player in players])


def _mean_variance(utilities: NDArray[np.float64], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return, per player, the variance of the mean utility of the subsets in its column; infinite for one."""
    count = members.sum(axis=0)
    mean = utilities @ members / count
    squares = ((utilities[:, None] - mean) ** 2 * members).sum(axis=0)
    return np.where(count > 1, squares / (count * np.maximum(count - 1, 1)), np.inf)
