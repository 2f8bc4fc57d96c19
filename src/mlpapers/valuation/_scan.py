"""Compiled pieces of incremental scans: what one more training point changes in a model."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def insert_neighbour(
    distances: Any, scores: Any, player: Any, held: Any, near_distance: Any, near_player: Any, near_score: Any
) -> None:
    """Enter a training point into the lists of nearest points, sorted by (distance, player).

    Parameters
    ----------
    distances, scores : (M,) float64
        Of the training point, for each validation point.
    player : int
    held : int
        Entries of each list before the insertion, <= K.
    near_distance, near_player, near_score : (M, K) float64, int64, float64, updated
    """
    n_val, k = near_distance.shape
    for j in range(n_val):
        d = distances[j]
        b = held
        if held == k:
            last = near_distance[j, k - 1]
            if d > last or (d == last and player > near_player[j, k - 1]):
                continue
            b = k - 1
        while b > 0 and (
            near_distance[j, b - 1] > d or (near_distance[j, b - 1] == d and near_player[j, b - 1] > player)
        ):
            near_distance[j, b] = near_distance[j, b - 1]
            near_player[j, b] = near_player[j, b - 1]
            near_score[j, b] = near_score[j, b - 1]
            b -= 1
        near_distance[j, b], near_player[j, b], near_score[j, b] = d, player, scores[j]


@njit(cache=True, nogil=True)
def sum_scores(near_score: Any, held: Any, sums: Any) -> None:
    """Write the sum of the scores of each list to `sums` (M,)."""
    for j in range(len(sums)):
        total = 0.0
        for b in range(held):
            total += near_score[j, b]
        sums[j] = total


@njit(cache=True, nogil=True)
def scan_neighbours(
    order: Any,
    distances: Any,
    scores: Any,
    targets: Any,
    near_distance: Any,
    near_player: Any,
    near_score: Any,
    values: Any,
) -> None:
    """Write the nearest-neighbour utilities of the first 1, 2, ..., n players of an order to `values` (n,).

    Parameters
    ----------
    order : (n,) int64
    distances, scores : (n, M) float64
    targets : (M,) float64
        What the mean score should be, utility -(mean - target)^2; of length 0 where the mean is the utility.
    near_distance, near_player, near_score : (M, K) float64, int64, float64, overwritten
    """
    n_val, k = near_distance.shape
    sums = np.zeros(n_val)
    for place in range(len(order)):
        player = order[place]
        held = min(place, k)
        now_held = min(place + 1, k)
        insert_neighbour(
            distances[player], scores[player], player, held, near_distance, near_player, near_score
        )
        sum_scores(near_score, now_held, sums)
        total = 0.0
        for j in range(n_val):
            if len(targets):
                gap = sums[j] / k - targets[j]
                total -= gap * gap
            else:
                total += sums[j] / k
        values[place] = total / n_val


@njit(cache=True, nogil=True)
def count_majority_hits(near_score: Any, held: Any, targets: Any, votes: Any) -> int:
    """Count the validation points whose code in `targets` (M,) is the majority code of their list.

    Of equally frequent codes the smallest wins. `votes` (C,) is scratch, zeros before and after.
    """
    hits = 0
    for j in range(len(targets)):
        best, winner = 0, 0
        for b in range(held):
            code = int(near_score[j, b])
            votes[code] += 1
            if votes[code] > best or (votes[code] == best and code < winner):
                best, winner = votes[code], code
        for b in range(held):
            votes[int(near_score[j, b])] = 0
        if winner == targets[j]:
            hits += 1
    return hits


@njit(cache=True, nogil=True)
def insert_row(triangle: Any, rotated: Any, row: Any, target: Any) -> None:
    """Add an equation ``row @ w = target`` to a least-squares problem in triangular form.

    Givens rotations keep ``triangle @ w = rotated`` the R of a QR factorisation of all rows so far.

    Parameters
    ----------
    triangle : (p, p) float64, upper triangular, updated
    rotated : (p,) float64, updated
    row : (p,) float64, destroyed
    target : float
    """
    p = len(rotated)
    for i in range(p):
        if row[i] == 0.0:
            continue
        length = math.hypot(triangle[i, i], row[i])
        c, s = triangle[i, i] / length, row[i] / length
        triangle[i, i] = length
        for k in range(i + 1, p):
            old = triangle[i, k]
            triangle[i, k] = c * old + s * row[k]
            row[k] = c * row[k] - s * old
        old = rotated[i]
        rotated[i] = c * old + s * target
        target = c * target - s * old


@njit(cache=True, nogil=True)
def predict_linear(triangle: Any, rotated: Any, rows: Any, weights: Any, predictions: Any) -> None:
    """Solve ``triangle @ weights = rotated`` and write ``rows @ weights`` to `predictions` (M,)."""
    p = len(rotated)
    for i in range(p - 1, -1, -1):
        total = rotated[i]
        for k in range(i + 1, p):
            total -= triangle[i, k] * weights[k]
        weights[i] = total / triangle[i, i]
    for j in range(len(predictions)):
        total = 0.0
        for k in range(p):
            total += rows[j, k] * weights[k]
        predictions[j] = total


@njit(cache=True, nogil=True)
def insert_moments(row: Any, count: Any, mean: Any, scatter: Any) -> None:
    """Update mean and sum of squared deviations (d,) of `count` rows, this one included (Welford)."""
    for k in range(len(row)):
        gap = row[k] - mean[k]
        mean[k] += gap / count
        scatter[k] += gap * (row[k] - mean[k])


@njit(cache=True, nogil=True)
def count_gaussian_hits(
    rows: Any, targets: Any, counts: Any, means: Any, scatters: Any, smoothing: Any
) -> int:
    """Count the validation points whose code is the most likely one under Gaussian naive Bayes.

    Parameters
    ----------
    rows : (M, d) float64
    targets : (M,) int64
    counts, means, scatters : (C,), (C, d), (C, d)
        Moments of the training points of each class; classes without points don't compete.
    smoothing : float
        Added to every variance, > 0.
    """
    n_classes, d = means.shape
    total = counts.sum()
    constant = np.zeros(n_classes)
    precision = np.zeros((n_classes, d))
    for c in range(n_classes):
        if counts[c] == 0:
            continue
        constant[c] = math.log(counts[c] / total)
        for k in range(d):
            variance = scatters[c, k] / counts[c] + smoothing
            constant[c] -= 0.5 * math.log(2.0 * math.pi * variance)
            precision[c, k] = 0.5 / variance
    hits = 0
    for j in range(len(targets)):
        best, winner = -math.inf, -1
        for c in range(n_classes):
            if counts[c] == 0:
                continue
            likelihood = constant[c]
            for k in range(d):
                gap = rows[j, k] - means[c, k]
                likelihood -= precision[c, k] * gap * gap
            if winner < 0 or likelihood > best:
                best, winner = likelihood, c
        if winner == targets[j]:
            hits += 1
    return hits


@njit(cache=True, nogil=True)
def count_centroid_hits(rows: Any, targets: Any, counts: Any, means: Any) -> int:
    """Count the validation points whose code is that of the nearest class mean; ties to the smaller code."""
    n_classes, d = means.shape
    hits = 0
    for j in range(len(targets)):
        best, winner = math.inf, -1
        for c in range(n_classes):
            if counts[c] == 0:
                continue
            distance = 0.0
            for k in range(d):
                gap = rows[j, k] - means[c, k]
                distance += gap * gap
            if distance < best:
                best, winner = distance, c
        if winner == targets[j]:
            hits += 1
    return hits
