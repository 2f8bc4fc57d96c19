"""Games by their definition: every order, its probability, and the marginal contributions along it."""

from itertools import permutations

import numpy as np


class TableGame:
    """The game whose utility of S is ``table[sum(2**i for i in S)]``; counts its calls."""

    def __init__(self, table):
        self.table = np.asarray(table, dtype=float)
        self.n_calls = 0

    def __call__(self, players):
        assert np.array_equal(players, np.sort(players))
        self.n_calls += 1
        return float(self.table[int((1 << np.asarray(players, dtype=np.int64)).sum())])


def random_game(n, seed):
    return TableGame(np.random.default_rng(seed).normal(size=1 << n))


def consistent_orders(n, groups=None, weights=None, precedence=()):
    """Return all orders that respect groups and precedence, and their probabilities.

    With weights, P(order) = prod_j w[o_j] / (weight of the members of {o_1..o_j} that are in its last group).
    """
    codes = np.zeros(n, dtype=int) if groups is None else np.asarray(groups)
    orders, probabilities = [], []
    for order in permutations(range(n)):
        place = {player: k for k, player in enumerate(order)}
        if any(np.diff(codes[list(order)]) < 0) or any(place[a] > place[b] for a, b in precedence):
            continue
        probability = 1.0
        if weights is not None:
            for k, player in enumerate(order):
                last_group = [other for other in order[: k + 1] if codes[other] == codes[player]]
                probability *= weights[player] / sum(weights[other] for other in last_group)
        orders.append(order)
        probabilities.append(probability)
    probabilities = np.array(probabilities)
    return np.array(orders), probabilities / (1.0 if weights is not None else len(orders))


def brute_values(v, n, groups=None, weights=None, precedence=()):
    orders, probabilities = consistent_orders(n, groups, weights, precedence)
    values = np.zeros(n)
    for order, probability in zip(orders, probabilities):
        utilities = [v(np.sort(order[:k])) for k in range(n + 1)]
        values[order] += probability * np.diff(utilities)
    return values


def dividend_values(dividends, groups, weights):
    """Share each dividend of a coalition among the members of its last group, by weight."""
    n = len(groups)
    values = np.zeros(n)
    for mask in range(1, 1 << n):
        members = [i for i in range(n) if mask >> i & 1]
        latest = max(groups[i] for i in members)
        sharing = [i for i in members if groups[i] == latest]
        for i in sharing:
            values[i] += dividends[mask] * weights[i] / sum(weights[j] for j in sharing)
    return values
