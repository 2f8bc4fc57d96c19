"""What is held of a linear model around one point: its margins, so that a coordinate query costs O(1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.optim._columns import add_to, entries_of, few, product
from mlpapers.optim._directions import Block, CoordinateBlock, VectorBlock
from mlpapers.optim._logistic import (
    column_moments,
    midway,
    pair_changes,
    pair_differences,
    replace_margins,
    sparse_moments,
)
from mlpapers.optim._points import Known, Point, all_rows

if TYPE_CHECKING:
    from mlpapers.optim._lean import ScaledPoint
    from mlpapers.optim.linear import LinearFiniteSum

__all__ = ["LeanLinear", "LinearPoint"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Margins are mixed so often at most before they are multiplied out anew: each mixture adds a rounding.
_MIXED = 64
# Of so small a share of the rows, entries are read from rows instead of columns.
_SHARE = 8


class LinearPoint(Point):
    """Differences from margins.

    Attributes
    ----------
    parts : list of (float, LinearPoint)
        Weights and points of a mixture whose margins have not been asked for as a whole.
    mixed : int
        Mixtures since the margins were a product with A.
    """

    fun: LinearFiniteSum

    def __init__(self, fun: LinearFiniteSum, x: Array, chunk_size: int, n_jobs: int | None) -> None:
        super().__init__(fun, x, chunk_size, n_jobs)
        self._all_margins: Array | None = None
        self.parts: list[tuple[float, LinearPoint]] = []
        self.mixed = 0

    @property
    def margins(self) -> Array:
        """All <a_i, x>."""
        if self._all_margins is None:
            self._all_margins = self._make()
            self.parts = []
        return self._all_margins

    def _make(self) -> Array:
        if self.parts:
            return self._whole_mixture()
        k = few(self.x)
        return np.asarray(self.fun.A @ self.x) if k is None else product(self.fun.columns, k, self.x[k])

    def _whole_mixture(self) -> Array:
        (weight, part), *others = self.parts
        margins = weight * part.margins
        for weight, part in others:
            if part._all_margins is None and part.vertex is not None:
                k = part.vertex
                add_to(margins, weight, self.fun.columns, k, float(part.x[k]))
            else:
                margins += weight * part.margins
        return margins

    def _mixture(self, idx: Any) -> Array:
        (weight, part), *others = self.parts
        margins = weight * part.margins[idx]
        for weight, part in others:
            margins += weight * part.margins[idx]
        return margins

    def some(self, idx: Ints) -> Array:
        """Return <a_i, x> for i in `idx`."""
        if self.parts and _SHARE * len(idx) < self.fun.n_functions:
            return self._mixture(idx)
        return self.margins[idx]

    def follow(self, parts: Sequence[tuple[float, Point]]) -> None:
        used: list[tuple[float, LinearPoint]] = []
        mixed = 1
        for weight, part in parts:
            if weight != 0.0 and isinstance(part, LinearPoint):
                if part.mixed >= _MIXED or not part._is_known():
                    return
                used.append((weight, part))
                mixed = max(mixed, 1 + part.mixed)
        # Their margins are made now: points that wait for each other would be kept alive in a chain.
        for _, part in used:
            if part.parts:
                _ = part.margins
        self.parts, self.mixed = used, mixed

    @cached_property
    def vertex(self) -> int | None:
        """The only coordinate that is not 0, where there is just one."""
        k = self.x.nonzero()[0]
        return int(k[0]) if len(k) == 1 else None

    @property
    def is_compiled(self) -> bool:
        return self.fun.loss.compiled

    def _is_known(self) -> bool:
        if self._all_margins is not None or self.parts:
            return True
        return self.vertex is not None or few(self.x) is not None

    def state(self) -> dict[str, Any]:
        return {"margins": self.margins if self.parts else self._all_margins, "mixed": self.mixed}

    def restore(self, state: dict[str, Any]) -> None:
        margins = state["margins"]
        self._all_margins = None if margins is None else np.asarray(margins, dtype=np.float64)
        self.mixed = int(state["mixed"])

    def complete(self, values: Array, known: NDArray[np.bool_]) -> None:
        if self.is_compiled:
            # All at once: to leave the known ones out would take longer.
            replace_margins(self.margins, self.fun.y, values)
        else:
            super().complete(values, known)

    def changes(
        self, old: Point, idx: Ints, block: CoordinateBlock, step: float, here: Known, there: Known
    ) -> tuple[Array, Array, int, int]:
        assert isinstance(old, LinearPoint)
        slopes = entries_of(self.fun.A, idx, block.k)
        return pair_changes(self.margins, old.margins, self.fun.y, idx, slopes, step, *here, *there)

    def middle(self, old: Point, idx: Ints) -> Array:
        if self.is_compiled and isinstance(old, LinearPoint):
            return midway(self.margins, old.margins, self.fun.y, idx)
        return super().middle(old, idx)

    def base(self, idx: Ints) -> Array:
        if len(idx) == self.fun.n_functions:
            return self.fun.loss.value(self.margins, self.fun.y)[idx]
        return self.fun.loss.value(self.some(idx), self.fun.y[idx])

    def _pairs(self, idx: Ints, block: Block, step: float, base: Array | None) -> Array:
        fun = self.fun
        if isinstance(block, CoordinateBlock):
            slopes = entries_of(fun.A, idx, block.k)
        elif isinstance(block, VectorBlock):
            slopes = fun._margins(block.U, idx)
        else:
            return super()._pairs(idx, block, step, base)
        if fun.loss.compiled and base is not None:
            return pair_differences(self.margins, fun.y, idx, slopes, step, base)
        return self._difference(self.margins[idx], step * slopes, fun.y[idx], base)

    def moments(self, block: Block, rows: Ints, step: float, base: Array | None) -> tuple[Array, Array]:
        if not isinstance(block, CoordinateBlock):
            return super().moments(block, rows, step, base)
        if self.fun.is_sparse:
            return self._sparse_moments(block, rows, step, base)
        if not self.fun.loss.compiled or base is None:
            return super().moments(block, rows, step, base)
        return self._dense_moments(block, rows, step, base)

    def _dense_moments(
        self, block: CoordinateBlock, rows: Ints, step: float, base: Array
    ) -> tuple[Array, Array]:
        fun = self.fun
        n, d = fun.A.shape
        if rows is all_rows(n) or (len(rows) == n and (rows == all_rows(n)).all()):
            flat = fun.columns.reshape(-1)
            return column_moments(flat, 1, n, block.k, rows[:0], self.margins, fun.y, base, step)
        m, y = self.margins[rows], fun.y[rows]
        if _SHARE * len(rows) < n:
            return column_moments(fun.A.reshape(-1), d, 1, block.k, rows, m, y, base, step)
        return column_moments(fun.columns.reshape(-1), 1, n, block.k, rows, m, y, base, step)

    def _sparse_moments(
        self, block: CoordinateBlock, rows: Ints, step: float, base: Array | None
    ) -> tuple[Array, Array]:
        fun, n = self.fun, self.fun.n_functions
        times = np.bincount(rows, minlength=n).astype(np.float64)
        values = None
        if base is not None:
            values = np.zeros(n)
            values[rows] = base
        columns = fun.columns
        if fun.loss.compiled and values is not None:
            parts = (columns.indptr, columns.indices, columns.data)
            return sparse_moments(*parts, block.k, times, self.margins, fun.y, values, step)
        mean, square = np.zeros(len(block)), np.zeros(len(block))
        for j, k in enumerate(block.k):
            start, end = columns.indptr[k], columns.indptr[k + 1]
            i, a = columns.indices[start:end], columns.data[start:end]
            chosen = times[i] > 0.0
            i, a = i[chosen], a[chosen]
            given = None if values is None else values[i]
            difference = self._difference(self.margins[i], step * a, fun.y[i], given)
            mean[j], square[j] = times[i] @ difference, times[i] @ (difference * difference)
        return mean / len(rows), square / len(rows)

    def table(self, block: Block, rows: Ints, step: float, base: Array | None) -> Array:
        fun = self.fun
        everything = len(rows) == fun.n_functions
        if isinstance(block, CoordinateBlock) and not fun.is_sparse:
            slopes = fun.columns[block.k]
            slopes = slopes if everything else slopes[:, rows]
        elif isinstance(block, VectorBlock):
            slopes = (fun.A[rows] @ block.U.T).T
        else:
            return super().table(block, rows, step, base)
        return self._difference(self.margins[rows], step * slopes, fun.y[rows], base)

    def _difference(self, m: Array, shift: Array, y: Array, base: Array | None) -> Array:
        loss = self.fun.loss.value
        if base is None:
            return loss(m + shift, y) - loss(m - shift, y)
        out = loss(m + shift, y)
        out -= base
        return out


class LeanLinear:
    """Margins as scale * w, where a move adds a multiple of one column to w."""

    def __init__(self, fun: LinearFiniteSum, point: ScaledPoint) -> None:
        self.fun, self.point = fun, point
        self.w = np.asarray(fun.A @ point.y)

    def follow(self, factor: float) -> None:
        if factor != 1.0:
            self.w *= factor
        rows, values = self._column(self.point.k)
        self.w[rows] += self.point.added * values

    def _column(self, k: int) -> tuple[Any, Array]:
        columns = self.fun.columns
        if not self.fun.is_sparse:
            return slice(None), columns[k]
        part = slice(columns.indptr[k], columns.indptr[k + 1])
        return columns.indices[part], columns.data[part]

    def _entries(self, idx: Ints, k: Ints) -> Array:
        return entries_of(self.fun.A, idx, k)

    def differences(self, idx: Ints, k: Ints, mu: float, *, old: bool) -> Array:
        w, point = self.w[idx], self.point
        if old:
            moved = self._entries(idx, np.full(len(idx), point.k))
            m = point.before * (w - point.added * moved)
        else:
            m = point.scale * w
        y, loss = self.fun.y[idx], self.fun.loss.value
        return loss(m + mu * self._entries(idx, k), y) - loss(m, y)

    def mean_difference(self, k: int, rows: Ints, mu: float) -> float:
        fun = self.fun
        where, values = self._column(k)
        if len(rows) < fun.n_functions:
            chosen = np.zeros(fun.n_functions)
            chosen[where] = values
            where, values = rows, chosen[rows]
        m, y, loss = self.point.scale * self.w[where], fun.y[where], fun.loss.value
        return float((loss(m + mu * values, y) - loss(m, y)).sum()) / len(rows)
