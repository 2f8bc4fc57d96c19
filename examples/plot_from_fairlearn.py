"""
From fairlearn to mlpapers
==========================

For those who use fairlearn: what is called the same, what is called otherwise, and what is new.
"""

# %%
# The same names
# --------------
# A classifier is fitted with ``sensitive_features=``, which may be a column, several columns, or a frame.
# Metrics take ``y_true, y_pred, sensitive_features``. COMPAS has two sensitive columns, sex and race.
import importlib.util

import matplotlib.pyplot as plt
import numpy as np
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import SplineTransformer, StandardScaler

from mlpapers.datasets import load_compas
from mlpapers.fairness import (
    BayesFairClassifier,
    certify_fairness,
    fairness_report,
    make_rate_metric,
    mean_difference,
)

compas = load_compas()
X, X_test, y, y_test, sensitive, sensitive_test = train_test_split(
    compas.data, compas.target, compas.sensitive_features, test_size=0.5, random_state=0
)
base = make_pipeline(StandardScaler(), SplineTransformer(), LogisticRegression(max_iter=500))

# %%
# Instead of a reduction
# ----------------------
# ``ExponentiatedGradient(base, DemographicParity(difference_bound=0.05))`` trains some thirty models and
# needs a base model with sample weights. ``BayesFairClassifier(base, constraint="demographic_parity",
# tolerance=0.05)`` fits posteriors and solves for the optimal rule; neither asks for the sensitive features
# when it predicts.
model = BayesFairClassifier(base, tolerance=0.05, random_state=0)
model.fit(X, y, sensitive_features=sensitive)
decided = model.predict(X_test)
print(f"accuracy {np.mean(decided == y_test):.3f}")

# %%
# ====================================== ==========================================
# fairlearn                              here
# ====================================== ==========================================
# ``DemographicParity``                  ``constraint="demographic_parity"``
# ``TruePositiveRateParity``             ``constraint="equal_opportunity"``
# ``FalsePositiveRateParity``            ``constraint="predictive_equality"``
# ``EqualizedOdds``                      ``constraint="equalized_odds"``
# ``ErrorRateParity``                    ``constraint="accuracy_parity"``
# ``difference_bound``, ``ratio_bound``  ``measure=``, ``tolerance=`` (of a ratio: 1 - bound)
# ``method="to_overall"``                ``reference="overall"``
# ``method="between_groups"``            ``reference="pairwise"``
# ``ThresholdOptimizer``                 ``attribute_aware=True``
# ====================================== ==========================================
#
# Instead of a threshold optimizer
# --------------------------------
# Where the sensitive features are known when decisions are made, and may be used, the optimal rule is a
# threshold per group. It may have any tolerance, for equalized odds as well.
aware = BayesFairClassifier(
    base, attribute_aware=True, constraint="equalized_odds", tolerance=0.05, random_state=0
)
aware.fit(X, y, sensitive_features=sensitive)
decided_aware = aware.predict(X_test, sensitive_features=sensitive_test)
print(f"accuracy {np.mean(decided_aware == y_test):.3f}")

# %%
# The metrics agree
# -----------------
# ``mean_difference`` and ``mean_ratio(ratio_form="inverse")`` are fairlearn's differences and ratios, and
# ``make_rate_metric`` gives metrics for ``MetricFrame``.
ours = mean_difference(y_test, decided, sensitive_features=sensitive_test)
print(f"difference to overall {ours:.4f}")
if importlib.util.find_spec("fairlearn") is not None:
    from fairlearn.metrics import MetricFrame, demographic_parity_difference

    theirs = demographic_parity_difference(
        y_test, decided, sensitive_features=sensitive_test, method="to_overall"
    )
    print(f"fairlearn's           {theirs:.4f}")
    frame = MetricFrame(
        metrics=make_rate_metric("equal_opportunity"),
        y_true=y_test,
        y_pred=decided,
        sensitive_features=sensitive_test,
    )
    print(frame.by_group)

# %%
# Every measure at once, for single columns as well as for their combinations:
report = fairness_report(y_test, decided, sensitive_features=sensitive_test)
print(report)
ax = plt.figure(layout="constrained").subplots()
report.plot(ax)
plt.show()

# %%
# What is new
# -----------
# Pipelines and searches need nothing but metadata routing to be switched on: the classifier asks for the
# sensitive features by itself.
with config_context(enable_metadata_routing=True):
    search = GridSearchCV(
        make_pipeline(StandardScaler(), BayesFairClassifier(random_state=0)),
        {"bayesfairclassifier__constraint": ["demographic_parity", "equal_opportunity"]},
        cv=2,
    ).fit(X, y, sensitive_features=sensitive)
print(search.best_params_)

# %%
# Another notion, tolerance or grouping takes no new fit:
for groups in ("intersectional", "marginal", "all"):
    model.resolve(groups=groups, constraint="equal_opportunity")
    print(f"{groups:<15} out-of-fold accuracy lost: {model.price_of_fairness_:.4f}")

# %%
# And a fresh sample can prove, at a level of confidence, how unfair a rule can be at most:
certificate = certify_fairness(
    model,
    X_test,
    y_test,
    sensitive_features=sensitive_test,
    constraint="equal_opportunity",
    tolerance=0.25,
)
print(certificate)
