"""What a fitted nearest-neighbour valuer keeps, so that later arrivals can be valued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._distances import Metric, check_points
from mlpapers.valuation._knn_game import KNNGame, NearestState
from mlpapers.valuation._labels import ValidationTargets

# Parameters that make another game; empty_value is looked at by what it stands for.
_GAME = ("n_neighbors", "task", "metric", "denominator", "ties")


@dataclass(frozen=True, eq=False)
class Market:
    """The validation set, and the nearest points of each game."""

    X_val: NDArray[np.float64]
    targets: ValidationTargets
    state: NearestState
    empty_value: float
    self_valued: bool
    parameters: Mapping[str, Any]

    @classmethod
    def opened(cls, valuer: Any, game: KNNGame, state: NearestState, *, self_valued: bool) -> Market:
        """Return the market after the first game of a valuer."""
        played = {name: getattr(valuer, name) for name in _GAME}
        return cls(game.blocks.queries, game.targets, state, game.rule.empty_value, self_valued, played)

    def check_unchanged(self, valuer: Any) -> None:
        """ValueError where a parameter of the game is no longer what it was in the first fit."""
        for name, before in self.parameters.items():
            now = getattr(valuer, name)
            if now is not before and now != before:
                raise ValueError(
                    f"{name} must be what it was in the first fit, {before!r}; got {now!r}: what came before "
                    "was valued by another game, and fit starts a new one"
                )
        empty_value = valuer.empty_value
        if empty_value is None:
            empty_value = 1.0 / self.targets.n_classes if valuer.denominator == "min" else 0.0
        if empty_value != self.empty_value:
            raise ValueError(
                f"empty_value must be what it was in the first fit, {self.empty_value:g}; "
                f"got {valuer.empty_value!r}"
            )

    def check_classes(self, y: Any, valuer: Any) -> None:
        """ValueError where new classes would change the utility of the empty set."""
        if valuer.denominator != "min" or valuer.empty_value is not None:
            return
        unknown = self.targets.unknown(y)
        if unknown:
            raise ValueError(
                "y must hold classes of the first fit where empty_value is None (1 / number of classes, on "
                f"which earlier values depend); got {unknown[0]!r}: empty_value={self.empty_value} keeps them"
            )

    def meet(
        self, points: NDArray[np.float64], X_val: Any, y_val: Any, metric: Metric
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return new points and the validation points they are compared with.

        Raises
        ------
        ValueError
            Where a validation set is given that is not the first fit's.
        """
        precomputed = metric == "precomputed"
        if y_val is not None or (X_val is not None and not precomputed):
            raise ValueError(
                "X_val and y_val must not be given again: the validation set is that of the first fit"
            )
        if precomputed and X_val is None:
            raise ValueError("X_val must hold the distances of the new points where metric='precomputed'")
        points, queries = check_points(points, X_val if precomputed else self.X_val, metric)
        if len(queries) != len(self.targets.codes):
            raise ValueError(
                f"X_val must have the {len(self.targets.codes)} rows of the first fit; got {len(queries)}"
            )
        return points, queries
