"""The estimator's own copy of the training rows, from which deleted ones are erased."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# Dead rows cost time in every pass over the data; above this share they are squeezed out.
_DEAD_SHARE = 0.25
_PER_ROW = ("X", "y", "w", "sample_weight", "values", "multipliers")


@dataclass(frozen=True, eq=False)
class Erasure:
    """What `Rows.erase` overwrote, to put it back if the request fails after all."""

    positions: Indices
    ids: Indices
    saved: dict[str, NDArray[Any]]
    replaced: dict[str, Array | None]


class Rows:
    """Rows by position, and the original numbers by which callers know them.

    Attributes
    ----------
    X : ndarray of shape (m, d), float64, C order
    y : ndarray of shape (m,)
    w : ndarray of shape (m,)
        Weights in the current objective; 0 for removed rows.
    sample_weight : ndarray of shape (m,)
    values : ndarray of shape (m,) or None
        Data values; NaN for removed rows.
    multipliers : ndarray of shape (m,) or None
        Forget multipliers s.
    ids : ndarray of shape (m,) of int
        Original number of each position.
    n_original : int
        Number of rows at fit.
    n_alive : int
        Number of rows not removed.
    """

    def __init__(
        self,
        X: Array,
        y: NDArray[Any],
        w: Array,
        sample_weight: Array,
        values: Array | None,
        multipliers: Array | None,
        *,
        ids: Indices | None = None,
        n_original: int | None = None,
        n_alive: int | None = None,
    ) -> None:
        self.X, self.y, self.w, self.sample_weight = X, y, w, sample_weight
        self.values, self.multipliers = values, multipliers
        self.ids = np.arange(len(y), dtype=np.int64) if ids is None else ids
        self.n_original = len(y) if n_original is None else n_original
        self.n_alive = len(y) if n_alive is None else n_alive
        self._position = np.full(self.n_original, -1, dtype=np.int64)
        living = self.ids >= 0
        self._position[self.ids[living]] = np.flatnonzero(living)

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Mask of the positions that hold a row."""
        return self.ids >= 0

    @property
    def retained(self) -> Indices:
        """Original numbers of the rows that are left, ascending."""
        return np.flatnonzero(self._position >= 0)

    @property
    def removed(self) -> Indices:
        """Original numbers of the rows that are gone, ascending."""
        return np.flatnonzero(self._position < 0)

    def by_original(self, entries: Array, missing: float) -> Array:
        """Return entries by position as an array by original number, `missing` for removed rows."""
        result = np.full(self.n_original, missing)
        alive = self.alive
        result[self.ids[alive]] = entries[alive]
        return result

    def check(self, indices: Any) -> Indices:
        """Return original row numbers as an int64 array; errors name what is wrong with them."""
        array = np.asarray(indices)
        n = self.n_original
        if array.dtype == bool:
            if array.shape != (n,):
                raise ValueError(f"indices as a mask must have shape ({n},); got {array.shape}")
            array = np.flatnonzero(array)
        if array.ndim != 1:
            raise ValueError(f"indices must be one-dimensional; got shape {array.shape}")
        if array.size == 0:
            raise ValueError("indices must name at least one row; got none")
        if array.dtype.kind not in "iu":
            raise TypeError(f"indices must be integers or a boolean mask; got dtype {array.dtype}")
        ids = array.astype(np.int64)
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= n:
            raise ValueError(f"indices must lie in [0, {n}); got {low if low < 0 else high}")
        if ids.size > 1:
            ascending = np.sort(ids)
            if (ascending[1:] == ascending[:-1]).any():
                raise ValueError("indices must not repeat a row in one request")
        gone = self._position[ids] < 0
        if gone.any():
            raise ValueError(
                f"indices must name rows that are still there; row {ids[gone][0]} is already removed"
            )
        if ids.size == self.n_alive:
            raise ValueError(
                f"indices must leave at least one row; all {self.n_alive} remaining ones are named"
            )
        return ids

    def positions(self, ids: Indices) -> Indices:
        """Return where rows stand that `check` accepted."""
        return self._position[ids]

    def compact(self) -> None:
        """Squeeze removed rows out where they are more than a quarter of the array."""
        if self.n_alive >= (1.0 - _DEAD_SHARE) * len(self.ids):
            return
        alive = self.alive
        for name in _PER_ROW:
            array = getattr(self, name)
            if array is not None:
                setattr(self, name, np.ascontiguousarray(array[alive]))
        self.ids = self.ids[alive]
        self._position[self.ids] = np.arange(len(self.ids))

    def take(self, positions: Indices) -> dict[str, NDArray[Any]]:
        """Return copies of everything that is kept of these rows, by the name of the array."""
        arrays = {name: getattr(self, name) for name in _PER_ROW}
        # Several times faster than indexing for one-dimensional arrays, and a little for rows.
        return {name: array.take(positions, axis=0) for name, array in arrays.items() if array is not None}

    def erase(
        self,
        positions: Indices,
        taken: dict[str, NDArray[Any]],
        w: Array | None = None,
        values: Array | None = None,
    ) -> Erasure:
        """Overwrite rows, of which `take` returned `taken`, with zeros.

        `w` and `values`, where given, replace the arrays of all rows.
        """
        ids = self.ids[positions]
        for name in taken:
            getattr(self, name)[positions] = np.nan if name == "values" else 0
        replaced = {}
        for name, array in (("w", w), ("values", values)):
            if array is not None:
                replaced[name] = getattr(self, name)
                setattr(self, name, array)
        self.ids[positions] = -1
        self._position[ids] = -1
        self.n_alive -= len(positions)
        return Erasure(positions, ids, taken, replaced)

    def restore(self, undo: Erasure) -> None:
        """Take `erase` back."""
        for name, array in undo.replaced.items():
            setattr(self, name, array)
        for name, entries in undo.saved.items():
            getattr(self, name)[undo.positions] = entries
        self.ids[undo.positions] = undo.ids
        self._position[undo.ids] = undo.positions
        self.n_alive += len(undo.positions)
