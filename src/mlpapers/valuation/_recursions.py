r"""Compiled recursions over one group of a nearest-neighbour game, from the farthest member inwards.

Letters. V: the group, N members, of which the `length` nearest are sorted, near to far, l = 0, 1, ...; U: the
members of all earlier groups, of which the nearest min(u, K) are known. ``h[l]``: score (or target) of V
member l; ``beta[l]``: how many U members are nearer; ``prefix[b]``: sum of the scores of the b nearest U
members. K_l = max(K - beta_l, 0). When ``length < N``, every member beyond `length` has K_l = 0 and value 0,
except where `cut` says that the list was cut short: then the last member's value is taken to be 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def _head(prefix: Any, b: Any) -> Any:
    """Sum of the scores of the b nearest U members."""
    return prefix[min(b, prefix.shape[0] - 1)]


@njit(cache=True, nogil=True, error_model="numpy")
def farthest_refined(
    h: Any, size: Any, prefix: Any, n_earlier: Any, k: Any, room: Any, empty_value: Any
) -> Any:
    """Value of the farthest of all N members where the sum of scores is divided by min(K, |S|).

    `room` is K_l of that member. The mean over k = 0..N-1 of its expected marginal on U and k others of V.
    """
    last = h[size - 1]
    others = 0.0
    for i in range(size - 1):
        others += h[i]
    if size > 1:
        others /= size - 1
    total = 0.0
    for members in range(min(size, k)):
        held = n_earlier + members
        if held + 1 <= k:
            head = _head(prefix, n_earlier) + members * others
            total += (head + last) / (held + 1.0) - (head / held if held > 0 else empty_value)
        elif members <= room - 1:
            total += (last - (_head(prefix, k - members) - _head(prefix, k - members - 1))) / k
    return total / size


@njit(cache=True, nogil=True, error_model="numpy")
def classify(
    h: Any, beta: Any, length: Any, size: Any, prefix: Any, n_earlier: Any, cut: Any, rule: Any, phi: Any
) -> None:
    """Fill ``phi[:length]`` for v(S) = sum of the min(K, |S|) nearest scores over K or min(K, |S|)."""
    k = rule.k
    alone = n_earlier == 0
    drift = 0.0
    if rule.refined:
        for members in range(min(k - n_earlier, size - 1)):
            drift += 1.0 / (n_earlier + members + 1) - 1.0 / k
        if size > 1:
            drift /= size - 1
    last = length - 1
    room = k if alone else max(k - beta[last], 0)
    value = 0.0
    if cut:
        pass
    elif length == size:
        if rule.refined:
            value = farthest_refined(h, size, prefix, n_earlier, k, room, rule.empty_value)
        else:
            b = min(room - 1, size - 1)
            if b >= 0:
                value = ((b + 1) * h[last] - (_head(prefix, k) - _head(prefix, k - b - 1))) / (
                    k * float(size)
                )
    else:
        b = min(room - 1, last)
        if b >= 0:
            value = ((b + 1) * h[last] - (_head(prefix, k) - _head(prefix, k - b - 1))) / (k * (last + 1.0))
    phi[last] = value
    if alone:
        for i in range(last - 1, -1, -1):
            value += (h[i] - h[i + 1]) * (1.0 / max(i + 1, k) + drift)
            phi[i] = value
        return
    for i in range(last - 1, -1, -1):
        a = room
        room = max(k - beta[i], 0)
        b = min(room - 1, i)
        step = min(a, i + 1) * (h[i] - h[i + 1])
        if b >= a:
            step += (b - a + 1) * h[i] - (_head(prefix, k - a) - _head(prefix, k - b - 1))
        value += step / (k * (i + 1.0)) + drift * (h[i] - h[i + 1])
        phi[i] = value


@njit(cache=True, nogil=True, error_model="numpy")
def regress(
    y: Any, beta: Any, length: Any, size: Any, prefix: Any, gamma: Any, target: Any, k: Any, phi: Any
) -> None:
    r"""Fill ``phi[:length]`` for :math:`v(S) = -(\frac1K \sum_{nearest} y - t)^2`.

    ``gamma[b - 1]`` is the number of V members nearer than U member b. ``q`` of the docstring of the module's
    formulas counts how many V members still fit among the K nearest.
    """
    known = prefix.shape[0] - 1
    # suffix_u[b] = sum over b' >= b of u_b' max(min(K - b', gamma_b' - 1), 0) / (gamma_b' - 1), b = 1..known
    suffix_u = np.zeros(known + 2)
    for b in range(known, 0, -1):
        nearer = gamma[b - 1]
        term = 0.0
        if nearer >= 2:
            fits = max(min(k - b, nearer - 1), 0)
            term = (prefix[b] - prefix[b - 1]) * fits / (nearer - 1)
        suffix_u[b] = suffix_u[b + 1] + term
    before = 0.0  # sum of y[0..l-1], kept while l falls
    for i in range(length - 1):
        before += y[i]
    last = length - 1
    value = 0.0
    room = max(k - beta[last], 0)
    if length == size:
        mean = before / last if last > 0 else 0.0
        total = 0.0
        for m in range(min(room - 1, size - 1) + 1):
            e = k - m
            u_e = prefix[e] - prefix[e - 1] if e <= known else 0.0
            rest = _head(prefix, e - 1) + m * mean
            total += (y[last] - u_e) * (y[last] + u_e + 2.0 * rest - 2.0 * k * target)
        value = -total / size
    else:
        mean = before / last if last > 0 else 0.0
        value = _swaps(y[last], mean, prefix, known, np.int64(0), min(room - 1, last), target, k) / (
            last + 1.0
        )
    phi[last] = value / (k * float(k))
    suffix_v = 0.0  # W(l + 2), the part of V members farther than l + 1
    for i in range(last - 1, -1, -1):
        next_room = room
        next_beta = beta[i + 1]
        room = max(k - beta[i], 0)
        before -= y[i]
        mean = before / i if i > 0 else 0.0
        j = i + 2
        if j < length:
            q = min(k - 2 - beta[j], j - 2)
            if q >= 0:
                suffix_v += y[j] * (q + 1.0) * (q + 2.0) / (2.0 * j * (j - 1.0))
        fits = min(next_room, i + 1)
        if fits > 0:
            p = fits / (i + 1.0)
            expected = p * prefix[next_beta] + mean * fits * (fits - 1.0) / (2.0 * (i + 1.0))
            expected += suffix_v + suffix_u[next_beta + 1]
            value -= (y[i] - y[i + 1]) * ((y[i] + y[i + 1] - 2.0 * k * target) * p + 2.0 * expected)
        value += _swaps(y[i], mean, prefix, known, next_room, min(room - 1, i), target, k) / (i + 1.0)
        phi[i] = value / (k * float(k))


@njit(cache=True, nogil=True, error_model="numpy")
def _swaps(y_own: Any, mean: Any, prefix: Any, known: Any, first: Any, last: Any, target: Any, k: Any) -> Any:
    """Sum over m = first..last of the loss that a V member saves by displacing U member K - m, times K^2."""
    total = 0.0
    for m in range(first, last + 1):
        e = k - m
        u_e = prefix[e] - prefix[e - 1] if e <= known else 0.0
        rest = _head(prefix, e - 1) + m * mean
        total -= (y_own - u_e) * (y_own + u_e + 2.0 * rest - 2.0 * k * target)
    return total
