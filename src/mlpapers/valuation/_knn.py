"""Compiled walk over the groups of a nearest-neighbour game: who is near, what each member is worth.

The state of a game after a group is the list of the K nearest members seen so far; the next group needs no
more. Arguments that belong together travel in named tuples, which the compiler takes apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlpapers.core._knn import GIVEN, direct_distance, sort_pairs, unpack_order
from mlpapers.valuation._recursions import classify, regress

# What a score is: agreement of labels, a column of class probabilities, a target of a regression.
LABELS, PROBABILITIES, TARGETS = 0, 1, 2


class Space(NamedTuple):
    """Where the members are: n columns, for m validation points.

    Parameters
    ----------
    rows : (n,) int64
        Row of `points` behind each column.
    first : int
        Added to a row to make the member's index, for points that arrive in batches.
    points, queries : (n, d) and (m, d) float64
    metric : int
        How to evaluate a distance directly, see `mlpapers.core._knn`.
    slack : (m, 2) float64
        ``slack[j, 0] + slack[j, 1] * d`` bounds twice the rounding error of a given distance d.
    """

    rows: NDArray[np.int64]
    first: int
    points: NDArray[np.float64]
    queries: NDArray[np.float64]
    metric: int
    slack: NDArray[np.float64]


class Groups(NamedTuple):
    """In which order the members come.

    Parameters
    ----------
    bounds : (T + 1,) int64
        First column of each group.
    keys : (m * width,) uint64
        Sorted keys of the first groups: one (m, n_t) array after the other.
    shifts, near : (n_sorted,) and (n_sorted, m) uint64
        See `mlpapers.core._knn.unpack_order`, for each group with keys.
    n_nearest : int
        How many members of the first group are ranked; the rest get 0.
    excluded : (m,) int64
        Column of the member that is left out of a game, -1 for none; its distance is infinite.
    """

    bounds: NDArray[np.int64]
    keys: NDArray[np.uint64]
    shifts: NDArray[np.uint64]
    near: NDArray[np.uint64]
    n_nearest: int
    excluded: NDArray[np.int64]


class Labels(NamedTuple):
    """What the scores of the members are: `codes` (n,) or `table` (C, n), for codes or targets (m,)."""

    kind: int
    codes: NDArray[np.int32]
    table: NDArray[np.float64]
    code_val: NDArray[np.int64]
    target_val: NDArray[np.float64]


class Rule(NamedTuple):
    """K, whether the denominator is min(K, |S|), v(empty), and whether ties go to the later group."""

    k: int
    refined: bool
    empty_value: float
    later_first: bool


class Nearest(NamedTuple):
    """The nearest members so far, near to far: (m, width) arrays and how many entries (m,) are filled."""

    distance: NDArray[np.float64]
    member: NDArray[np.int64]
    score: NDArray[np.float64]
    filled: NDArray[np.int64]


class _Members(NamedTuple):
    """Scratch for the sorted members of one group, (longest group,) each."""

    order: NDArray[np.int64]
    value: NDArray[np.float64]
    flags: NDArray[np.bool_]
    h: NDArray[np.float64]
    beta: NDArray[np.int64]
    phi: NDArray[np.float64]


@njit(cache=True, nogil=True, error_model="numpy")
def value_rows(
    distances: Any, space: Any, groups: Any, labels: Any, rule: Any, seen: Any, nearest: Any, out: Any
) -> None:
    """Add the values of all groups of each game (one a row) to `out`, and update its nearest members.

    Parameters
    ----------
    distances : (m, n) float64
        Columns ordered by group.
    space, groups, labels, rule
        The game.
    seen : int
        Members of earlier batches.
    nearest : Nearest, updated
    out : (m, n) or (1, n) float64, updated
        One row for each game, or one for all.
    """
    longest = 0
    for t in range(groups.bounds.shape[0] - 1):
        longest = max(longest, groups.bounds[t + 1] - groups.bounds[t])
    width = nearest.distance.shape[1]
    members = _Members(
        np.empty(longest, dtype=np.int64),
        np.empty(longest),
        np.empty(longest, dtype=np.bool_),
        np.empty(longest),
        np.empty(longest, dtype=np.int64),
        np.empty(longest),
    )
    gamma = np.empty(width, dtype=np.int64)
    prefix = np.empty(width + 1)
    prefix[0] = 0.0
    merged = (np.empty(width), np.empty(width, dtype=np.int64), np.empty(width))
    for j in range(distances.shape[0]):
        earlier = seen
        target = j if out.shape[0] > 1 else 0
        for t in range(groups.bounds.shape[0] - 1):
            size = groups.bounds[t + 1] - groups.bounds[t]
            if groups.bounds[t] <= groups.excluded[j] < groups.bounds[t + 1]:
                size -= 1
            held = nearest.filled[j]
            length = _sort_members(distances[j], j, t, size, space, groups, nearest, members)
            _gather(
                labels.kind, labels.codes, labels.table, labels.code_val[j], members.order, length, members.h
            )
            if held > 0 or labels.kind == TARGETS:
                _interleave(distances[j], j, length, space, rule.later_first, nearest, members, gamma)
            if t >= groups.shifts.shape[0]:
                # A member that ties with the K-th nearest of the earlier ones may still lose to it.
                while length > 0 and members.beta[length - 1] >= rule.k:
                    length -= 1
            if length > 0:
                for b in range(held):
                    prefix[b + 1] = prefix[b] + nearest.score[j, b]
                known = prefix[: held + 1]
                if labels.kind == TARGETS:
                    regress(
                        members.h,
                        members.beta,
                        length,
                        size,
                        known,
                        gamma,
                        labels.target_val[j],
                        rule.k,
                        members.phi,
                    )
                else:
                    cut = t == 0 and length < size and groups.shifts.shape[0] > 0
                    classify(members.h, members.beta, length, size, known, earlier, cut, rule, members.phi)
                _scatter(members.order, members.phi, length, out[target])
                _merge(distances[j], j, length, space, nearest, members, merged)
            earlier += size


@njit(cache=True, nogil=True, error_model="numpy")
def arrival_values(
    distances: Any, space: Any, labels: Any, rule: Any, seen: Any, nearest: Any, out: Any
) -> None:
    """Add to `out` (n,) what each column would be worth as the only member of the next group of each game."""
    full = seen >= rule.k
    kind, codes, table = labels.kind, labels.codes, labels.table
    for j in range(distances.shape[0]):
        code = labels.code_val[j]
        held = nearest.filled[j]
        total = 0.0
        for b in range(held):
            total += nearest.score[j, b]
        radius = nearest.distance[j, held - 1] if full else np.inf
        limit = radius + _margin(space, j, radius)
        for p in range(distances.shape[1]):
            dropped = 0.0
            if full:
                if distances[j, p] > limit:
                    continue
                d = _exact_distance(distances[j], j, p, space)
                if d > radius or (d == radius and not rule.later_first):
                    continue
                dropped = nearest.score[j, held - 1]
            own = _score(kind, codes, table, code, p)
            after = total - dropped + own
            if labels.kind == TARGETS:
                before = total / rule.k - labels.target_val[j]
                out[p] += before * before - (after / rule.k - labels.target_val[j]) ** 2
            elif rule.refined and not full:
                out[p] += after / (seen + 1.0) - (total / seen if seen > 0 else rule.empty_value)
            else:
                out[p] += (own - dropped) / rule.k


@njit(cache=True, nogil=True, error_model="numpy")
def _score(kind: Any, codes: Any, table: Any, code: Any, p: Any) -> Any:
    if kind == LABELS:
        return 1.0 if codes[p] == code else 0.0
    if kind == PROBABILITIES:
        return table[code, p] if code >= 0 else 0.0
    return table[0, p]


# Loops over all members take plain arrays: an array taken out of a tuple costs a reference count each time.
@njit(cache=True, nogil=True, error_model="numpy")
def _gather(kind: Any, codes: Any, table: Any, code: Any, order: Any, length: Any, h: Any) -> None:
    for i in range(length):
        h[i] = _score(kind, codes, table, code, order[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _scatter(order: Any, phi: Any, length: Any, out: Any) -> None:
    for i in range(length):
        out[order[i]] += phi[i]


@njit(cache=True, nogil=True, error_model="numpy")
def _margin(space: Any, j: Any, distance: Any) -> Any:
    return space.slack[j, 0] + space.slack[j, 1] * distance


@njit(cache=True, nogil=True, error_model="numpy")
def _exact_distance(distances: Any, j: Any, p: Any, space: Any) -> Any:
    if space.metric == GIVEN:
        return distances[p]
    return direct_distance(space.points, space.rows[p], space.queries[j], space.metric)


@njit(cache=True, nogil=True, error_model="numpy")
def _sort_members(
    distances: Any, j: Any, t: Any, size: Any, space: Any, groups: Any, nearest: Any, members: Any
) -> Any:
    """Sort the members of group `t` that can be worth anything, near to far; return how many there are."""
    start, stop = groups.bounds[t], groups.bounds[t + 1]
    if size == 0:
        return 0
    if t < groups.shifts.shape[0]:
        length = min(size, groups.n_nearest) if t == 0 else size
        a = groups.excluded.shape[0] * start + j * (stop - start)
        unpack_order(
            groups.keys[a : a + stop - start],
            groups.shifts[t],
            groups.near[t, j],
            start,
            length,
            distances,
            space.rows,
            space.points,
            space.queries[j],
            space.metric,
            members.order,
            members.value,
            members.flags,
        )
        return length
    radius = nearest.distance[j, nearest.filled[j] - 1]
    limit = radius + _margin(space, j, radius)
    order, value = members.order, members.value
    kept = np.int64(0)
    for p in range(start, stop):
        if distances[p] <= limit:
            d = _exact_distance(distances, j, p, space)
            if d <= radius:
                order[kept] = p
                value[kept] = d
                kept += 1
    sort_pairs(value, order, np.int64(0), kept)
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def _interleave(
    distances: Any,
    j: Any,
    length: Any,
    space: Any,
    later_first: Any,
    nearest: Any,
    members: Any,
    gamma: Any,
) -> None:
    """Count for each member the nearer earlier ones (`beta`), and for each earlier one the nearer members."""
    held = nearest.filled[j]
    order, beta = members.order, members.beta
    b = 0
    for i in range(length):
        if b < held:
            p = order[i]
            d = distances[p]
            exact = space.metric == GIVEN
            while b < held:
                other = nearest.distance[j, b]
                if not exact and abs(other - d) <= _margin(space, j, other):
                    d = _exact_distance(distances, j, p, space)
                    exact = True
                wins_tie = not later_first and nearest.member[j, b] < space.first + space.rows[p]
                if not (other < d or (other == d and wins_tie)):
                    break
                gamma[b] = i
                b += 1
        beta[i] = b
    for rest in range(b, held):
        gamma[rest] = length


@njit(cache=True, nogil=True, error_model="numpy")
def _merge(distances: Any, j: Any, length: Any, space: Any, nearest: Any, members: Any, merged: Any) -> None:
    """Merge the sorted members into the list of the nearest."""
    held = nearest.filled[j]
    total = min(nearest.distance.shape[1], held + length)
    i = 0
    b = 0
    for out in range(total):
        if i < length and (b >= held or members.beta[i] <= b):
            p = members.order[i]
            merged[0][out] = _exact_distance(distances, j, p, space)
            merged[1][out] = space.first + space.rows[p]
            merged[2][out] = members.h[i]
            i += 1
        else:
            merged[0][out] = nearest.distance[j, b]
            merged[1][out] = nearest.member[j, b]
            merged[2][out] = nearest.score[j, b]
            b += 1
    for out in range(total):
        nearest.distance[j, out] = merged[0][out]
        nearest.member[j, out] = merged[1][out]
        nearest.score[j, out] = merged[2][out]
    nearest.filled[j] = total
