"""What a fitted nearest-neighbour valuer keeps, so that later arrivals can be valued."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._distances import Metric, check_points
from mlpapers.valuation._knn_game import NearestState
from mlpapers.valuation._labels import ValidationTargets


@dataclass(frozen=True, eq=False)
class Market:
    """The validation set, and the nearest points of each game."""

    X_val: NDArray[np.float64]
    targets: ValidationTargets
    state: NearestState
    empty_value: float
    self_valued: bool

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
