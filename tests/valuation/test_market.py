"""The data market: prices, what is paid when, and identities of the pay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from mlpapers.valuation.knn import KNNShapley
from mlpapers.valuation.market import DataMarket, Offer, posted_price

# Differences of means of at most a few hundred scores.
EXACT = 1e-12


def batches(seed, sizes=(12, 9, 15), m=20, classes=2):
    rng = np.random.default_rng(seed)
    X_val, y_val = rng.normal(size=(m, 2)), rng.integers(0, classes, m)
    return X_val, y_val, [(rng.normal(size=(n, 2)), rng.integers(0, classes, n)) for n in sizes]


@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
@settings(max_examples=20)
def test_asymmetric_pay_is_never_taken_back_and_adds_up_to_the_utility(seed, k):
    X_val, y_val, data = batches(seed)
    # A seller of harmful data asks nothing here: a reserve of 0 would turn a negative price down.
    market = DataMarket(X_val, y_val, n_neighbors=k, pricing="point", price_per_utility=3.0, random_state=0)
    bought, before = [], {}
    for seller, (X, y) in enumerate(data):
        offer = market.offer(X, y, seller)
        assert offer.accepted == (offer.price >= 0.0)
        if offer.accepted:
            bought.append((X, y))
        after = dict(zip(market.settle()["seller"], market.settle()["payout"]))
        assert all(after[name] == paid for name, paid in before.items())
        before = after
    groups = np.repeat(np.arange(len(bought)), [len(y) for _, y in bought])
    valuer = KNNShapley(k).fit(*map(np.concatenate, zip(*bought)), X_val, y_val, groups=groups)
    np.testing.assert_allclose(market.settle()["payout"], 3.0 * valuer.group_values_, atol=EXACT)
    history = market.history_
    assert history["utility"].iloc[-1] == pytest.approx(valuer.total_utility_, abs=EXACT)
    assert history["spent"].iloc[-1] == pytest.approx(3.0 * valuer.total_utility_, abs=EXACT)
    assert market.utility(X_val, y_val) == pytest.approx(valuer.total_utility_, abs=EXACT)


@given(st.integers(0, 2**32 - 1), st.integers(1, 7))
@settings(max_examples=15)
def test_symmetric_pay_is_the_shapley_total_of_each_seller_at_each_arrival(seed, k):
    X_val, y_val, data = batches(seed)
    market = DataMarket(X_val, y_val, n_neighbors=k, pricing="point", mode="symmetric", random_state=0)
    bought, owners = [], []
    for seller, (X, y) in enumerate(data):
        offer = market.offer(X, y, seller)
        valuer = KNNShapley(k).fit(*map(np.concatenate, zip(*bought, (X, y))), X_val, y_val)
        labels = np.array([*owners, *[seller] * len(y)])
        assert offer.value == pytest.approx(valuer.values_[labels == seller].sum(), abs=EXACT)
        if offer.accepted:
            bought.append((X, y))
            owners = labels.tolist()
            settled = market.settle()
            expected = [valuer.values_[labels == name].sum() for name in settled["seller"]]
            np.testing.assert_allclose(settled["payout"], expected, atol=EXACT)
            assert settled["payout"].sum() == pytest.approx(valuer.total_utility_, abs=EXACT)


def test_copies_take_back_half_of_the_original_only_in_the_symmetric_market():
    X_val, y_val, ((X, y), *_) = batches(1)
    pay = {}
    for mode in ("asymmetric", "symmetric"):
        # With K = 1 a copy, which loses every tie, changes no prediction.
        market = DataMarket(X_val, y_val, n_neighbors=1, pricing="point", mode=mode, random_state=0)
        first = market.offer(X, y, "Ann")
        market.offer(X, y, "Bob")
        pay[mode] = market.settle().set_index("seller")["payout"]
        history = market.history_
        assert history["payouts"][0] == {"Ann": first.price}
    assert pay["asymmetric"]["Ann"] == first.value
    assert pay["asymmetric"]["Bob"] == pytest.approx(0.0, abs=EXACT)
    assert pay["symmetric"]["Ann"] < first.value
    assert pay["symmetric"].sum() == pytest.approx(pay["asymmetric"].sum(), abs=EXACT)


def test_posted_prices_use_the_one_sided_quantile():
    value, stderr = np.array([1.0, 2.0]), np.array([0.1, 0.2])
    np.testing.assert_array_equal(posted_price(value, stderr, "point", 0.95), value)
    np.testing.assert_allclose(posted_price(value, stderr, "lcb", 0.95), value - 1.6448536269514722 * stderr)
    np.testing.assert_allclose(
        posted_price(value, stderr, "ucb_ask", 0.9), value + 1.2815515655446004 * stderr
    )
    np.testing.assert_array_equal(
        posted_price(value, 0.1, "lcb"), posted_price(value, np.array([0.1, 0.1]), "lcb")
    )


@pytest.mark.parametrize(
    ("value", "stderr", "error", "message"),
    [
        (1.0, -0.1, ValueError, "stderr must be finite and not negative"),
        (1.0, np.inf, ValueError, "stderr must be finite"),
        (1.0, np.nan, ValueError, "stderr must be finite"),
        (np.nan, 0.1, ValueError, "value must be finite"),
        ([1.0, 2.0, 3.0], [0.1, 0.2], ValueError, r"stderr must .* shape of value, \(3,\); got \(2,\)"),
        (1.0, [0.1, 0.2], ValueError, r"stderr must .* shape of value, \(\)"),
        (KNNShapley(), 0.1, TypeError, "value must be numbers"),
        (1.0, "a", ValueError, "stderr must be numbers"),
    ],
    ids=str,
)
def test_prices_need_estimates_and_errors(value, stderr, error, message):
    with pytest.raises(error, match=f"^{message}"):
        posted_price(value, stderr, "lcb")


@pytest.mark.parametrize("mode", ["asymmetric", "symmetric"])
def test_prices_and_intervals_of_an_offer_fit_together(mode):
    X_val, y_val, data = batches(2)
    offers = {}
    for pricing in ("point", "lcb", "ucb_ask"):
        market = DataMarket(
            X_val,
            y_val,
            pricing=pricing,
            mode=mode,
            confidence=0.9,
            price_per_utility=2.0,
            n_neighbors=3,
            random_state=5,
        )
        first = market.offer(*data[0], "a")
        assert first.ci_low == first.value == first.ci_high
        assert first.price == pytest.approx(2.0 * first.value)
        offers[pricing] = market.offer(*data[1], "b")
    stderr = (offers["point"].ci_high - offers["point"].value) / ndtri(0.95)
    assert stderr > 0.0
    for pricing, side in (("point", 0.0), ("lcb", -1.0), ("ucb_ask", 1.0)):
        offer = offers[pricing]
        assert offer.value == offers["point"].value
        assert offer.price == pytest.approx(2.0 * (offer.value + side * ndtri(0.9) * stderr), abs=EXACT)


@pytest.mark.parametrize("mode", ["asymmetric", "symmetric"])
def test_standard_error_is_the_mean_squared_difference_of_halves(mode):
    X_val, y_val, data = batches(3, sizes=(11, 4))
    market = DataMarket(X_val, y_val, n_neighbors=3, pricing="point", mode=mode, random_state=7)
    market.offer(*data[0], "a")
    offer = market.offer(*data[1], "b")
    rng = np.random.default_rng(7)
    if offer.accepted:
        assert len(market.settle()) == 2
    X, y = data[0]
    squares = []
    for _ in range(100):
        order = rng.permutation(11)
        worth = []
        for half in (order[:5], order[5:10]):
            joined = np.vstack([X[half], data[1][0]]), np.concatenate([y[half], data[1][1]])
            groups = np.repeat([0, 1], [5, 4]) if mode == "asymmetric" else None
            values = KNNShapley(3).fit(*joined, X_val, y_val, groups=groups).values_
            worth.append(values[5:].sum())
        squares.append((worth[0] - worth[1]) ** 2)
    expected = np.sqrt(np.mean(squares) / 4)
    assert (offer.ci_high - offer.value) / ndtri(0.975) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mode", ["asymmetric", "symmetric"])
def test_interval_covers_the_mean_value_over_samples(mode):
    rng = np.random.default_rng(4)

    def draw(n):
        y = rng.integers(0, 2, n)
        return (1.2 * (2 * y - 1) + rng.normal(size=n))[:, None], np.where(rng.random(n) < 0.1, 1 - y, y)

    X_val, y_val = draw(30)
    batch = draw(20)
    offers = []
    for run in range(60):
        market = DataMarket(X_val, y_val, pricing="point", mode=mode, random_state=run)
        market.offer(*draw(80), "a")
        offers.append(market.offer(*batch, "b"))
    mean = np.mean([offer.value for offer in offers])
    covered = sum(offer.ci_low <= mean <= offer.ci_high for offer in offers)
    # At a true coverage of 0.90, fewer than 48 of 60 happen about once in 100 times.
    assert covered >= 48


def test_reserve_and_budget():
    X_val, y_val, data = batches(5)
    price = DataMarket(X_val, y_val, pricing="point").offer(*data[0], "a").price
    assert price > 0.0
    for reserve, accepted in ((price, True), (np.nextafter(price, 1.0), False)):
        offer = DataMarket(X_val, y_val, pricing="point").offer(*data[0], "a", reserve=reserve)
        assert offer.accepted is accepted
        assert offer.price == price
    for budget, accepted in ((price, True), (np.nextafter(price, 0.0), False)):
        market = DataMarket(X_val, y_val, pricing="point", budget=budget)
        assert market.offer(*data[0], "a").accepted is accepted
        assert market.history_["spent"].tolist() == [price if accepted else 0.0]
    market = DataMarket(X_val, y_val, pricing="point", budget=price)
    market.offer(*data[0], "a")
    for X, y in data[1:]:
        offer = market.offer(X, y, "b")
        assert offer.accepted == (offer.price == 0.0)
    assert market.history_["spent"].max() <= price


def test_refused_data_leave_no_trace():
    X_val, y_val, data = batches(6)
    one, two = (DataMarket(X_val, y_val, pricing="point", random_state=0) for _ in range(2))
    one.offer(*data[0], "a")
    two.offer(*data[0], "a")
    assert not two.offer(*data[1], "b", reserve=1e9).accepted
    first, second = one.offer(*data[2], "c"), two.offer(*data[2], "c")
    assert (first.value, first.price) == (second.value, second.price)
    assert one.settle().equals(two.settle())
    assert two.history_["accepted"].tolist()[:2] == [True, False]
    assert two.history_["utility"][1] == two.history_["utility"][0]


def test_a_seller_without_a_hash_leaves_no_trace():
    X_val, y_val, data = batches(6)
    market = DataMarket(X_val, y_val, pricing="point", random_state=0)
    with pytest.raises(TypeError, match=r"seller must be hashable; got \['a'\]"):
        market.offer(*data[0], ["a"])
    assert market.history_.empty
    assert market.settle().empty
    assert market.offer(*data[0], "a").accepted


def test_a_seller_who_comes_twice_is_paid_twice():
    X_val, y_val, data = batches(7)
    market = DataMarket(X_val, y_val, pricing="point")
    prices = [market.offer(X, y, seller) for (X, y), seller in zip(data, ("a", "b", "a"))]
    paid = [offer.price for offer in prices if offer.accepted]
    settled = market.settle()
    assert settled["payout"].sum() == pytest.approx(sum(paid), abs=EXACT)
    assert settled["seller"].is_unique
    assert settled["share"].sum() == pytest.approx(1.0)


def test_utility_on_fresh_data_knows_labels_that_the_validation_data_lack():
    market = DataMarket([[0.0], [1.0]], ["a", "a"], n_neighbors=1, pricing="point")
    assert market.utility([[0.0]], ["b"]) == 0.0
    market.offer([[0.0], [5.0]], ["a", "b"], "Ann")
    assert market.utility([[4.0], [0.1]], ["b", "b"]) == 0.5
    assert market.utility([[4.0]], ["c"]) == 0.0


def test_empty_market():
    market = DataMarket([[0.0]], [1])
    assert market.settle().empty
    assert market.history_.empty
    assert list(market.settle().columns) == ["seller", "payout", "share"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"pricing": "fixed"}, "pricing must be one of 'point', 'lcb', 'ucb_ask'"),
        ({"mode": "fair"}, "mode must be one of"),
        ({"confidence": 1.0}, "confidence"),
        ({"price_per_utility": 0.0}, "price_per_utility"),
        ({"budget": -1.0}, "budget"),
        ({"X_val": [[np.nan]] * 2}, "NaN"),
        ({"y_val": []}, "y_val must not be empty"),
        ({"y_val": [1]}, "y_val must have shape"),
    ],
)
def test_markets_that_cannot_be(options, message):
    arguments = {"X_val": [[0.0], [1.0]], "y_val": [0, 1]} | options
    with pytest.raises(ValueError, match=message):
        DataMarket(**arguments)


@pytest.mark.parametrize(
    ("offer", "message"),
    [
        ((np.zeros((0, 1)), [], "a"), r"^X: Found array with 0 sample"),
        (([[0.0, 1.0]], [0], "a"), "X must have the 1 columns of X_val"),
        (([[np.inf]], [0], "a"), "infinity"),
        (([[0.0]], [0, 1], "a"), "y must have shape"),
        (([[0.0]], ["x"], "a"), "type seen before"),
        (([[0.0]], [0], "a", -0.1), "reserve"),
    ],
)
def test_offers_that_do_not_fit(offer, message):
    market = DataMarket([[0.0], [1.0]], [0, 1])
    with pytest.raises(ValueError, match=message):
        market.offer(*offer)
    assert market.history_.empty


def test_offer_is_a_value():
    assert Offer(True, 1.0, 2.0, 1.5, 2.5) == Offer(True, 1.0, 2.0, 1.5, 2.5)
