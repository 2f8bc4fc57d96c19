"""
A fairness-accuracy frontier for Adult in seconds
=================================================

How much accuracy does fairness cost? Most methods answer with one model per tolerance. Here the models are
fitted once, and every further tolerance is a small linear program.
"""

# %%
# The data
# --------
# 48,842 persons, 97 columns, and the question whether somebody earns more than 50,000 dollars. The groups are
# the four combinations of sex and race. The sensitive columns are not among the features, and the classifier
# will not need them to predict.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlpapers.datasets import load_adult
from mlpapers.fairness import BayesFairClassifier, group_rates, pareto_front

adult = load_adult()
X, X_test, y, y_test, sensitive, sensitive_test = train_test_split(
    adult.data, adult.target, adult.sensitive_features, test_size=0.5, random_state=0
)

# %%
# Who would be selected?
# ----------------------
# Logistic regression selects men, and white men most of all, far more often than women.
plain = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(X, y)
decided = plain.predict(X_test)
options = {"sensitive_features": sensitive_test, "constraint": "demographic_parity"}
print(group_rates(y_test, decided, **options).round(3))
print(f"accuracy {np.mean(decided == y_test):.4f}")

# %%
# One fit, sixteen tolerances
# ---------------------------
# The rule needs the probabilities of every combination of group and label. A model of the label and, for each
# label, a linear discriminant of the group are enough, and quick to fit.
model = BayesFairClassifier(
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)),
    joint="factorized",
    group_estimator=make_pipeline(StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr")),
    random_state=0,
)
front = pareto_front(
    model,
    X,
    y,
    sensitive_features=sensitive,
    X_test=X_test,
    y_test=y_test,
    sensitive_features_test=sensitive_test,
)
print(front.to_frame().round(4))

# %%
# The price of fairness
# ---------------------
# On the left, accuracy on the test half against the largest difference of a group's selection rate to that of
# everybody. On the right, the shadow price: how much risk a little more tolerance would save. It is 0 where
# the constraint does not bind and grows towards exact fairness.
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.plot(front.test_violation, front.test_accuracy, marker="o")
left.set(xlabel="largest |rate of a group - rate|", ylabel="accuracy")
right.plot(front.tolerances, -front.shadow_price, marker="o")
right.set(xlabel="tolerance", ylabel="risk saved per unit of tolerance")
plt.show()

# %%
# A rule from the frontier
# ------------------------
# Each point is a fitted classifier. This is the one of the tolerance next to .05.
chosen = front.estimators()[int(np.abs(front.tolerances - 0.05).argmin())]
print(group_rates(y_test, chosen.predict(X_test), **options).round(3))

# %%
# For every person it can say what moved the threshold away from 1/2: the more likely a person belongs to a
# group that is selected too often, the higher.
explained = chosen.explain(X_test[:2000])
shifts = pd.DataFrame(
    {
        "threshold": explained["threshold"],
        "cell": sensitive_test.iloc[:2000].agg(" & ".join, axis=1).to_numpy(),
    }
)
ax = plt.figure(layout="constrained").subplots()
names = sorted(shifts["cell"].unique())
ax.boxplot([shifts.loc[shifts["cell"] == name, "threshold"] for name in names], tick_labels=names)
ax.axhline(0.5, color="0.6", linewidth=0.8)
ax.set_ylabel("threshold of P(income > 50,000)")
plt.show()
