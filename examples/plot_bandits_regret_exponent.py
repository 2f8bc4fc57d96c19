"""
Measure a regret exponent
=========================

"Regret of the order of the root of T" is a statement about many horizons. One long run does not show it. Here
is how to measure an exponent, with an interval, and what a biased oracle does to methods that were not made
for it.
"""

# %%
# Separate runs for every horizon
# -------------------------------
# A policy plans for its horizon: how long its queries are, how fine its cells. ``regret_exponent`` runs it
# anew for each, fits a line through the logarithms, and bootstraps over the replications.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mlpapers.bandits import (
    ConcaveFunctionEnv,
    HorizonDoubling,
    InexactProximalGradient,
    KieferWolfowitz,
    TournamentLinUCB,
    regret_exponent,
    theory_exponent,
)

horizons = [10_000, 100_000, 1_000_000]
env = ConcaveFunctionEnv(bias=0.2, bias_mode="adversarial")
gradient = InexactProximalGradient(sigma=4.0, M=4.0)
result = regret_exponent(gradient, env, horizons, n_replications=40, random_state=0)
print(result.to_frame().round(5).to_string(index=False))
print(f"exponent {result.slope:.3f} [{result.low:.3f}, {result.high:.3f}], theory {result.theory}")
result.plot()
plt.show()

# %%
# What bias does
# --------------
# The oracle's answer to a query of n periods may be off by 0.2/sqrt(n), always to the worse side. That is no
# more than its noise. Methods that average many short queries average the noise away, and keep the bias.
rows = []
for bias in (0.0, 0.2):
    world = ConcaveFunctionEnv(bias=bias, bias_mode="adversarial")
    for policy in (gradient, KieferWolfowitz(sigma=4.0, M=4.0)):
        slope = regret_exponent(policy, world, [4_000, 12_000, 36_000], n_replications=4, random_state=0)
        rows.append(
            {
                "policy": slope.policy,
                "bias": bias,
                "exponent": slope.slope,
                "low": slope.low,
                "high": slope.high,
                "regret at 36,000": slope.regret[-1].mean(),
            }
        )
print(pd.DataFrame(rows).round(3).to_string(index=False))

# %%
# An exponent above one cannot last: it is the way from a small regret to a linear one, seen over a few
# horizons. That too is what separate runs show and a single curve hides.
#
# Smooth functions with two peaks
# -------------------------------
# Without concavity the best possible exponent is (k+d)/(2k+d) for functions with k bounded derivatives. Cells
# are eliminated in a tournament; what survives closes in on the higher peak.
bimodal = ConcaveFunctionEnv("bimodal")
tournament = TournamentLinUCB(smoothness_order=2, M=48.2)
run = tournament.run(bimodal, 1_000_000, n_replications=5, random_state=0)
fig, axes = plt.subplots(1, 3, figsize=(13, 3.8))
x = np.linspace(0.0, 1.0, 400)
axes[0].plot(x, bimodal.value(x[:, None]))
axes[0].plot(run.x_final[:, 0], bimodal.value(run.x_final), "o", label="recommended")
axes[0].set(xlabel="x", ylabel="f")
axes[0].legend()
run.plot(axes[1], kind="cells")
run.plot(axes[2], kind="path")
axes[2].set_xscale("log")
fig.tight_layout()
plt.show()

# %%
# Where the optimum lies in the grid of cells changes the constant from one horizon to the next, so that a
# fixed one measures luck. Average over optima that are drawn at random.
rng = np.random.default_rng(0)
smooth = TournamentLinUCB(smoothness_order=2, M=4.0)
regret = np.array(
    [
        [
            smooth.run(ConcaveFunctionEnv(x_star=optimum), T, random_state=seed).final_regret[0]
            for seed, optimum in enumerate(rng.uniform(0.2, 0.8, 12))
        ]
        for T in horizons
    ]
)
print("k = 2, random optimum:", np.polyfit(np.log(horizons), np.log(regret.mean(axis=1)), 1)[0].round(3))
print("theory:", theory_exponent(2, 1))

# %%
# When the horizon is unknown
# ---------------------------
# Guess one and double it: the exponent stays, the constant grows.
anytime = regret_exponent(HorizonDoubling(gradient), env, horizons, n_replications=20, random_state=0)
ax = result.plot()
anytime.plot(ax, color="C3")
ax.set_title("known horizon, and doubled guesses")
plt.show()
