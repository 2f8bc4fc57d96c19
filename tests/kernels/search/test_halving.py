"""Successive halving on clocks that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.search.halving import ROUNDS, successive_halving


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30, unique=True))
def test_a_true_clock_finds_the_fastest(clock):
    runs_made = []

    def measure(number, who, runs):
        runs_made.append(len(who) * runs)
        return [[clock[i]] * runs for i in who]

    outcome = successive_halving(len(clock), measure)
    assert outcome.order[0] == int(np.argmin(clock))
    assert [clock[i] for i in outcome.order] == sorted(clock[i] for i in outcome.order)
    n = len(clock)
    assert sum(runs_made) <= 3 * n + 9 * max(3, -(-n // 3)) + 31 * 3


def test_rounds():
    seen = []
    successive_halving(
        16, lambda number, who, runs: seen.append((number, len(who), runs)) or [[i + 1.0] * runs for i in who]
    )
    assert seen == [(0, 16, 3), (1, 6, 9), (2, 3, 31)]
    assert [runs for runs, _ in ROUNDS] == [3, 9, 31]


def test_the_incumbent_stays():
    outcome = successive_halving(20, lambda _, who, runs: [[30.0 - i] * runs for i in who], keep=(0,))
    assert outcome.order[0] == 19
    assert outcome.order[-1] == 0
    assert len(outcome.times[0]) == len(outcome.times[19]) == 31


def test_what_does_not_run_is_out():
    def measure(_, who, runs):
        return [None if i in (0, 2) else [float(i)] * runs for i in who]

    assert successive_halving(4, measure).order == (1, 3)
    assert successive_halving(1, measure).order == ()


def test_time_that_is_up_ends_the_race():
    outcome = successive_halving(9, lambda _, who, runs: [[9.0 - i] * runs for i in who], go_on=lambda: False)
    assert outcome.rounds == 1
    assert outcome.order[0] == 8
    with pytest.raises(ValueError, match="n_candidates"):
        successive_halving(0, lambda *_: [])
