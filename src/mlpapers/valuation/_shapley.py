"""What the game-theoretic valuers share: data to players, players to a game, a game to values."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import _num_samples, validate_data

from mlpapers.core.parallel import spawn_seeds
from mlpapers.core.validation import (
    check_bool,
    check_choice,
    check_int,
    check_real,
    check_workers,
    seed_sequence,
)
from mlpapers.valuation._base import ValuerMixin, row_names
from mlpapers.valuation._games import BlockGame, Game
from mlpapers.valuation._knn_utility import KNNUtility
from mlpapers.valuation._labels import as_labels, is_real_valued, label_kind
from mlpapers.valuation._montecarlo import ScanPlan, estimate_values
from mlpapers.valuation._precedence import PartialOrder, PrecedenceSampler, count_extensions
from mlpapers.valuation._provenance import game_fingerprint, seed_range
from mlpapers.valuation.game import enumerate_values
from mlpapers.valuation.knn import check_n_neighbors
from mlpapers.valuation.permutation import GroupSampler, PermutationSampler, required_permutations
from mlpapers.valuation.utility import Utility, check_empty_value, check_model

# Players of a group that enumeration takes on.
MAX_EXACT = 16

# Whole numbers count as labels without a warning up to so many classes, or with so many rows in each.
_MAX_CLASSES = 50
_ROWS_PER_CLASS = 5

# Attributes that only some fits set.
_OPTIONAL = (
    "sources_",
    "instance_values_",
    "sampler_",
    "n_permutations_",
    "n_features_in_",
    "feature_names_in_",
)


class GameValuer(ValuerMixin, BaseEstimator):
    """Base of the valuers that fit models on subsets of the data; without an estimator, nearest neighbours.

    Subclasses declare the parameters that the methods here read.
    """

    # Declared for the type checker; set by the constructors of the subclasses.
    estimator: Any
    scoring: Any
    n_neighbors: int
    empty_value: float | str
    on_error: str
    incremental: bool
    random_state: Any
    n_jobs: int | None
    verbose: int

    method_: str
    sources_: NDArray[Any]
    instance_values_: NDArray[np.float64]

    def _forget(self) -> None:
        for name in _OPTIONAL:
            if hasattr(self, name):
                delattr(self, name)
        self._players_named = None

    def _check_common(self) -> None:
        """Check the parameters that all of these valuers have, also where they go unused."""
        check_model(self.estimator, self.scoring)
        check_n_neighbors(self.n_neighbors)
        check_empty_value(self.empty_value)
        check_choice("on_error", self.on_error, ("empty", "raise"))
        check_workers(self.n_jobs, self.verbose)
        random_state = getattr(self, "random_state", None)
        # Generators are sources of seeds by themselves, and asking them for one would advance them.
        if not isinstance(random_state, np.random.Generator | np.random.RandomState):
            seed_sequence(random_state)

    def _check_rows(self, X: Any, X_val: Any, y_val: Any) -> int:
        """Note the columns of `X` and the names of its rows, and return its number of rows."""
        if X_val is None or y_val is None:
            missing = "X_val" if X_val is None else "y_val"
            raise ValueError(f"X_val and y_val must both be given; {missing} is None")
        validate_data(self, X, skip_check_array=True)
        self._players_named = row_names(X)
        return int(_num_samples(X))

    def _utility(self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike, y_val: ArrayLike) -> Game:
        if self.estimator is None:
            if self.scoring is not None:
                raise ValueError(
                    f"scoring needs an estimator; got scoring={self.scoring!r} with estimator=None"
                )
            return KNNUtility(X, y, X_val, y_val, self.n_neighbors, knn_task(y, y_val))
        return Utility(
            self.estimator,
            X,
            y,
            X_val,
            y_val,
            scoring=self.scoring,
            empty_value=self.empty_value,
            on_error=self.on_error,
            cache_size=0,
        )

    def _players(self, sources: Any, groups: Any, n: int) -> tuple[list[NDArray[np.int64]] | None, Any]:
        """Return the points of each source, None where points are the players, and the groups of players."""
        if sources is None:
            return None, groups
        labels = np.asarray(sources)
        if labels.shape != (n,):
            raise ValueError(f"sources must have shape ({n},), one label per row of X; got {labels.shape}")
        if pd.isna(labels).any():
            raise ValueError("sources must not hold missing labels")
        codes, self.sources_ = pd.factorize(labels, sort=True)
        self._players_named = pd.Index(self.sources_)
        blocks = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
        if groups is None:
            return blocks, None
        of_points = np.asarray(groups)
        if of_points.shape != (n,):
            raise ValueError(f"groups must have shape ({n},), one label per row of X; got {of_points.shape}")
        for label, block in zip(self.sources_, blocks):
            if len(np.unique(of_points[block])) > 1:
                raise ValueError(
                    f"groups must be the same for all rows of a source; they vary inside {label}"
                )
        return blocks, of_points[[block[0] for block in blocks]]


class ShapleyValuer(GameValuer):
    """Base of the valuers that average marginal contributions, exactly or over random orders."""

    method: str
    max_permutations: int
    rtol: float
    antithetic: bool
    # Subclasses without these parameters leave them at what switches them off.
    epsilon: float | None = None
    delta: float = 0.05
    value_range: float = 1.0
    truncation: float = 0.0

    sampler_: str
    n_permutations_: int

    def _check_parameters(self, methods: tuple[str, ...]) -> None:
        self._check_common()
        check_choice("method", self.method, methods)
        check_int("max_permutations", self.max_permutations, minimum=1)
        check_real("rtol", self.rtol, low=0.0)
        if self.epsilon is not None:
            check_real("epsilon", self.epsilon, low=0.0, closed="neither")
        check_real("delta", self.delta, low=0.0, high=1.0, closed="neither")
        check_real("value_range", self.value_range, low=0.0, closed="neither")
        check_real("truncation", self.truncation, low=0.0)
        check_bool("antithetic", self.antithetic)
        check_bool("incremental", self.incremental)

    def _n_draws(self, n_players: int) -> int:
        if self.epsilon is None:
            return self.max_permutations
        return required_permutations(n_players, self.epsilon, self.delta, self.value_range)

    def _choose_method(self, groups: NDArray[np.int64], order: PartialOrder | None) -> str:
        """Enumerate where that takes no more evaluations than the scans allowed."""
        n = len(groups)
        sizes = np.bincount(groups)
        if sizes.max() > MAX_EXACT:
            return "mc"
        if order is None:
            n_coalitions = int((2**sizes).sum())
        else:
            n_coalitions = int(np.count_nonzero(count_extensions(order)))
        allowed = n * self._n_draws(n) * (2 if self.antithetic else 1)
        return "exact" if n_coalitions <= allowed else "mc"

    def _value_game(
        self,
        game: Game,
        structure: tuple[NDArray[np.int64], PartialOrder | None, NDArray[np.float64] | None],
        *,
        n_samples: int,
        size_weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Set the common attributes from a game by the chosen method."""
        groups, order, weights = structure
        method = self._choose_method(groups, order) if self.method == "auto" else self.method
        self.method_ = method
        if method == "exact":
            exact = enumerate_values(
                game,
                groups,
                order=order,
                weights=weights,
                size_weights=size_weights,
                limit=MAX_EXACT,
                n_jobs=self.n_jobs,
                verbose=self.verbose,
            )
            self._set_values(
                exact.values,
                n_samples=n_samples,
                total_utility=exact.total_utility,
                empty_utility=exact.empty_utility,
                method="exact",
                groups=groups,
                n_evaluations=exact.n_evaluations,
            )
            return
        sampler: PermutationSampler
        sampler = GroupSampler(groups, weights) if order is None else PrecedenceSampler(order)
        plan = ScanPlan.prepare(
            game,
            sampler,
            antithetic=self.antithetic,
            truncation=self.truncation,
            size_weights=size_weights,
            incremental=self.incremental,
        )
        seeds = spawn_seeds(self.random_state, self._n_draws(game.n_players))
        found = estimate_values(
            game,
            plan,
            seeds,
            rtol=self.rtol if self.epsilon is None else None,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )
        precedes = None if order is None else order.precedes
        self.sampler_ = sampler.name
        self.n_permutations_ = found.n_draws
        self._set_values(
            found.values,
            stderr=found.stderr,
            n_samples=n_samples,
            total_utility=plan.known[game.n_players],
            empty_utility=plan.known[0],
            method="mc",
            groups=groups,
            n_evaluations=found.n_evaluations,
            converged=found.converged,
            meta={
                "n_permutations": found.n_draws,
                "sampler": sampler.name,
                "antithetic": self.antithetic,
                "seeds": [seed_range(seeds[: found.n_draws])],
                "game": game_fingerprint(game, (precedes, weights, size_weights)),
            },
        )


def knn_task(y: ArrayLike, y_val: ArrayLike) -> str:
    """Return "regression" where either has real-valued targets, else "classification".

    Whole numbers are labels, with a UserWarning where there are so many that they look like targets, and so
    is the column that `y_val` names where `y` holds soft labels.
    """
    labels, labels_val = as_labels(y), as_labels(y_val)
    if labels.ndim != 1:
        return "classification"
    if is_real_valued(labels) or is_real_valued(labels_val):
        return "regression"
    n_classes = 0 if pd.isna(labels).any() or label_kind("y", labels) != "number" else len(pd.unique(labels))
    if n_classes > max(_MAX_CLASSES, len(labels) / _ROWS_PER_CLASS):
        warnings.warn(
            f"y holds {n_classes} distinct whole numbers in {len(labels)} rows, which are taken for class "
            "labels; for regression give a regressor as estimator, or take KNNShapley(task='regression'); "
            "labels as text are classes without this warning",
            UserWarning,
            stacklevel=2,
        )
    return "classification"


def as_players(game: Game, blocks: list[NDArray[np.int64]] | None) -> Game:
    """Return the game of the sources, or of the points where there are none."""
    return game if blocks is None else BlockGame(game, blocks)
