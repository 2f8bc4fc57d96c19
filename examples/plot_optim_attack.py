"""
Attack a network you can only query
===================================

A classifier of digits answers with its ten logits and nothing else. We look for one perturbation, the same
for all images and at most 0.2 in any pixel, that makes it err on as many of them as possible, and we count
how often we asked.
"""

# %%
# The victim
# ----------
# A small network on 8 x 8 digits. The attack uses only the test images that it classifies correctly.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.neural_network import MLPClassifier

from mlpapers.datasets import load_digits
from mlpapers.optim import universal_attack

X, y = load_digits(return_X_y=True)
X = X / 16.0
order = np.random.default_rng(0).permutation(len(y))
train, test = order[:1078], order[1078:]
victim = MLPClassifier((64, 64), max_iter=60, early_stopping=True, random_state=0).fit(X[train], y[train])


def logits(images):
    """What the line returns: scores of the ten digits."""
    return np.log(victim.predict_proba(images.reshape(len(images), -1)) + 1e-12)


right = victim.predict(X[test]) == y[test]
images, labels = X[test][right].reshape(-1, 8, 8), y[test][right]
print(f"accuracy {right.mean():.3f}, {len(labels)} images to attack")

# %%
# The attack
# ----------
# A full gradient by differences would take 65 queries of every image. We allow one and a half times that,
# enough for a single step of a method that works so. :func:`~mlpapers.optim.universal_attack` never exceeds
# the budget.
budget = int(1.5 * images.shape[0] * 64)
result = universal_attack(logits, images, labels, eps=0.2, max_queries=budget, method="auto", random_state=0)
print(f"{result.n_queries} queries; fooled: {result.clean_rate:.2f} before, {result.fooling_rate:.2f} after")

# %%
# The perturbation, and what the network takes some of the images for.
fig, axes = plt.subplots(1, 6, figsize=(9, 2), layout="constrained")
result.plot(ax=axes[0])
taken_for = logits(result.images).argmax(axis=1)
shown = np.flatnonzero(taken_for != labels[:16])[:5]
for ax, i in zip(axes[1:], shown):
    ax.imshow(result.images[i], cmap="gray_r", vmin=0, vmax=1)
    ax.set(title=f"{labels[i]} taken for {taken_for[i]}", xticks=[], yticks=[])
plt.show()

# %%
# Fewer queries
# -------------
# How much does an attack cost? The same with smaller budgets.
shares = [0.1, 0.25, 0.5, 1.0, 1.5]
rates = {
    method: [
        universal_attack(
            logits,
            images,
            labels,
            eps=0.2,
            max_queries=int(share * len(labels) * 64),
            method=method,
            random_state=0,
        ).fooling_rate
        for share in shares
    ]
    for method in ("auto", "dvr")
}
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for method, rate in rates.items():
    ax.plot(shares, rate, "o-", label=method)
ax.set(xlabel="queries per image and pixel", ylabel="share of images fooled", ylim=(0, None))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()
