"""
Who should be paid for augmented data?
======================================

A hospital sells images. A broker copies them, changes some of the copies a little, and sells them as well.
A model that is trained on everything is hardly better than one trained on the originals. What is each image
worth?
"""

# %%
# The market
# ----------
# 500 digits are the originals; 500 others judge the model, a vote among the 5 nearest neighbours. The
# broker brings an exact copy of every original, up to three times.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mlpapers.datasets import load_digits
from mlpapers.valuation import KNNShapley

X, y = load_digits(return_X_y=True)
order = np.random.default_rng(0).permutation(len(y))
originals, validation = order[:500], order[500:1000]
X_val, y_val = X[validation], y[validation]

# %%
# Data Shapley pays the broker
# ----------------------------
# Data Shapley averages what a point adds over all orders of arrival. A copy stands before its original in
# half of them, so the two share what the original earned alone; with three copies the originals keep a
# quarter.
#
# Asymmetric data Shapley averages over the orders that could have happened: originals first. ``groups``
# says so, smaller numbers being earlier.
shares = pd.DataFrame(index=pd.Index([1, 2, 3], name="copies"), columns=["data Shapley", "asymmetric"])
for n_copies in shares.index:
    X_market = np.tile(X[originals], (1 + n_copies, 1))
    y_market = np.tile(y[originals], 1 + n_copies)
    arrival = np.repeat(np.arange(1 + n_copies), len(originals))
    for method, groups in zip(shares.columns, (None, arrival)):
        valuer = KNNShapley(n_neighbors=5)
        values = valuer.fit(X_market, y_market, X_val, y_val, groups=groups).values_
        shares.loc[n_copies, method] = values[arrival == 0].sum() / values.sum()
shares = shares.astype(float)
print(shares.round(3))

# %%
# The share of the total value that the originals keep:
ax = shares.plot.bar(rot=0, ylim=(0, 1.25))
ax.axhline(1.0, color="0.6", linewidth=0.8)
ax.set(xlabel="copies of every original", ylabel="share of the originals")
ax.legend(loc="upper center", ncols=2)
plt.show()

# %%
# What the copies do earn is what they add: where every point is there twice, the five nearest are fewer
# different images, and on these digits that helps a little.
#
# Copies and new images
# ---------------------
# A broker who does more than copy should earn more. Now half of what the broker brings are copies with a
# little noise, and half are images that nobody had; everything is drawn ten times, and the totals are
# means.
seller = np.repeat(["originals", "noisy copies", "new images"], [300, 150, 150])
arrival = np.repeat([0, 1], 300)
draws = []
for draw in range(10):
    rng = np.random.default_rng(draw)
    order = rng.permutation(len(y))
    first, novel, validation = order[:300], order[300:450], order[450:950]
    copied = rng.choice(first, size=150, replace=False)
    noise = rng.normal(scale=0.3, size=(150, X.shape[1]))
    X_market = np.vstack([X[first], X[copied] + noise, X[novel]])
    y_market = np.concatenate([y[first], y[copied], y[novel]])
    totals = pd.DataFrame({"seller": seller})
    for method, groups in {"data Shapley": None, "asymmetric": arrival}.items():
        valuer = KNNShapley(n_neighbors=5).fit(
            X_market, y_market, X[validation], y[validation], groups=groups
        )
        totals[method] = valuer.values_
    draws.append(totals.groupby("seller", sort=False).sum())
print((sum(draws) / len(draws)).round(4))

# %%
# Data Shapley pays the copies as much as the new images, and takes it from the originals. With the order of
# arrival the broker is paid what the second group adds to the first, and the new images get the larger
# part.
#
# Nobody pays anything back
# -------------------------
# When more data arrive, the asymmetric values of what is there do not change, so they can be paid at once.
# ``partial_fit`` values a batch as the next group; all it needs of the earlier ones are the nearest
# neighbours.
batches = originals[:200], originals[200:350], originals[350:]
market = KNNShapley(n_neighbors=5).fit(X[batches[0]], y[batches[0]], X_val, y_val)
print(market.group_values_.round(4).tolist())
for batch in batches[1:]:
    market.partial_fit(X[batch], y[batch])
    print(market.group_values_.round(4).tolist())
