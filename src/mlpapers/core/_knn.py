"""Compiled pieces of the neighbour ranking: sorting by distance, exact order of near-ties, selection.

A ranking starts from 64-bit keys: the distance, scaled to an integer, above the column. Two counting passes
over the leading bits and an insertion pass sort them, a dozen times faster than a stable argsort, and equal
distances come out by column. What the scaling blurs is put right afterwards: neighbours whose keys are closer
than the blur (or than the rounding error of a matrix-product distance) are sorted again, by distances
evaluated directly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

# How a distance can be evaluated directly: not at all (the given one is exact), or by one of these.
GIVEN, EUCLIDEAN, COSINE = 0, 1, 2


@njit(cache=True, nogil=True, error_model="numpy")
def direct_distance(points: Any, i: Any, query: Any, metric: Any) -> Any:
    """Distance of row `i` to `query`, its operations in a fixed order: equal rows tie bitwise."""
    total = 0.0
    if metric == EUCLIDEAN:
        for k in range(query.shape[0]):
            gap = points[i, k] - query[k]
            total += gap * gap
        return total
    own = 0.0
    other = 0.0
    for k in range(query.shape[0]):
        total += points[i, k] * query[k]
        own += points[i, k] * points[i, k]
        other += query[k] * query[k]
    if own == 0.0 or other == 0.0:
        return 1.0
    return max(1.0 - total / (math.sqrt(own) * math.sqrt(other)), 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def sort_pairs(value: Any, column: Any, start: Any, stop: Any) -> None:
    """Sort ``value[start:stop]`` and its columns by (value, column), by Shell's method."""
    gap = stop - start
    while gap > 1:
        gap = max(1, (5 * gap - 1) // 11)
        for a in range(start + gap, stop):
            v, c = value[a], column[a]
            b = a - gap
            while b >= start and (value[b] > v or (value[b] == v and column[b] > c)):
                value[b + gap], column[b + gap] = value[b], column[b]
                b -= gap
            value[b + gap], column[b + gap] = v, c


@njit(cache=True, nogil=True, error_model="numpy")
def fill_keys(distances: Any, start: Any, stop: Any, shift: Any, keys: Any) -> Any:
    """Fill `keys` (n,) from the distances of some columns; return the factor from distances to integers.

    The integer takes the bits above `shift`, the column minus `start` those below. Infinity becomes the
    largest integer, finite distances stay below it.
    """
    low, high = np.inf, -np.inf
    for i in range(start, stop):
        d = distances[i]
        low = min(low, d)
        if d < np.inf:
            high = max(high, d)
    last = (np.uint64(1) << (np.uint64(64) - shift)) - np.uint64(1)
    scale = (float(last) - 2.0) / (high - low) if high > low else 0.0
    if scale == np.inf:
        scale = 0.0
    for i in range(start, stop):
        d = distances[i]
        whole = np.uint64((d - low) * scale) if d < np.inf else last
        keys[i - start] = (whole << shift) | np.uint64(i - start)
    return scale


@njit(cache=True, nogil=True, error_model="numpy")
def sort_keys(keys: Any, digit: Any, buffer: Any, counts: Any) -> Any:
    """Sort `keys` (n,), or return False where they are so uneven that insertion would take long.

    Two counting passes over the leading ``2 * digit`` bits leave runs of a few keys each. `counts` is scratch
    of shape (2, 2**digit).
    """
    n = keys.shape[0]
    top = np.uint64(64 - digit)
    middle = np.uint64(64 - 2 * digit)
    mask = np.uint64((1 << digit) - 1)
    counts[:] = 0
    for i in range(n):
        counts[0, np.int64((keys[i] >> middle) & mask)] += 1
        counts[1, np.int64(keys[i] >> top)] += 1
    for row in range(2):
        before = np.int64(0)
        for value in range(counts.shape[1]):
            here = counts[row, value]
            counts[row, value] = before
            before += here
    for i in range(n):
        c = np.int64((keys[i] >> middle) & mask)
        buffer[counts[0, c]] = keys[i]
        counts[0, c] += 1
    for i in range(n):
        c = np.int64(buffer[i] >> top)
        keys[counts[1, c]] = buffer[i]
        counts[1, c] += 1
    moves = 0
    for a in range(1, n):
        key = keys[a]
        b = a - 1
        while b >= 0 and keys[b] > key:
            keys[b + 1] = keys[b]
            b -= 1
        keys[b + 1] = key
        moves += a - 1 - b
        if moves > 8 * n:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def sorted_keys(
    distances: Any, start: Any, stop: Any, shift: Any, digit: Any, sort: Any, keys: Any, scale: Any, done: Any
) -> None:
    """Fill and (if `sort`) sort the keys of each row; `done` says which rows are sorted."""
    buffer = np.empty(keys.shape[1], dtype=np.uint64)
    counts = np.empty((2, 1 << digit), dtype=np.int64)
    for j in range(distances.shape[0]):
        scale[j] = fill_keys(distances[j], start, stop, shift, keys[j])
        done[j] = sort and sort_keys(keys[j], digit, buffer, counts)


@njit(cache=True, nogil=True, error_model="numpy")
def unpack_order(
    keys: Any,
    shift: Any,
    scale: Any,
    start: Any,
    stop: Any,
    distances: Any,
    rows: Any,
    points: Any,
    query: Any,
    metric: Any,
    slack: Any,
    order: Any,
    value: Any,
) -> None:
    """Turn sorted keys into the exact order of columns, ``order[:stop]``.

    Parameters
    ----------
    keys : (n,) uint64
    shift, scale
        As in `fill_keys`.
    start : int
        Column that position 0 of the keys stands for.
    stop : int
        How many of the nearest to order.
    distances : (width,) float64
        One row of the distance block.
    rows : (width,) int64
        Row of `points` behind each column.
    points, query : (n, d), (d,) float64
        For direct evaluation; unused where `metric` is GIVEN.
    slack : float
        Twice the largest rounding error in `distances`; 0 where they are exact.
    order : (n,) int64, written
    value : (n,) float64, scratch
    """
    mask = (np.uint64(1) << shift) - np.uint64(1)
    for i in range(stop):
        order[i] = start + np.int64(keys[i] & mask)
    near = np.uint64(slack * scale) + np.uint64(2)
    a: Any = np.int64(0)
    while a < stop - 1:
        if (keys[a + 1] >> shift) - (keys[a] >> shift) > near:
            a += 1
            continue
        b = a + 1
        while b < stop - 1 and (keys[b + 1] >> shift) - (keys[b] >> shift) <= near:
            b += 1
        b += 1
        in_order = True
        close = False
        for c in range(a, b):
            value[c] = distances[order[c]]
            if c > a:
                gap = value[c] - value[c - 1]
                in_order = in_order and gap >= 0.0
                close = close or abs(gap) <= slack
        if not in_order:
            sort_pairs(value, order, a, b)
            close = True
        if metric != GIVEN and close:
            c = a
            while c < b - 1:
                e = c + 1
                while e < b and value[e] - value[e - 1] <= slack:
                    e += 1
                if e > c + 1:
                    for f in range(c, e):
                        value[f] = direct_distance(points, rows[order[f]], query, metric)
                    sort_pairs(value, order, c, e)
                c = e
        a = b


@njit(cache=True, nogil=True, error_model="numpy")
def nearest_rows(
    distances: Any,
    rows: Any,
    first: Any,
    points: Any,
    queries: Any,
    metric: Any,
    slack: Any,
    k: Any,
    near_distance: Any,
    near_index: Any,
    count: Any,
) -> None:
    """Merge the columns of a distance block into lists of the `k` nearest, by (distance, index).

    Parameters
    ----------
    distances : (m, width) float64
    rows : (width,) int64
        Row of `points` behind each column.
    first : int
        Added to a row to make its index, for points that arrive in batches.
    slack : (m,) float64
        Twice the rounding error of each row of distances.
    near_distance, near_index : (m, k) float64 and int64, updated, sorted near to far
    count : (m,) int64, updated
        How many entries each list holds.
    """
    for j in range(distances.shape[0]):
        held = count[j]
        for p in range(distances.shape[1]):
            if held == k and distances[j, p] > near_distance[j, k - 1] + slack[j]:
                continue
            index = first + rows[p]
            d = distances[j, p]
            if metric != GIVEN:
                d = direct_distance(points, rows[p], queries[j], metric)
            if held == k:
                last = near_distance[j, k - 1]
                if d > last or (d == last and index > near_index[j, k - 1]):
                    continue
            else:
                held += 1
            b = held - 2
            while b >= 0 and (
                near_distance[j, b] > d or (near_distance[j, b] == d and near_index[j, b] > index)
            ):
                near_distance[j, b + 1], near_index[j, b + 1] = near_distance[j, b], near_index[j, b]
                b -= 1
            near_distance[j, b + 1], near_index[j, b + 1] = d, index
        count[j] = held


@njit(cache=True, nogil=True, error_model="numpy")
def shapley_recursion(scores: Any, n_neighbors: Any, drift: Any, farthest: Any, values: Any) -> None:
    """Fill `values` (m, n) from `scores` (m, n), near to far; see `mlpapers.core.knn.knn_shapley`."""
    m, n = scores.shape
    for j in range(m):
        phi = farthest[j]
        values[j, n - 1] = phi
        for i in range(n - 2, -1, -1):
            phi += (scores[j, i] - scores[j, i + 1]) * (1.0 / max(i + 1, n_neighbors) + drift)
            values[j, i] = phi
