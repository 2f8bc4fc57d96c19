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
    d = query.shape[0]
    if metric == EUCLIDEAN:
        # Four sums, so that an addition need not wait for the one before it.
        a, b, c, e = 0.0, 0.0, 0.0, 0.0
        whole = d - d % 4
        for k in range(0, whole, 4):
            a += (points[i, k] - query[k]) ** 2
            b += (points[i, k + 1] - query[k + 1]) ** 2
            c += (points[i, k + 2] - query[k + 2]) ** 2
            e += (points[i, k + 3] - query[k + 3]) ** 2
        for k in range(whole, d):
            a += (points[i, k] - query[k]) ** 2
        return (a + b) + (c + e)
    product, own, other = 0.0, 0.0, 0.0
    for k in range(d):
        product += points[i, k] * query[k]
        own += points[i, k] * points[i, k]
        other += query[k] * query[k]
    if own == 0.0 or other == 0.0:
        return 1.0
    return max(1.0 - product / (math.sqrt(own) * math.sqrt(other)), 0.0)


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
def fill_keys(distances: Any, start: Any, stop: Any, shift: Any, slack: Any, sample: Any, keys: Any) -> Any:
    """Fill `keys` (n,) from the distances of some columns; return how far apart near-ties may be.

    The bits of the float d + s, less those of the smallest, are an integer that grows linearly in d up to a
    typical distance s and logarithmically beyond, so that neither one far point nor one at distance 0 takes
    the resolution from the others. It fills the bits above `shift`; the column minus `start` is below.
    Infinity comes last. `sample` is scratch.
    """
    low, high = np.inf, 0.0
    for i in range(start, stop):
        d = distances[i]
        low = min(low, d)
        if d < np.inf:
            high = max(high, d)
    step = max(1, (stop - start) // sample.shape[0])
    size = 0
    for i in range(start, stop, step):
        if size < sample.shape[0] and distances[i] < np.inf:
            d = distances[i]
            c = size - 1
            while c >= 0 and sample[c] > d:
                sample[c + 1] = sample[c]
                c -= 1
            sample[c + 1] = d
            size += 1
    typical = sample[size // 2] if size > 0 else 0.0
    if typical == 0.0:
        typical = high if high > 0.0 else 1.0
    ends = np.empty(2)
    ends[0], ends[1] = min(low, high) + typical, high + typical
    bits = ends.view(np.uint64)
    base = bits[0]
    spread = np.uint64(1)
    while (bits[1] - base) >> spread > np.uint64(0):
        spread += np.uint64(1)
    spread += np.uint64(1)  # keeps the largest finite distance below infinity
    room = np.uint64(64) - shift
    floats = keys.view(np.float64)
    last = (np.uint64(1) << room) - np.uint64(1)
    for i in range(start, stop):
        d = distances[i]
        floats[i - start] = d + typical
        whole = keys[i - start] - base
        if d == np.inf:
            whole = last
        elif spread > room:
            whole >>= spread - room
        else:
            whole <<= room - spread
        keys[i - start] = (whole << shift) | np.uint64(i - start)
    if slack[0] == 0.0 and slack[1] == 0.0:
        return np.uint64(0)
    # Floats around d + s are at least 2^-53 (d + s) apart; two more for rounding the sums.
    steps = (slack[0] / typical + slack[1]) * 2.0**53 + 2.0
    return np.uint64(min(steps * 2.0 ** (float(room) - float(spread)) + 1.0, float(last >> np.uint64(1))))


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
    distances: Any,
    start: Any,
    stop: Any,
    shift: Any,
    digit: Any,
    sort: Any,
    slack: Any,
    keys: Any,
    near: Any,
    done: Any,
) -> None:
    """Fill and (if `sort`) sort the keys of each row; `done` says which rows are sorted."""
    buffer = np.empty(keys.shape[1], dtype=np.uint64)
    counts = np.empty((2, 1 << digit), dtype=np.int64)
    sample = np.empty(31)
    for j in range(distances.shape[0]):
        near[j] = fill_keys(distances[j], start, stop, shift, slack[j], sample, keys[j])
        done[j] = sort and sort_keys(keys[j], digit, buffer, counts)


@njit(cache=True, nogil=True, error_model="numpy")
def run_end(keys: Any, shift: Any, near: Any, a: Any, stop: Any) -> Any:
    """Return the end of the run of near-ties that starts at position `a` of sorted keys."""
    b = a + 1
    while b < stop and (keys[b] >> shift) - (keys[b - 1] >> shift) <= near:
        b += 1
    return b


@njit(cache=True, nogil=True, error_model="numpy")
def settle_near_ties(
    keys: Any,
    shift: Any,
    near: Any,
    start: Any,
    stop: Any,
    distances: Any,
    rows: Any,
    points: Any,
    query: Any,
    metric: Any,
    order: Any,
    flags: Any,
) -> None:
    """Evaluate directly the distances that are in a run of near-ties, in the order of the columns.

    That order reads `points` from front to back; the order of the runs would jump about in memory.
    """
    found = False
    a: Any = np.int64(0)
    while a < stop:
        b = run_end(keys, shift, near, a, stop)
        if b > a + 1:
            if not found:
                flags[:] = False
                found = True
            for i in range(a, b):
                flags[order[i] - start] = True
        a = b
    if found:
        for i in range(keys.shape[0]):
            if flags[i]:
                distances[start + i] = direct_distance(points, rows[start + i], query, metric)


@njit(cache=True, nogil=True, error_model="numpy")
def unpack_order(
    keys: Any,
    shift: Any,
    near: Any,
    start: Any,
    stop: Any,
    distances: Any,
    rows: Any,
    points: Any,
    query: Any,
    metric: Any,
    order: Any,
    value: Any,
    flags: Any,
) -> None:
    """Turn sorted keys into the exact order of columns, ``order[:stop]``.

    Parameters
    ----------
    keys : (n,) uint64
    shift, near
        Bits of a key that hold the column; how far apart the integers above them may be for near-ties.
    start : int
        Column that position 0 of the keys stands for.
    stop : int
        How many of the nearest to order.
    distances : (width,) float64
        One row of the distance block; near-ties are replaced by direct distances.
    rows : (width,) int64
        Row of `points` behind each column.
    points, query : (n, d), (d,) float64
        For direct evaluation; unused where `metric` is GIVEN.
    order : (n,) int64, written
    value, flags : (n,) float64 and bool, scratch
    """
    mask = (np.uint64(1) << shift) - np.uint64(1)
    for i in range(stop):
        order[i] = start + np.int64(keys[i] & mask)
    if metric != GIVEN:
        settle_near_ties(
            keys,
            shift,
            near,
            start,
            stop,
            distances,
            rows,
            points,
            query,
            metric,
            order,
            flags[: keys.shape[0]],
        )
    a: Any = np.int64(0)
    while a < stop:
        b = run_end(keys, shift, near, a, stop)
        if b > a + 1:
            in_order = True
            for c in range(a, b):
                value[c] = distances[order[c]]
                if c > a:
                    tie = value[c] == value[c - 1] and order[c] > order[c - 1]
                    in_order = in_order and (value[c] > value[c - 1] or tie)
            if not in_order:
                sort_pairs(value, order, a, b)
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
    slack : (m, 2) float64
        As in `unpack_order`, for each row.
    near_distance, near_index : (m, k) float64 and int64, updated, sorted near to far
    count : (m,) int64, updated
        How many entries each list holds.
    """
    for j in range(distances.shape[0]):
        held = count[j]
        for p in range(distances.shape[1]):
            if held == k:
                radius = near_distance[j, k - 1]
                if distances[j, p] > radius + slack[j, 0] + slack[j, 1] * radius:
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
