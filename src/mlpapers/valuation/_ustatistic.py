"""Compiled kernels of the U-statistic: subsets, nearest-neighbour values inside a subset, jackknife sums.

A *tuple* is a row of s + 1 distinct training points in random order. Its first s members are a uniform subset
S; for a training point z of the tuple they are replaced by the tuple without z, which is a uniform subset of
the sample without z. So one tuple serves every target.

In S + z, sorted near to far, a nearest-neighbour game gives z at position q (from 1) the Shapley value

    h_z / max(K, q)  -  sum over positions i > max(q, K) of  h_i / (i (i - 1)),

so that only members behind z matter, and all members of a tuple are valued by one backward pass.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def draw_tuples(uniforms, n):
    """Turn uniforms (B, m) into m distinct points of range(n) per row, by a partial Fisher-Yates shuffle."""
    n_rows, m = uniforms.shape
    deck = np.arange(n)
    tuples = np.empty((n_rows, m), dtype=np.int64)
    for b in range(n_rows):
        for j in range(m):
            pick = j + min(int(uniforms[b, j] * (n - j)), n - j - 1)
            deck[j], deck[pick] = deck[pick], deck[j]
            tuples[b, j] = deck[j]
    return tuples


@njit(cache=True, nogil=True)
def _sort_prefix(values, stop):
    """Sort ``values[:stop]`` in place, by Shell's method with gaps (3^k - 1) / 2."""
    gap = 1
    while 9 * gap < stop:
        gap = 3 * gap + 1
    while gap > 0:
        for a in range(gap, stop):
            v = values[a]
            b = a - gap
            while b >= 0 and values[b] > v:
                values[b + gap] = values[b]
                b -= gap
            values[b + gap] = v
        gap //= 3


@njit(cache=True, nogil=True)
def shapley_rows(order, rank, score, position, by_position, own, slot, tuples, n_neighbors, out):
    """Add to `out` the Shapley value of each target in S + target, for each tuple and validation point.

    Parameters
    ----------
    order, rank : (m, n) int
        Training points near to far of each validation point, and the inverse.
    score : (m, n) float64
        Scores in that order.
    position : (m, T) int
        How many training points come before each target.
    by_position : (m, T) int
        Targets near to far.
    own : (m, T) float64
        Scores of the targets.
    slot : (n,) int
        Which target a training point is, -1 for none.
    tuples : (B, s + 1) int
    n_neighbors : int
    out : (B, T) float64, updated
    """
    n_rows, width = tuples.shape
    s = width - 1
    n_targets = position.shape[1]
    inside = np.empty(width, dtype=np.int64)
    whole = np.empty(width, dtype=np.int64)
    weight = np.empty(width)
    share = np.zeros(width + 1)
    tail = np.empty(width)
    tail_whole = np.empty(width)
    in_sample = False
    for i in range(len(slot)):
        in_sample = in_sample or slot[i] >= 0
    for i in range(width):
        weight[i] = 1.0 / max(n_neighbors, i + 1)
    for i in range(max(n_neighbors + 1, 2), width + 1):
        share[i] = 1.0 / (i * (i - 1.0))
    for j in range(order.shape[0]):
        for b in range(n_rows):
            for a in range(s):
                inside[a] = rank[j, tuples[b, a]]
            _sort_prefix(inside, s)
            total = 0.0
            for c in range(s, -1, -1):
                tail[c] = total
                if c > 0:
                    total += share[c + 1] * score[j, inside[c - 1]]
            c = 0
            for a in range(n_targets):
                t = by_position[j, a]
                p = position[j, t]
                while c < s and inside[c] < p:
                    c += 1
                out[b, t] += own[j, t] * weight[c] - tail[c]

            if not in_sample:
                continue
            # Members of the subset: the value above is that of a second copy of them; replace it.
            spare = rank[j, tuples[b, s]]
            c = s
            while c > 0 and inside[c - 1] > spare:
                whole[c] = inside[c - 1]
                c -= 1
            whole[c] = spare
            for a in range(c):
                whole[a] = inside[a]
            total = 0.0
            for q in range(s, -1, -1):
                tail_whole[q] = total
                total += share[q + 1] * score[j, whole[q]]
            for q in range(width):
                t = slot[order[j, whole[q]]]
                if t >= 0 and whole[q] != spare:
                    copy = q if whole[q] < spare else q - 1
                    h = own[j, t]
                    out[b, t] += h * (weight[q] - weight[copy]) - (tail_whole[q] - tail[copy])


@njit(cache=True, nogil=True)
def shapley_pairs(rank, score, position, own, subsets, targets, n_neighbors, out):
    """Add to `out` (R,) the Shapley value of one target in each subset (R, s); see `shapley_rows`."""
    n_rows, s = subsets.shape
    behind = np.empty(s, dtype=np.int64)
    share = np.zeros(s + 2)
    for i in range(max(n_neighbors + 1, 2), s + 2):
        share[i] = 1.0 / (i * (i - 1.0))
    for j in range(rank.shape[0]):
        for b in range(n_rows):
            t = targets[b]
            p = position[j, t]
            n_behind = 0
            for a in range(s):
                r = rank[j, subsets[b, a]]
                if r >= p:
                    behind[n_behind] = r
                    n_behind += 1
            _sort_prefix(behind, n_behind)
            q = s - n_behind + 1
            total = 0.0
            for a in range(n_behind - 1, -1, -1):
                total += share[q + 1 + a] * score[j, behind[a]]
            out[b] += own[j, t] * (1.0 / max(n_neighbors, q)) - total


@njit(cache=True, nogil=True)
def marginal_rows(order, rank, score, position, by_position, own, slot, tuples, sizes, n_neighbors, out):
    """Add to `out` (B, T) the marginal contribution of each target to the first ``sizes[b]`` of its subset.

    A target that is itself among the first k of the tuple joins the others of the first k + 1.
    """
    n_rows, width = tuples.shape
    inside = np.empty(width, dtype=np.int64)
    for j in range(order.shape[0]):
        for b in range(n_rows):
            k = sizes[b]
            for a in range(k):
                inside[a] = rank[j, tuples[b, a]]
            _sort_prefix(inside, k)
            displaced = score[j, inside[n_neighbors - 1]] if k >= n_neighbors else 0.0
            c = 0
            for a in range(position.shape[1]):
                t = by_position[j, a]
                while c < k and inside[c] < position[j, t]:
                    c += 1
                if c >= n_neighbors:
                    break
                out[b, t] += (own[j, t] - displaced) / n_neighbors

            for c in range(min(k, n_neighbors)):
                t = slot[order[j, inside[c]]]
                if t >= 0:
                    out[b, t] -= (own[j, t] - displaced) / n_neighbors
            last = rank[j, tuples[b, k]]
            inside[k] = last
            _sort_prefix(inside, k + 1)
            displaced = score[j, inside[n_neighbors]] if k >= n_neighbors else 0.0
            for q in range(min(k + 1, n_neighbors)):
                t = slot[order[j, inside[q]]]
                if t >= 0 and inside[q] != last:
                    out[b, t] += (own[j, t] - displaced) / n_neighbors


@njit(cache=True, nogil=True)
def marginal_pairs(rank, score, position, own, subsets, targets, sizes, n_neighbors, out):
    """Add to `out` (R,) the marginal contribution of one target to the first ``sizes[b]`` of each subset."""
    n_rows, s = subsets.shape
    inside = np.empty(s, dtype=np.int64)
    for j in range(rank.shape[0]):
        for b in range(n_rows):
            k = sizes[b]
            p = position[j, targets[b]]
            before = 0
            for a in range(k):
                inside[a] = rank[j, subsets[b, a]]
                if inside[a] < p:
                    before += 1
            if before >= n_neighbors:
                continue
            _sort_prefix(inside, k)
            displaced = score[j, inside[n_neighbors - 1]] if k >= n_neighbors else 0.0
            out[b] += (own[j, targets[b]] - displaced) / n_neighbors


@njit(cache=True, nogil=True)
def jackknife_sums(h, tuples, targets, n, out):
    """Fill `out` (T,) with the sums of squared covariances between membership and value.

    Parameters
    ----------
    h : (T, B) float64
        Values less their mean over b.
    tuples : (B, s + 1) int
    targets : (T,) int
        Training index of each target, -1 for a point outside the sample.
    n : int
        Training points.
    out : (T,) float64, written
    """
    n_rows, width = tuples.shape
    covariance = np.empty(n)
    for t in range(h.shape[0]):
        covariance[:] = 0.0
        for b in range(n_rows):
            gap = h[t, b]
            for a in range(width - 1):
                i = tuples[b, a]
                covariance[tuples[b, width - 1] if i == targets[t] else i] += gap
        total = 0.0
        for i in range(n):
            total += (covariance[i] / n_rows) ** 2
        out[t] = total
