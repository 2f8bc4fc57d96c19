"""
Let unlabeled rows help your tabular model
==========================================

Ten rows of a table have a label, a hundred have not. A tabular in-context model reads the ten as its prompt
and ignores the rest. :class:`~mlpapers.icl.LoopedClassifier` lets it label the others softly, puts all of
them into the prompt, and repeats. When does that help?
"""

# %%
# A table with few labels
# -----------------------
# The base is a small transformer that comes with the library; it was fitted once to random tables and needs
# no network. In ``y``, -1 marks a row without label, as in scikit-learn.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlpapers.datasets import load_breast_cancer, load_diabetes, load_wine
from mlpapers.icl import (
    GMMEMClassifier,
    LoopedClassifier,
    MiniPFNClassifier,
    SemiSupervisedPlugIn,
    SupervisedPlugIn,
    bayes_error_asymptotic,
    infinite_context_error,
    make_semisupervised_gmm,
    spi_error,
)

X, y = load_breast_cancer(return_X_y=True)


def draw(X, y, seed):
    """Ten labelled rows, a hundred without label, and test rows."""
    labelled, rest = train_test_split(np.arange(len(y)), train_size=10, stratify=y, random_state=seed)
    unlabelled, test = rest[:100], rest[100:300]
    rows = np.concatenate([labelled, unlabelled])
    return X[rows], np.concatenate([y[labelled], np.full(len(unlabelled), -1)]), X[test], y[test]


X_train, y_train, X_test, y_test = draw(X, y, seed=0)
model = LoopedClassifier(MiniPFNClassifier(), random_state=0).fit(X_train, y_train)
print(model.loop_result_)
print("kept loop:", model.best_loop_)

# %%
# What loops change
# -----------------
# One split with ten labels says little. Here are eight splits of three tables. Breast cancer and wine gain;
# whether diabetes is above its median gains nothing or loses.
tables = {"breast cancer": (X, y)}
wine = load_wine(return_X_y=True)
tables["wine 1 vs rest"] = (wine[0], (wine[1] == 1).astype(int))
diabetes = load_diabetes(return_X_y=True)
tables["diabetes > median"] = (diabetes[0], (diabetes[1] > np.median(diabetes[1])).astype(int))

curves, reference = {}, {}
for name, (X, y) in tables.items():
    scores, linear = [], []
    for seed in range(8):
        X_train, y_train, X_test, y_test = draw(X, y, seed)
        model = LoopedClassifier(MiniPFNClassifier(), selection="last", tol=0.0, random_state=seed)
        stages = model.fit(X_train, y_train).staged_predict(X_test)
        scores.append([(stage == y_test).mean() for stage in stages])
        known = y_train >= 0
        regression = make_pipeline(StandardScaler(), LogisticRegression())
        linear.append(regression.fit(X_train[known], y_train[known]).score(X_test, y_test))
    curves[name], reference[name] = np.mean(scores, axis=0), np.mean(linear)

fig, axes = plt.subplots(1, 3, figsize=(8, 3.2), layout="constrained")
for ax, (name, curve) in zip(axes, curves.items()):
    ax.plot(100 * curve, "o-", label="looped")
    ax.axhline(100 * reference[name], color="0.6", linestyle="--", label="logistic regression")
    ax.set(title=name, xlabel="loop")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("accuracy in percent")
axes[0].legend(frameon=False)
plt.show()

# %%
# If you cannot afford a loss, ``selection="cv"`` predicts every labelled row from the others, with loops and
# without, and falls back to the single pass where loops do worse. It needs five labels in each class.

# %%
# Why it can help at all
# ----------------------
# Two symmetric Gaussian classes show what unlabelled rows are worth. The plug-in that uses labels alone has
# an exact error, and so have the limits.
n, d, sigma = 400, 10, 1.0
methods = {
    "labels only": SupervisedPlugIn(),
    "with the top eigenvector": SemiSupervisedPlugIn(sigma=sigma),
    "expectation-maximisation": GMMEMClassifier(sigma=sigma),
    "naive Bayes": GaussianNB(),
    "naive Bayes, looped": LoopedClassifier(GaussianNB(), selection="last", n_loops=5),
}
errors = {name: [] for name in methods}
for seed in range(20):
    X, y, _, mu = make_semisupervised_gmm(n, d, n_labeled=20, sigma=sigma, random_state=seed)
    rng = np.random.default_rng(1000 + seed)
    truth = rng.integers(0, 2, 1000)
    X_new = (2 * truth[:, None] - 1) * mu + sigma * rng.normal(size=(1000, d))
    for name, method in methods.items():
        used = y >= 0 if name == "naive Bayes" else slice(None)
        errors[name].append((method.fit(X[used], y[used]).predict(X_new) != truth).mean())
table = pd.Series({name: np.mean(values) for name, values in errors.items()}, name="error")
print(table.round(3).to_string())
limits = pd.Series(
    {
        "labels only, exact": spi_error(20, sigma, d),
        "endlessly many rows": infinite_context_error(20, sigma),
        "Bayes, asymptotic": bayes_error_asymptotic(n / d, 20 / n, sigma),
        "mean known": norm.cdf(-1 / sigma),
    }
)
print(limits.round(3).to_string())

# %%
# With 20 labels, more unlabelled rows bring the error down to a floor; supervised learning stays where it is.
sizes = np.array([25, 50, 100, 200, 400, 1600, 6400])
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.semilogx(sizes, [bayes_error_asymptotic(n / d, 20 / n, sigma) for n in sizes], "o-", label="best possible")
ax.axhline(spi_error(20, sigma, d), color="tab:red", label="20 labels and nothing else")
ax.axhline(norm.cdf(-1 / sigma), color="0.6", linestyle="--", label="mean known")
ax.set(xlabel="rows, 20 of them labelled", ylabel="error")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()
