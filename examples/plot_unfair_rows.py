"""
Which rows make a classifier unfair?
====================================

Data values are usually shares of accuracy. They can be shares of anything that a training set does, also of
the harm: here each row gets its exact share of the difference between the rates at which men and women are
selected. Rows with a large share can be left out. Is that as good as a classifier that is fair by
construction?
"""

# %%
# A gap that splits exactly
# -------------------------
# Of the K nearest training rows of a person, let :math:`u(S; x)` be the share with a high income. The mean of
# u over a group is the rate at which a nearest-neighbour model selects it, so that the gap
#
# .. math:: v(S) = \frac1{M_m} \sum_{x \in m} u(S; x) - \frac1{M_w} \sum_{x \in w} u(S; x)
#
# is linear in the utilities of single persons, and so are Shapley values. They need no sampling:
# :class:`~mlpapers.valuation.KNNShapley` is exact, and a label of 1 for every person on whom S is judged
# turns its accuracy into a selection rate.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mlpapers.datasets import load_adult
from mlpapers.fairness import BayesFairClassifier, mean_difference, pareto_front
from mlpapers.valuation import KNNShapley

adult = load_adult()
sex = adult.sensitive_features["sex"].to_numpy()
train, judge, test = np.split(np.random.default_rng(0).permutation(len(sex))[:15_000], [5000, 7000])
X, y = StandardScaler().fit(adult.data[train]).transform(adult.data), adult.target


def shares_of_rate(group):
    """Exact share of each training row in the rate at which `group` is selected."""
    rows = judge[sex[judge] == group]
    valuer = KNNShapley(n_neighbors=15).fit(X[train], y[train], X[rows], np.ones(len(rows), dtype=int))
    return valuer.values_


gap_shares = shares_of_rate("Male") - shares_of_rate("Female")
print(f"men are selected {gap_shares.sum():.1%} more often, the sum of {len(train)} shares")

# %%
# Who carries the gap?
# --------------------
# Men with a high income and women with a low one widen it; the others work against it. No row is at fault:
# all are correct records of an unequal world.
rows = pd.DataFrame({"sex": sex[train], "high income": y[train] == 1, "share of the gap": gap_shares})
print(rows.groupby(["sex", "high income"])["share of the gap"].agg(["size", "sum", "mean"]).round(4))

# %%
# Leaving rows out
# ----------------
# Another model than the one that gave the values, logistic regression, without the rows of the largest
# shares, and without as many rows at random. The violation is the largest difference of a group's selection
# rate to the rate of all.
options = {"sensitive_features": sex[test], "constraint": "demographic_parity"}


def accuracy_and_violation(left_out):
    """Fit on the other training rows; return both on the test rows."""
    kept = np.delete(train, left_out)
    decided = LogisticRegression(max_iter=500).fit(X[kept], y[kept]).predict(X[test])
    return {
        "accuracy": np.mean(decided == y[test]),
        "violation": mean_difference(y[test], decided, **options),
    }


counts = [0, 50, 100, 200, 300, 400, 500]
widest = np.argsort(-gap_shares)
by_share = pd.DataFrame([accuracy_and_violation(widest[:k]) for k in counts], index=counts)
shuffled = np.random.default_rng(1).permutation(len(train))
at_random = pd.DataFrame([accuracy_and_violation(shuffled[:k]) for k in counts], index=counts)
table = pd.concat({"largest shares": by_share, "at random": at_random}, axis=1)
print(table.rename_axis("left out").round(4))

# %%
# Beside the optimum
# ------------------
# :class:`~mlpapers.fairness.BayesFairClassifier` changes no data. It shifts each person's threshold just
# enough; were its probabilities right, no other rule with the same violation would be more accurate.
model = BayesFairClassifier(
    LogisticRegression(max_iter=500),
    joint="factorized",
    group_estimator=LinearDiscriminantAnalysis(solver="lsqr"),
    random_state=0,
)
front = pareto_front(
    model,
    X[train],
    y[train],
    sensitive_features=sex[train],
    X_test=X[test],
    y_test=y[test],
    sensitive_features_test=sex[test],
)
figure, ax = plt.subplots(layout="constrained")
ax.plot(front.test_violation, front.test_accuracy, "o-", label="BayesFairClassifier")
ax.plot(by_share["violation"], by_share["accuracy"], "s-", label="without the largest shares")
ax.plot(at_random["violation"], at_random["accuracy"], "x", color="0.5", label="without random rows")
ax.set(xlabel="violation", ylabel="accuracy")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()

# %%
# For a moderate violation the two are level: the values find the rows that matter. They say *why* a model
# selects as it does, and leaving rows out changes nothing in how the model is served. But nothing tells in
# advance how many to leave out, close to equal rates it costs more, and there is no tolerance to promise. The
# classifier takes the tolerance as an argument:
fair = front.estimators()[int(np.abs(front.tolerances - 0.05).argmin())]
decided = fair.predict(X[test])
print(f"accuracy {np.mean(decided == y[test]):.4f}")
print(f"violation {mean_difference(y[test], decided, **options):.4f}")
