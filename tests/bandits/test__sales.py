"""Samples of censored demand: selection without sorting, and histograms that stand for stored blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.bandits import PricingInventoryEnv, _sales
from mlpapers.bandits._sales import SalesRecord, censored, lower_sum, partial_mean, upper_quantile

NUMBERS = st.lists(st.floats(-5, 5), min_size=1, max_size=40)


@given(NUMBERS, st.floats(0.001, 1.0))
def test_partial_means_and_quantiles_are_those_of_the_sorted_sample(sample, t):
    v = np.sort(sample)
    m = v.size
    whole = min(int(t * m), m)
    expected = (v[:whole].sum() + (0.0 if whole == m else (t * m - whole) * v[whole])) / m
    assert partial_mean(np.array(sample), t) == pytest.approx(expected, abs=1e-12)
    q = upper_quantile(np.array(sample), t)
    assert np.mean(v <= q) >= t - 1e-12
    assert np.mean(v < q) < t


@given(NUMBERS, st.integers(0, 50))
def test_lower_sums_are_exact_with_ties_and_tiny_differences(sample, rank):
    for scale in (1.0, 1e-320):
        v = np.round(np.array(sample), 1) * scale
        total, following = lower_sum(v, rank)
        ordered = np.sort(v)
        assert total == pytest.approx(ordered[:rank].sum(), abs=1e-12)
        assert following == ordered[min(rank, v.size - 1)]


@given(NUMBERS, st.floats(-1, 5), st.integers(0, 99))
def test_only_periods_with_enough_on_hand_tell_of_a_cap(sales, cap, seed):
    sales = np.array(sales)
    levels = sales + np.random.default_rng(seed).uniform(0, 2, sales.size).round(1)
    kept, full = censored(sales, levels, cap)
    assert np.array_equal(kept, np.minimum(sales[levels >= cap], cap))
    assert full == np.count_nonzero(kept == cap)


def fill(record, epochs, rng):
    """Play epochs (target, n) of uniform demand on [0, 10] and return all sales and levels."""
    seen = []
    for target, n in epochs:
        demand = rng.uniform(0.0, 10.0, n)
        done = 0
        for sales, levels in record.fill(target, n):
            now = demand[done : done + sales.size]
            levels[:] = target
            sales[:] = np.minimum(now, target)
            done += sales.size
            seen.append((sales.copy(), levels.copy()))
        assert done == n
    return tuple(map(np.concatenate, zip(*seen)))


@pytest.fixture
def small_store(monkeypatch):
    monkeypatch.setattr(_sales, "STORED", 3000)
    monkeypatch.setattr(_sales, "CHUNK", 700)


@pytest.mark.usefixtures("small_store")
@pytest.mark.parametrize("last", [8.5, 7.0])
def test_histograms_say_what_the_stored_block_would(last):
    epochs = [(9.0, 1000), (8.0, 1500), (8.5, 4000), (last, 9000)]
    record = SalesRecord(sum(n for _, n in epochs), 10.0)
    sales, levels = fill(record, epochs, np.random.default_rng(0))
    assert record.n == sales.size
    assert record.sold == pytest.approx(sales.sum(), rel=1e-12)
    assert record.stocked == pytest.approx(levels.sum(), rel=1e-12)
    width = 10.0 / 2**16
    for sample in (record.sample(7.0), record.sample(8.0), record.typical()):
        stored = np.minimum(sales[levels >= sample.cap], sample.cap)
        assert sample.size == stored.size
        # The bin with the cap in it may hold values of longer levels above the cap.
        in_a_bin = 1.0 / stored.size + 3 * width / 10.0
        assert sample.full == pytest.approx(np.mean(stored == sample.cap), abs=5 * in_a_bin)
        for t in (0.001, 0.3, 0.66, 0.8, 1.0):
            # Wrong by no more than one bin's width times its share, twice.
            assert sample.partial_mean(t) == pytest.approx(
                partial_mean(stored, t), abs=2 * width * 5 * in_a_bin
            )
            assert (
                upper_quantile(stored, t)
                <= sample.quantile(t) + 1e-12
                <= upper_quantile(stored, t) + 2 * width
            )
    assert np.mean(levels >= record.typical().cap) >= 0.5


@pytest.mark.usefixtures("small_store")
def test_negative_sales_stay_in_the_sums():
    record = SalesRecord(10_000, 10.0)
    sold = 0.0
    for sales, levels in record.fill(5.0, 10_000):
        sales[:], levels[:] = -1.0, 5.0
        sold += sales.sum()
    sample = record.sample(5.0)
    assert sample.partial_mean(0.5) == pytest.approx(-0.5)
    assert record.sold == sold == -10_000


def test_long_queries_answer_the_same_with_and_without_storing(monkeypatch):
    answers = []
    for stored in (2**22, 2**12):
        monkeypatch.setattr(_sales, "STORED", stored)
        env = PricingInventoryEnv().reset(400_000, 5)
        first = env.compare([0.6], [0.4], 200_000).diff
        answers.append((first, env.compare([0.1], [0.7], 100_000).diff, env.play([0.5], 100_000)))
        assert env.t_ == 400_000
    # The targets differ by a bin at most, and the answers by no more than that.
    np.testing.assert_allclose(answers[0], answers[1], atol=2e-3)
