"""The asymmetric nearest-neighbour theorem as printed, term by term: slow, and a check on the scan."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._distances import DistanceBlocks
from mlpapers.core.knn import rank_blocks

if TYPE_CHECKING:
    from mlpapers.valuation._knn_game import KNNGame

# The double sum takes O(n_t^2 K) time per validation point.
MAX_GROUP = 500


def swap_weights(size: int, n_terms: int) -> NDArray[np.float64]:
    r"""Return the weights of the double sum of Theorem 5.1 for a group of `size` points.

    Entry (i, r) is :math:`\frac1{N-1} \sum_{s=r}^{N-2} \binom{s}{r} \binom{N-2-s}{i-1-r} / \binom{N-2}{i-1}`,
    in exact integers up to the last division; it equals 1 / i for r < i.

    Parameters
    ----------
    size : int
        N.
    n_terms : int
        r = 0..n_terms - 1.

    Returns
    -------
    ndarray of shape (N, n_terms)
        Row 0 is unused.
    """
    weights = np.zeros((size, n_terms))
    for i in range(1, size):
        whole = comb(size - 2, i - 1) * (size - 1)
        for r in range(min(n_terms, i)):
            ways = sum(comb(s, r) * comb(size - 2 - s, i - 1 - r) for s in range(r, size - 1))
            weights[i, r] = ways / whole
    return weights


def group_values(
    h: NDArray[np.float64], c: NDArray[np.int64], g: NDArray[np.float64], k: int, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    r"""Values of one group for one validation point, by [P] Theorem 5.1 from the farthest member inwards.

    Parameters
    ----------
    h : ndarray of shape (N,)
        Scores of the members, near to far.
    c : ndarray of shape (N,) of int
        How many members of earlier groups are nearer.
    g : ndarray
        Scores of the members of earlier groups, near to far.
    k : int
    weights : ndarray of shape (N, K)
        From :func:`swap_weights`.

    Returns
    -------
    ndarray of shape (N,)
    """
    size = len(h)
    padded = np.concatenate([[0.0], g[:k], np.zeros(max(k - len(g), 0))])  # g_1..g_K
    values = np.zeros(size)
    # The printed base case has K - c_N terms; there are only N subset sizes to average over.
    terms = min(k - c[-1], size)
    if terms > 0:
        values[-1] = (terms * h[-1] - padded[k - terms + 1 : k + 1].sum()) / (k * size)
    for i in range(size - 1, 0, -1):
        near, far = c[i - 1], c[i]
        step = 0.0
        if far < k:
            step += (h[i - 1] - h[i]) * min(k - far, i) / (k * i)
        if near < k and near != far:
            for r in range(max(k - far, 0), min(k - near, i)):
                step += weights[i, r] * (h[i - 1] - padded[k - r]) / k
        values[i - 1] = values[i] + step
    return values


def theorem_values(game: KNNGame) -> NDArray[np.float64]:
    """Return the sum of the values over validation points, by column.

    Raises
    ------
    ValueError
        If a group has more than 500 members.
    """
    n, k = game.n_columns, game.rule.k
    sizes = np.diff(game.bounds)
    if sizes.max() > MAX_GROUP:
        raise ValueError(
            f"algorithm='theorem' takes groups of up to {MAX_GROUP} points; got one of {sizes.max()}"
        )
    group = np.repeat(np.arange(len(sizes)), sizes)
    rows = game.blocks.rows
    # Columns in the order that breaks ties: (group descending, index) or index.
    precedence = np.lexsort((rows, -group)) if game.rule.later_first else np.argsort(rows)
    blocks = DistanceBlocks(
        game.blocks.points, game.blocks.queries, game.blocks.metric, rows=rows[precedence]
    )
    tables = {size: swap_weights(size, k) for size in {*sizes.tolist(), *(sizes - 1).tolist()} if size > 0}
    values = np.zeros(n)
    for chunk, order in rank_blocks(blocks, game.max_memory):
        for j, ranks in enumerate(order, start=chunk.start):
            columns = precedence[ranks]
            columns = columns[columns != game.excluded[j]]
            h = _scores(game, j, columns)
            for t in range(len(sizes)):
                own = group[columns] == t
                earlier = group[columns] < t
                if own.any():
                    c = np.cumsum(earlier)[own]
                    values[columns[own]] += group_values(h[own], c, h[earlier], k, tables[int(own.sum())])
    return values


def _scores(game: KNNGame, j: int, columns: NDArray[np.int64]) -> NDArray[np.float64]:
    code = game.targets.codes[j]
    if game.targets.kind == "soft":
        h: NDArray[np.float64] = game.scores.table[code, columns] if code >= 0 else np.zeros(len(columns))
    else:
        h = (game.scores.codes[columns] == code).astype(np.float64)
    return h
