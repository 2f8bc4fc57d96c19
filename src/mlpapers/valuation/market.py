"""A data market: sellers arrive, a broker prices what they bring, and nobody's pay is taken back."""

from __future__ import annotations

import reprlib
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from mlpapers.core.knn import knn_shapley_values, nearest_neighbours, rank_neighbours
from mlpapers.core.validation import check_choice, check_matrix, check_real, check_rng
from mlpapers.valuation import _market
from mlpapers.valuation._kernel import NeighbourKernel
from mlpapers.valuation._labels import as_labels, check_class_labels, encode_scores, encode_targets
from mlpapers.valuation._values import as_numbers
from mlpapers.valuation.knn import check_n_neighbors

__all__ = ["DataMarket", "Offer", "posted_price"]

PRICING = ("point", "lcb", "ucb_ask")
# Random splits of the sample into halves, for a standard error.
_N_SPLITS = 100


@dataclass(frozen=True)
class Offer:
    """The broker's answer to a seller.

    Parameters
    ----------
    accepted : bool
        Whether the data were bought.
    price : float
        What the broker posts for them, in money.
    value : float
        What they are worth to the broker, in units of utility.
    ci_low, ci_high : float
        Two-sided interval for `value` over samples like the one the broker holds.
    """

    accepted: bool
    price: float
    value: float
    ci_low: float
    ci_high: float


def posted_price(
    value: ArrayLike, stderr: ArrayLike, pricing: str, confidence: float = 0.95
) -> NDArray[np.float64]:
    r"""Price per unit of utility under three rules.

    "point" posts :math:`\hat\theta`; "lcb" the lower confidence bound :math:`\hat\theta - z_c \sqrt V`, which
    is above the true value with probability 1 - c only; "ucb_ask" the upper bound :math:`\hat\theta + z_c
    \sqrt V`, what a seller who fears to be underpaid asks. The quantile is one-sided: :math:`\Phi(z_c) = c`.

    Parameters
    ----------
    value : float or array-like
        Estimates.
    stderr : float or array-like of the shape of `value`
        Their standard errors.
    pricing : {"point", "lcb", "ucb_ask"}
    confidence : float, default=0.95
        c, in (0, 1).

    Returns
    -------
    ndarray, of the shape of `value`

    Raises
    ------
    ValueError, TypeError
        If an estimate is not finite, a standard error is negative or not finite, or the shapes differ.

    Examples
    --------
    >>> float(posted_price(1.0, 0.1, "lcb", confidence=0.95).round(4))
    0.8355
    """
    check_choice("pricing", pricing, PRICING)
    c = check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
    side = {"point": 0.0, "lcb": -1.0, "ucb_ask": 1.0}[pricing]
    estimate, error = as_numbers("value", value), as_numbers("stderr", stderr)
    if not np.isfinite(estimate).all():
        raise ValueError("value must be finite; got NaN or infinity")
    wrong = ~(np.isfinite(error) & (error >= 0.0))
    if wrong.any():
        raise ValueError(f"stderr must be finite and not negative; got {error[wrong][0]:g}")
    if error.ndim and error.shape != estimate.shape:
        raise ValueError(
            f"stderr must be a number or have the shape of value, {estimate.shape}; got {error.shape}"
        )
    return np.asarray(estimate + side * float(ndtri(c)) * error)


@dataclass(frozen=True, eq=False)
class _Bought:
    """What the broker holds: points, label codes, arrivals, and the nearest to each validation point."""

    X: NDArray[np.float64]
    codes: NDArray[np.int32]
    arrival: NDArray[np.int64]
    near: NDArray[np.int64]


class DataMarket:
    r"""A broker who buys training data for a nearest-neighbour model, batch by batch.

    The utility of a set is :math:`v(S) = \frac1K \sum 1[y_i = t]` over the K nearest members of S, averaged
    over the validation points (x, t). A batch B that is offered to a broker who holds D is worth

    - ``mode="asymmetric"``: :math:`v(D \cup B) - v(D)`, its asymmetric Shapley total as the next group.
      Prices are paid once: no later arrival changes them, and paid at their point estimates they add up to
      v(D).
    - ``mode="symmetric"``: its Data Shapley total in :math:`D \cup B`. All pay is split anew at each arrival,
      so that sellers of what later becomes abundant pay back.

    Its standard error says how much the value depends on which sample of its population D happens to be. Two
    random halves of D are independent samples, so that half the squared difference of the values for them is
    unbiased for the variance at half the size; taking variances to fall like 1 / n,

    .. math:: V = \tfrac12 \cdot \tfrac12\, \overline{\big(\hat\theta(D') - \hat\theta(D'')\big)^2},

    the mean over 100 splits. The first batch meets no sample: its value is certain. At a re-split the value
    of each arrival has an error of its own, over the points of all others.

    A batch is bought where its price reaches the seller's reserve and the budget allows it; since reserves
    are not negative, data with a negative price are not bought.

    Parameters
    ----------
    X_val, y_val : array-like of shape (M, d) and (M,)
        The broker's validation data; class labels of any hashable type but numbers with fractions.
    n_neighbors : int, default=5
        K.
    pricing : {"point", "lcb", "ucb_ask"}, default="lcb"
        Estimate, lower or upper confidence bound; see :func:`posted_price`.
    confidence : float, default=0.95
        Level of the one-sided bound of the price and of the two-sided interval of the value.
    price_per_utility : float, default=1.0
        Money per unit of utility.
    budget : float or None, default=None
        The most the broker pays in all.
    mode : {"asymmetric", "symmetric"}, default="asymmetric"
        See above.
    random_state : int, RandomState, Generator or None, default=None
        The splits.

    Attributes
    ----------
    history_ : DataFrame
        One row per offer: seller, n_points, reserve, accepted, price, value, ci_low, ci_high, and after it
        utility (v of what was bought), spent, and payouts (a dict by seller).

    References
    ----------
    .. [1] Wu, Liu, Li, Jia, Chang, "Uncertainty Quantification of Data Shapley via Statistical Inference",
       arXiv 2407.19373 (trading on confidence bounds).

    Examples
    --------
    >>> market = DataMarket([[0.0], [1.0]], ["a", "b"], n_neighbors=1, pricing="point")
    >>> market.offer([[0.1]], ["a"], "Ann").price
    0.5
    >>> market.offer([[0.1]], ["a"], "Bob").price
    0.0
    >>> market.offer([[0.9]], ["b"], "Cid", reserve=0.6).accepted
    False
    >>> market.settle()["payout"].tolist()
    [0.5, 0.0]
    """

    def __init__(
        self,
        X_val: ArrayLike,
        y_val: ArrayLike,
        *,
        n_neighbors: int = 5,
        pricing: str = "lcb",
        confidence: float = 0.95,
        price_per_utility: float = 1.0,
        budget: float | None = None,
        mode: str = "asymmetric",
        random_state: Any = None,
    ) -> None:
        self.X_val = check_matrix("X_val", X_val, dtype=np.float64, order="C")
        self.y_val = as_labels(y_val)
        self.n_neighbors = check_n_neighbors(n_neighbors)
        self.pricing = check_choice("pricing", pricing, PRICING)
        self.confidence = check_real("confidence", confidence, low=0.0, high=1.0, closed="neither")
        self.price_per_utility = check_real("price_per_utility", price_per_utility, low=0.0, closed="neither")
        self.budget = None if budget is None else check_real("budget", budget, low=0.0)
        self.mode = check_choice("mode", mode, ("asymmetric", "symmetric"))
        self._rng = check_rng(random_state)
        check_class_labels("y_val", self.y_val)
        self._truth = encode_targets(
            self.y_val, self.y_val, "classification", len(self.X_val), len(self.X_val)
        )
        d = self.X_val.shape[1]
        nothing = np.zeros(0, dtype=np.int64)
        near = np.zeros((len(self.X_val), 0), dtype=np.int64)
        self._bought = _Bought(np.zeros((0, d)), nothing.astype(np.int32), nothing, near)
        self._sellers: list[Hashable] = []
        self._labels: list[NDArray[Any]] = []
        self._payouts = np.zeros(0)
        self._records: list[dict[str, Any]] = []

    @property
    def history_(self) -> pd.DataFrame:
        """Every offer in order of arrival."""
        columns = ["seller", "n_points", "reserve", "accepted", "price", "value", "ci_low", "ci_high"]
        return pd.DataFrame(self._records, columns=[*columns, "utility", "spent", "payouts"])

    def offer(self, X: ArrayLike, y: ArrayLike, seller: Hashable, reserve: float = 0.0) -> Offer:
        """Price a batch, and buy it where price, reserve and budget agree.

        Parameters
        ----------
        X, y : array-like of shape (m, d) and (m,)
            The batch.
        seller : hashable
            Who is paid; a seller may come several times.
        reserve : float, default=0
            The least the seller takes, in money, not negative.

        Returns
        -------
        Offer

        Raises
        ------
        ValueError, TypeError
            If an array does not fit the validation data, `y` holds no class labels, `seller` is not hashable,
            or `reserve` is negative.
        """
        try:
            hash(seller)
        except TypeError as error:
            raise TypeError(f"seller must be hashable; got {reprlib.repr(seller)}") from error
        batch = check_matrix("X", X, dtype=np.float64, order="C")
        if batch.shape[1] != self.X_val.shape[1]:
            raise ValueError(f"X must have the {self.X_val.shape[1]} columns of X_val; got {batch.shape[1]}")
        floor = check_real("reserve", reserve, low=0.0)
        labels = as_labels(y)
        codes = encode_scores(labels, self._truth, len(batch)).codes
        held, arrival = self._bought, len(self._sellers)
        points = np.concatenate([held.X, batch])
        joined = _Bought(
            points,
            np.concatenate([held.codes, codes]),
            np.concatenate([held.arrival, np.full(len(batch), arrival)]),
            nearest_neighbours(points, self.X_val, self.n_neighbors + 1)[1],
        )
        if self.mode == "asymmetric":
            value = self._utility(joined) - self._utility(held)
            stderr = self._stderr(joined, arrival)
            payouts = np.append(self._payouts, self._price(value, stderr))
        else:
            totals = self._totals(joined)
            value, stderr = float(totals[arrival]), self._stderr(joined, arrival)
            # The point rule has no use for the errors of earlier arrivals.
            errors = [0.0 if self.pricing == "point" else self._stderr(joined, k) for k in range(arrival)]
            payouts = self._price(totals, np.array([*errors, stderr]))
        price = float(payouts[arrival])
        affordable = self.budget is None or payouts.sum() <= self.budget
        accepted = bool(price >= floor and affordable)
        if accepted:
            self._bought, self._payouts = joined, payouts
            self._sellers.append(seller)
            self._labels.append(labels)
        reach = float(ndtri(0.5 * (1.0 + self.confidence))) * stderr
        answer = Offer(accepted, price, value, value - reach, value + reach)
        settled = self.settle()
        self._records.append(
            {
                "seller": seller,
                "n_points": len(batch),
                "reserve": floor,
                **vars(answer),
                "utility": self._utility(self._bought),
                "spent": float(self._payouts.sum()),
                "payouts": dict(zip(settled["seller"], settled["payout"])),
            }
        )
        return answer

    def settle(self) -> pd.DataFrame:
        """Return what each seller has been paid so far.

        Returns
        -------
        DataFrame with the columns seller (in order of arrival), payout (money) and share (of all payouts; 0
        where nothing was paid)
        """
        names = list(dict.fromkeys(self._sellers))
        paid = dict.fromkeys(names, 0.0)
        for seller, payout in zip(self._sellers, self._payouts):
            paid[seller] += float(payout)
        payouts = np.array(list(paid.values()))
        share = payouts / payouts.sum() if payouts.sum() != 0.0 else np.zeros(len(names))
        return pd.DataFrame({"seller": pd.Series(names, dtype=object), "payout": payouts, "share": share})

    def utility(self, X_test: ArrayLike, y_test: ArrayLike) -> float:
        """Return the utility of what was bought on data that prices never saw.

        Parameters
        ----------
        X_test, y_test : array-like of shape (m, d) and (m,)

        Returns
        -------
        float
            :math:`v` with the test points in the place of the validation points; 0 where nothing was bought.
        """
        if not self._sellers:
            return 0.0
        queries = check_matrix("X_test", X_test, dtype=np.float64, order="C")
        if queries.shape[1] != self.X_val.shape[1]:
            raise ValueError(
                f"X_test must have the {self.X_val.shape[1]} columns of X_val; got {queries.shape[1]}"
            )
        labels = np.concatenate(self._labels)
        return NeighbourKernel(self._bought.X, labels, queries, y_test, self.n_neighbors).total_utility

    def _price(self, value: ArrayLike, stderr: ArrayLike) -> NDArray[np.float64]:
        return self.price_per_utility * posted_price(value, stderr, self.pricing, self.confidence)

    def _scores(self, data: _Bought) -> NDArray[np.float64]:
        """Scores (M, K + 1) of the nearest points, padded with zeros."""
        scores = np.zeros((len(self.X_val), self.n_neighbors + 1))
        scores[:, : data.near.shape[1]] = data.codes[data.near] == self._truth.codes[:, None]
        return scores

    def _utility(self, data: _Bought) -> float:
        return float(self._scores(data)[:, :-1].sum() / (self.n_neighbors * len(self.X_val)))

    def _totals(self, joined: _Bought) -> NDArray[np.float64]:
        """Return the Data Shapley totals of all arrivals."""
        values = knn_shapley_values(
            joined.X, joined.codes, self.X_val, self._truth.codes, n_neighbors=self.n_neighbors
        )
        return np.bincount(joined.arrival, weights=values).astype(np.float64, copy=False)

    def _stderr(self, joined: _Bought, arrival: int) -> float:
        """Return the standard error of the value of an arrival over samples like that of the other points."""
        others = np.flatnonzero(joined.arrival != arrival)
        half = len(others) // 2
        if half == 0:
            return 0.0
        side = np.full((_N_SPLITS, len(joined.X)), _market.NONE, dtype=np.int64)
        side[:, joined.arrival == arrival] = _market.BATCH
        for row in side:
            shuffled = self._rng.permutation(others)
            row[shuffled[:half]], row[shuffled[half : 2 * half]] = _market.FIRST, _market.SECOND
        out = np.zeros((_N_SPLITS, 2))
        add = _market.batch_gains if self.mode == "asymmetric" else _market.batch_totals
        for chunk, order in rank_neighbours(joined.X, self.X_val):
            score = (joined.codes[order] == self._truth.codes[chunk, None]).astype(np.float64)
            add(order, score, side, self.n_neighbors, out)
        difference = (out[:, 0] - out[:, 1]) / len(self.X_val)
        return float(0.5 * np.sqrt(np.mean(difference**2)))
