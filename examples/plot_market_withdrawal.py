"""
A data market that can forget
=============================

A broker buys training data batch by batch, pays what they are surely worth, and trains a model on what was
bought. Then a seller changes his mind. His rows leave the model with a certificate, and nobody else's pay
changes.
"""

# %%
# Buying
# ------
# The broker owns the records of 300 persons. Nine sellers offer as many each; the label is a high income.
# Half of Gil's labels are wrong. The price is the lower confidence bound of what a batch adds to the accuracy
# of a nearest-neighbour model, so the broker rarely pays too much; it is paid once and never taken back.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from mlpapers.datasets import load_adult
from mlpapers.unlearning import DVWUClassifier
from mlpapers.valuation import AsymmetricShapley, DataMarket

adult = load_adult()
rng = np.random.default_rng(0)
judge, test, *batches = np.split(
    rng.permutation(len(adult.target))[:9000], [1000, 6000, *range(6300, 9000, 300)]
)
X, y = StandardScaler().fit_transform(adult.data), adult.target.copy()
sellers = ["(own)", "Ben", "Cid", "Dot", "Eve", "Fay", "Gil", "Hal", "Ida", "Jon"]
wrong = rng.choice(batches[sellers.index("Gil")], size=150, replace=False)
y[wrong] = 1 - y[wrong]

market = DataMarket(X[judge], y[judge], n_neighbors=15, price_per_utility=1000.0, random_state=0)
for seller, rows in zip(sellers, batches):
    market.offer(X[rows], y[rows], seller)
print(market.history_[["seller", "accepted", "price", "value", "ci_low", "ci_high", "utility"]].round(3))

# %%
# The more is there, the less a batch adds, and the interval says how sure that is. What may well do no good
# is not bought, and Gil's batch would do harm.
offers = market.history_.iloc[1:]
fig, ax = plt.subplots(layout="constrained")
reach = offers["ci_high"] - offers["value"]
ax.errorbar(offers["seller"], offers["value"], reach, fmt="o", label="value and 95% interval")
ax.plot(offers["seller"], offers["price"] / 1000, "_", color="tab:red", markersize=16, label="price / 1000")
ax.axhline(0, color="0.8", linewidth=0.8)
ax.set_ylabel("added to the utility")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, loc="lower left")
plt.show()

# %%
# Training
# --------
# The model is a logistic regression that can forget. Its rows are weighted by their values: exact asymmetric
# Shapley values, with the batches in their order of arrival.
bought = market.settle()["seller"].tolist()
train = np.concatenate([batches[sellers.index(seller)] for seller in bought])
arrival = np.repeat(np.arange(len(bought)), 300)
valuer = AsymmetricShapley(n_neighbors=15).fit(X[train], y[train], X[judge], y[judge], groups=arrival)
Z = X / np.sqrt(X.shape[1])
model = DVWUClassifier(perturbation="output", noise_scale=0.1, epsilon=1.0, norm_bound=2.0, random_state=0)
model.fit(Z[train], y[train], data_values=valuer.values_)
print(f"{len(train)} rows, accuracy on {len(test)} others {model.score(Z[test], y[test]):.4f}")

# %%
# One person asks to be forgotten
# -------------------------------
# One Newton step takes a row out. A bound on what is left of it in the model is proved without a pass over
# the data; the noise in the published coefficients hides that much.
receipt = model.unlearn([612], request_id="a person among Cid's")
print(
    f"{receipt.action}: at most {receipt.residual_bound:.1e} is left,",
    f"up to {receipt.residual_budget:.1e} is hidden",
)

# %%
# Cid withdraws
# -------------
# A fifth of the data at once is too much for one step: its bound would exceed the budget. The model notices
# and goes on to the exact optimum on the rows that stay.
withdrawn = np.setdiff1d(np.flatnonzero(arrival == bought.index("Cid")), [612])
receipt = model.unlearn(withdrawn, request_id="Cid's letter")
print(f"{receipt.action}: at most {receipt.residual_bound:.1e} is left")
print(model.certificate_)

# %%
# A model that never saw his rows is the judge:
print(f"largest difference to retraining {np.abs(model.coef_ - model.retrain().coef_).max():.1e}")
print(f"accuracy {model.score(Z[test], y[test]):.4f}")

# %%
# Who pays for it?
# ----------------
# Nobody. A batch was paid for what it added when it came, and a later change does not touch that. Had the
# broker split the utility evenly over all that is there (Data Shapley), Cid's withdrawal would move money
# between all others.
paid = market.settle().set_index("seller")["payout"]
splits = {}
for name, present in {
    "with Cid": bought,
    "without": [seller for seller in bought if seller != "Cid"],
}.items():
    even = DataMarket(
        X[judge],
        y[judge],
        n_neighbors=15,
        pricing="point",
        price_per_utility=1000.0,
        mode="symmetric",
        random_state=0,
    )
    for seller in present:
        rows = batches[sellers.index(seller)]
        even.offer(X[rows], y[rows], seller)
    splits[name] = even.settle().set_index("seller")["payout"]
print(
    pd.concat({"paid at arrival": paid, **{f"even split, {k}": v for k, v in splits.items()}}, axis=1).round(
        1
    )
)
