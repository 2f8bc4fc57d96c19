"""
Why long contexts dilute attention
==================================

Attention is a share of one. With more keys to look at, the one that matters gets less, unless logits grow: by
larger weights, which then hold for every query, or by a temperature that grows with the number of keys.
"""

# %%
# The bound
# ---------
# For unit tokens no weights of norm w give one key among L more than 1/(1 + (L - 1) exp(-2w)). To keep half
# of the mass on it, the norm must grow like half the logarithm of L.
import matplotlib.pyplot as plt
import numpy as np

from mlpapers.attention import (
    dilution,
    dilution_bound,
    lemma2_sparsity,
    prop1_min_norm,
    prop1_ssa_solution,
    required_norm,
)

lengths = np.logspace(1, 5, 40)
fig, ax = plt.subplots()
for norm in (2, 3, 4, 5):
    ax.plot(lengths, [dilution_bound(length, norm) for length in lengths], label=f"norm {norm}")
ax.set(xlabel="keys", ylabel="largest probability", xscale="log")
ax.legend()
plt.show()
print(
    f"norm for half the mass: {required_norm(100, 0.5):.2f} at 100 keys, {required_norm(1e5, 0.5):.2f} at "
    f"100,000"
)

# %%
# A needle
# --------
# Attention is trained to find one key among at most 64, and then looks for it among thousands. With a
# temperature 1 + alpha log n it hardly notices the difference.
fig, ax = plt.subplots()
for method in ("vanilla", "linear"):
    run = dilution(method, lengths=(16, 64, 256, 1024), n_steps=250, batch_size=32, n_test=64, random_state=0)
    print(f"{method}: {np.round(run.mass, 3)}, norm of the weights {run.norm:.1f}")
    run.plot(ax)
plt.show()

# %%
# Larger weights are no way out
# -----------------------------
# Two tokens that are close (0.3 rad apart), one of which should look at both and the other at itself alone.
# One pair of matrices has to do both; with a temperature for each query a norm 3.6 times smaller does.
e1, e2 = np.array([1.0, 0.0]), np.array([np.cos(0.3), np.sin(0.3)])
W, tau = prop1_ssa_solution(0.4, 1e-3, e1, e2)
print(f"without temperatures: {prop1_min_norm(0.4, 1e-3, e1, e2):.1f}")
print(f"with them: {np.linalg.norm(W, 2) * np.abs(tau).max():.1f}, tau = {np.round(tau, 2)}")

# %%
# Temperature as sparsity
# -----------------------
# Where relevance follows a power law, the temperature 1 + a log n does what attention to the top keys alone
# would.
for n in (100, 10_000, 1_000_000):
    share = lemma2_sparsity(n, pow=0.5, gamma=1.0, a=0.4)
    print(f"{n:>9,} keys: as if only {share:.2%} of them were there")
