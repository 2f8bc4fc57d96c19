"""Calibration from records: the noise's closed forms, and a market that is found again."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.bandits import InexactProximalGradient, PricingInventoryEnv
from mlpapers.bandits._residuals import ResidualNoise


@given(st.lists(st.floats(-3, 3).map(lambda value: round(value, 2)), min_size=2, max_size=12, unique=True))
def test_closed_forms_of_the_noise(residuals):
    noise = ResidualNoise(np.array(residuals))
    low, high = noise.support()
    u = (np.arange(20_000) + 0.5) / 20_000
    draws = noise.ppf(u)
    assert noise.mean() == pytest.approx(0.0, abs=1e-12)
    assert draws.mean() == pytest.approx(0.0, abs=1e-6 * (high - low))
    assert noise.var() == pytest.approx(draws.var(), rel=1e-4)
    np.testing.assert_allclose(noise.sf(draws), 1.0 - u, atol=1e-9)
    for z in np.linspace(low - 1.0, high + 1.0, 7):
        # The midpoint rule is exact but for the piece with the kink.
        expected = np.maximum(draws - z, 0.0).mean()
        assert float(noise.excess(np.array(z))) == pytest.approx(expected, abs=(high - low) / 20_000)


def records(n=6000, stock=12.0, seed=0):
    rng = np.random.default_rng(seed)
    price = rng.choice([1.0, 1.4, 1.8, 2.2, 2.6], n)
    demand = 10.0 - 2.5 * price + rng.uniform(-2, 2, n)
    return pd.DataFrame({"p": price, "sold": np.minimum(demand, stock), "had": stock})


def test_a_market_is_found_again():
    env = PricingInventoryEnv.from_frame(records(), "p", "sold", "had", lost_sales_cost=1.0)
    truth = PricingInventoryEnv(price_range=(1.0, 2.6), demand="linear", noise_scale=2.0)
    prices = np.linspace(1.0, 2.6, 9)
    # Six standard errors of a mean of 1200 demands, 2/sqrt(3)/sqrt(1200).
    np.testing.assert_allclose(env.model.demand(prices), truth.model.demand(prices), atol=0.2)
    np.testing.assert_allclose(env.G(prices), truth.G(prices), atol=0.6)
    assert env.model.noise.variance == pytest.approx(4.0 / 3.0, rel=0.1)
    assert env.price_range == (1.0, 2.6)
    assert env.optimal_price == pytest.approx(truth.optimal_price, abs=0.2)


def test_a_policy_runs_on_it_and_regret_never_falls():
    env = PricingInventoryEnv.from_frame(records(), "p", "sold", "had")
    result = InexactProximalGradient("auto").run(env, 20_000, n_replications=2, random_state=0)
    assert (np.diff(result.regret, axis=1) >= -1e-9).all()


def test_sold_out_rows_are_left_out():
    frame = records(stock=8.0)
    seen = frame[frame["sold"] < frame["had"]]
    assert len(seen) < len(frame)
    whole, part = (PricingInventoryEnv.from_frame(rows, "p", "sold", "had") for rows in (frame, seen))
    prices = np.linspace(1.0, 2.6, 9)
    assert np.array_equal(whole.model.demand(prices), part.model.demand(prices))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda df: df.drop(columns="sold"), ValueError, "sales must be a column of df; got 'sold'"),
        (lambda df: df.assign(sold="many"), ValueError, "column 'sold' of df must hold numbers"),
        (lambda df: df.assign(p=np.nan), ValueError, "finite numbers"),
        (lambda df: df.iloc[:0], ValueError, "at least one"),
        (lambda df: df.assign(p=-1.0), ValueError, "non-negative"),
        (lambda df: df.assign(had=0.0), ValueError, "must not have more 'sold' than 'had'; row 0"),
        (lambda df: df.assign(p=1.0), ValueError, "two different ones"),
        (lambda df: df.assign(sold=df["had"]), ValueError, "always sold out"),
        (lambda df: df.assign(sold=5.0), ValueError, "demand that varies"),
        (lambda df: df["p"].tolist(), TypeError, "df must be a DataFrame"),
    ],
)
def test_impossible_records_are_refused(change, error, match):
    with pytest.raises(error, match=match):
        PricingInventoryEnv.from_frame(change(records(50)), "p", "sold", "had")
