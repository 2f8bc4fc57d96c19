"""
Sparse logistic regression without gradients
============================================

Somebody else holds the data and answers one question: the loss of one row for given coefficients. We fit a
sparse classifier all the same, and compare methods by what they ask.
"""

# %%
# The problem
# -----------
# 1000 rows, 30 columns, of which 5 matter. Coefficients lie in an L1 ball; a step needs a linear minimisation
# over it, which is one coordinate, and never a projection.
import matplotlib.pyplot as plt
import numpy as np

from mlpapers.optim import L1Ball, LinearFiniteSum, SparseLogisticRegressionFW, minimize_fw_zo

rng = np.random.default_rng(0)
n, d = 1000, 30
A = rng.normal(size=(n, d))
A /= np.linalg.norm(A, axis=1, keepdims=True)
w = np.zeros(d)
w[:5] = [4.0, -3.0, 2.0, -2.0, 1.0]
y = np.where(rng.random(n) < 1 / (1 + np.exp(-4 * A @ w)), 1.0, -1.0)
loss, ball = LinearFiniteSum(A, y, "logistic"), L1Ball(12.0)

# %%
# Four ways to ask
# ----------------
# "fd" asks for all n (d + 1) values at every step, "zscg" averages random directions. "dvr" carries an
# estimate along and refreshes a few coordinates of it. "auto" uses each estimate for more than one such step.
budget = 60 * n * d
curves = {}
for method in ("zscg", "fd", "dvr", "auto"):
    path = []
    minimize_fw_zo(
        loss,
        np.zeros(d),
        ball,
        method=method,
        max_queries=budget,
        random_state=0,
        certificate="none",
        callback=lambda state, path=path: path.append((state.n_queries, loss.mean(state.x))),
    )
    curves[method] = np.array(path)
best = min(curve[:, 1].min() for curve in curves.values())

fig, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for method, curve in curves.items():
    ax.loglog(curve[:, 0] / (n * d), np.maximum(curve[:, 1] - best, 1e-12), label=method)
ax.set(xlabel="queries / (n d)", ylabel="f above the best", xlim=(0.1, 60), ylim=(1e-10, None))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()

# %%
# As an estimator
# ---------------
# The same in scikit-learn's form. The result says what it cost.
model = SparseLogisticRegressionFW(radius=12.0, fit_intercept=False, random_state=0).fit(A, y)
print(
    f"{model.result_.n_queries} queries, {np.count_nonzero(np.abs(model.coef_) > 0.1)} coefficients above 0.1"
)
print(f"accuracy {model.score(A, y):.3f}")
