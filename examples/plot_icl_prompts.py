"""
What a prompt can and cannot explain
====================================

A linear attention layer serves two families of regressions whose coefficients have different means. A trained
prompt for each family explains its mean. It does not take the mean out of the noise, which a head does. All
losses here are exact, so every difference is real.
"""

# %%
# Two tasks, five ways to train
# -----------------------------
# In ten dimensions, the coefficients of the tasks scatter around +1 and -1.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mlpapers.icl import (
    TaskMixture,
    fit_population,
    loss_landscape,
    optimal_loss,
    optimal_weights,
    plot_landscape,
)

d = 10
mixture = TaskMixture(
    np.outer([1.0, -1.0], np.ones(d)), np.stack([np.eye(d)] * 2), weights=(0.3, 0.7), noise=0.3
)
names = {
    "plain": "no prompt",
    "finetune_prompt": "prompt on fixed weights",
    "prompt": "prompt and weights together",
    "finetune_prompt+head": "prompt and head on fixed weights",
    "prompt+head": "prompt, head and weights together",
}
lengths = np.array([1, 2, 5, 10, 20, 50, 100, 200])
losses = pd.DataFrame(
    {label: [optimal_loss(mixture, n, strategy) for n in lengths] for strategy, label in names.items()},
    index=pd.Index(lengths, name="rows of context"),
)
print(losses.round(3))

# %%
# Training together beats fine-tuning, and heads beat all. With a long context every strategy gets there.
ax = losses.plot(logx=True, logy=True, marker=".", figsize=(7.5, 4))
ax.set_ylabel("loss")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, fontsize="small")
plt.show()

# %%
# What the prompt does
# --------------------
# With the best prompt, the mean answer to a query x of task k is x'mu_k, exactly: the context explains a part
# n W mu_k, the prompt W p_k the rest.
n = 20
best = optimal_weights(mixture, n, "prompt")
context, prompt = n * best.W @ mixture.means[0], best.W @ best.prompts[0]
print(f"of a mean of 1, the context explains {context[0]:.3f} and the prompt {prompt[0]:.3f}")

# %%
# What the prompt cannot do
# -------------------------
# The means still act as noise: a larger mean makes every row of the context say less about the rest of the
# coefficients. Only a head subtracts the mean from each row.
scales = np.linspace(0, 4, 9)
by_scale = pd.DataFrame(
    {
        names[strategy]: [
            optimal_loss(
                TaskMixture(scale * mixture.means, mixture.covariances, weights=(0.3, 0.7), noise=0.3),
                n,
                strategy,
            )
            for scale in scales
        ]
        for strategy in ("plain", "prompt", "prompt+head")
    },
    index=pd.Index(scales, name="size of the means"),
)
ax = by_scale.plot(marker=".", figsize=(7.5, 3.6), logy=True)
ax.set_ylabel("loss")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()

# %%
# Why training seems to fail
# --------------------------
# Weights are small, of the order of 1/n, and prompts are large, of the order of the means divided by them. In
# one direction the loss is stiff, in another nearly flat.
landscape = loss_landscape("prompt", mixture=mixture, n_context=n, n_points=31)
print(f"condition number of the Hessian: {landscape.condition:.2g}")
plot_landscape("prompt", mixture=mixture, n_context=n, n_points=31)
plt.show()

# %%
# Adam stalls on the way, and what it leaves looks like a limit of prompts. L-BFGS reaches the closed form.
adam = fit_population(mixture, n, "prompt", method="adam", max_iter=600, random_state=0)
lbfgs = fit_population(mixture, n, "prompt", method="lbfgs", max_iter=400, random_state=0)
exact = optimal_loss(mixture, n, "prompt")
fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for label, run in {"Adam": adam, "L-BFGS": lbfgs}.items():
    ax.loglog(np.arange(1, len(run.losses) + 1), np.maximum(run.losses - exact, 1e-9), label=label)
ax.set(xlabel="evaluations", ylabel="loss above the optimum")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()
print(f"Adam {adam.best_loss:.3f}, L-BFGS {lbfgs.best_loss:.5f}, closed form {exact:.5f}")
