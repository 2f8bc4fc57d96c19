"""Compiled piece of the market: what a batch is worth to halves of the sample."""

from __future__ import annotations

from numba import njit

# Where a point stands in a split: in the batch (a member of both games), in one of the halves, in none.
BATCH, FIRST, SECOND, NONE = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def batch_gains(order, score, side, n_neighbors, out):
    """Add to `out` (R, 2) what the batch adds to the utility of either half, for each split.

    Parameters
    ----------
    order : (m, n) int
        Points near to far of each validation point.
    score : (m, n) float64
        Scores in that order.
    side : (R, n) int
        Where each point stands in each split.
    n_neighbors : int
    out : (R, 2) float64, updated
    """
    n = order.shape[1]
    for j in range(order.shape[0]):
        for r in range(len(side)):
            for half in range(2):
                joined = 0
                alone = 0
                gain = 0.0
                for a in range(n):
                    where = side[r, order[j, a]]
                    if where != BATCH and where != FIRST + half:
                        continue
                    if joined < n_neighbors:
                        joined += 1
                        gain += score[j, a]
                    if where != BATCH:
                        alone += 1
                        gain -= score[j, a]
                        if alone == n_neighbors:
                            break
                out[r, half] += gain / n_neighbors


@njit(cache=True, nogil=True)
def batch_totals(order, score, side, n_neighbors, out):
    """Add to `out` (R, 2) the Shapley total of the batch in its game with either half; see `batch_gains`."""
    n = order.shape[1]
    for r in range(len(side)):
        for half in range(2):
            size = 0
            for i in range(n):
                if side[r, i] == BATCH or side[r, i] == FIRST + half:
                    size += 1
            for j in range(order.shape[0]):
                place = size
                value = 0.0
                farther = 0.0
                for a in range(n - 1, -1, -1):
                    where = side[r, order[j, a]]
                    if where != BATCH and where != FIRST + half:
                        continue
                    # `place` is the rank, from 1, among the members of this game.
                    value += (score[j, a] - farther) / max(n_neighbors, place)
                    farther = score[j, a]
                    if where == BATCH:
                        out[r, half] += value
                    place -= 1
