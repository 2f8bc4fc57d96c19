"""
Is this value real? Confidence intervals for data Shapley
=========================================================

A broker holds 200 images and is offered 30 more. Data Shapley puts a number on each. Had the broker
collected 200 other images of the same kind, the numbers would be others. How far can they be trusted, and
what should the broker pay?
"""

# %%
# The market
# ----------
# The model takes the label of the nearest neighbour and is judged on 200 digits. 30 digits are on offer, the
# first 6 of them with a wrong label. All other digits are the population; the broker's are drawn from it.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mlpapers.datasets import load_digits
from mlpapers.valuation import UStatisticShapley, posted_price

X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
judge, offered, population = np.split(rng.permutation(len(y)), [200, 230])
y_offered = y[offered].copy()
mislabelled = np.arange(len(offered)) < 6
y_offered[mislabelled] = (y_offered[mislabelled] + rng.integers(1, 10, size=6)) % 10


def appraise(rows, n_subsets, seed):
    """Value the digits on offer by means of the digits in `rows`."""
    valuer = UStatisticShapley(subset_size=14, n_subsets=n_subsets, n_neighbors=1, random_state=seed)
    valuer.fit(X[rows], y[rows], X[judge], y[judge], targets=[])
    return valuer.evaluate(X[offered], y_offered)


# %%
# Two intervals
# -------------
# A value here is what a point adds, on average over orders of arrival, in a market with 14 others. It is
# estimated by a mean over 1000 random subsets of what the broker holds. Its variance has two parts,
#
# .. math:: V = \frac{s^2}{n} \zeta_1 + \frac{\zeta_{tot}}{B}.
#
# The second is Monte Carlo error, which more subsets make as small as one likes. The first stays: it is there
# because the broker holds 200 digits and not all. Here the population is known, so we can look up what each
# point is worth.
truth = appraise(population, n_subsets=6000, seed=0).values
n_subsets = 1000
estimate = appraise(rng.choice(population, size=200), n_subsets, seed=1)
monte_carlo = 1.96 * np.sqrt(estimate.zeta_tot / n_subsets)

# %%
# The short, dark bars are what repeating the Monte Carlo run suggests. They look precise, and most miss the
# value in the population. The long bars are the intervals of :class:`~mlpapers.valuation.UStatisticShapley`.
order = np.argsort(estimate.values)
place = np.arange(len(order))
fig, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
ax.axhline(0, color="0.8", linewidth=0.8)
ax.vlines(
    place,
    estimate.ci_low[order],
    estimate.ci_high[order],
    color="tab:blue",
    alpha=0.3,
    linewidth=7,
    label="95% interval",
)
ax.vlines(
    place,
    (estimate.values - monte_carlo)[order],
    (estimate.values + monte_carlo)[order],
    color="tab:blue",
    linewidth=7,
    label="Monte Carlo error only",
)
right, wrong = ~mislabelled[order], mislabelled[order]
ax.plot(place[right], truth[order][right], "k.", label="in the population")
ax.plot(
    place[wrong], truth[order][wrong], "x", color="tab:red", mew=2, label="in the population, wrong label"
)
ax.set(xlabel="digit on offer, lowest estimate first", ylabel="value", xticks=[])
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="upper left")
plt.show()

# %%
# How often do they hold?
# -----------------------
# One sample shows little. With 20 brokers, each with a sample of their own, we can count how often intervals
# hold that should do so in 95% of all cases.
brokers = [appraise(rng.choice(population, size=200), n_subsets, seed) for seed in range(20)]
covered = {
    "95% interval": [(b.ci_low <= truth) & (truth <= b.ci_high) for b in brokers],
    "Monte Carlo error only": [
        np.abs(b.values - truth) <= 1.96 * np.sqrt(b.zeta_tot / n_subsets) for b in brokers
    ],
}
print(pd.Series({name: np.mean(hits) for name, hits in covered.items()}).round(3).to_string())

# %%
# What to pay
# -----------
# A broker who pays the estimate pays too much for about every second point. The lower confidence bound
# :math:`\hat\theta - z_{0.95} \sqrt V` is above the true value in about one case in twenty. The discount is
# what the broker's ignorance costs the seller; it shrinks as the broker's sample grows.
rules = {"point": "estimate", "lcb": "lower confidence bound"}
prices = {
    name: np.array([posted_price(b.values, b.stderr, rule, confidence=0.95) for b in brokers])
    for rule, name in rules.items()
}
table = pd.DataFrame(
    {
        "overpaid": {name: (price > truth).mean() for name, price in prices.items()},
        "mean price": {name: price.mean() for name, price in prices.items()},
    }
)
print(table.round(3))
print(f"mean value {truth.mean():.3f}")

# %%
# Above the line the broker has paid more than a point is worth.
fig, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
ends = np.array([truth.min(), truth.max()])
for ax, (name, price) in zip(axes, prices.items()):
    above = price > truth
    worth = np.broadcast_to(truth, price.shape)
    ax.plot(worth[~above], price[~above], ".", color="tab:blue", alpha=0.4, markersize=5)
    ax.plot(worth[above], price[above], ".", color="tab:red", alpha=0.4, markersize=5)
    ax.plot(ends, ends, color="0.2", linewidth=1)
    ax.set_title(f"price = {name}:\noverpaid {above.mean():.0%}", fontsize=11)
    ax.set_xlabel("value in the population")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("price")
plt.show()
