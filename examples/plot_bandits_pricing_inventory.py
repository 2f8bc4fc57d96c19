"""
Price and stock a product you know nothing about
================================================

A shop sells one product. Every week it sets a price and a stock level, and then sees what it sold. What it
never sees is demand: customers who found the shelf empty leave no record, and each costs goodwill. How should
it learn the best price without spending the year on trials?
"""

# %%
# The shop, and what is hidden
# ----------------------------
# ``PricingInventoryEnv`` knows the truth. A policy gets only ``as_oracle()``: it may ask which of two prices
# is better, for as many weeks as it likes, and the answer is made of sales alone.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mlpapers.bandits import (
    ExploreThenCommit,
    GridUCB,
    PairwiseComparisonBandit,
    PricingInventoryEnv,
    compare_policies,
    regret_exponent,
)

shop = PricingInventoryEnv(holding_cost=0.5, lost_sales_cost=1.0)
oracle = shop.reset(horizon=2000, random_state=0).as_oracle()
levels, sales = oracle.play_level([0.5], 5.0, 12)
print(pd.DataFrame({"on the shelf": levels, "sold": sales}).round(2).to_string())
print("sold out in", np.count_nonzero(sales == levels), "of 12 weeks; by how much, nobody knows")

# %%
# Why not simply compare profits?
# -------------------------------
# Profits that are seen, sales minus holding, leave out the lost customers: more data do not help.
naive = shop.reset(400_000, 0)
profits = []
for x in (0.1, 0.9):
    level = shop.optimal_level(shop.model.price(x))
    levels, sales = naive.play_level([x], level, 200_000)
    profits.append(np.mean(shop.model.price(x) * sales - 0.5 * (levels - sales)))
answer = shop.reset(400_000, 0).compare([0.1], [0.9], 400_000)
truth = shop.value([0.1]) - shop.value([0.9])
print(f"true difference {truth:.4f}; seen profits {profits[0] - profits[1]:.4f}; oracle {answer.diff:.4f}")
print("periods that an answer needs to be within 0.1, nine times of ten:", answer.required_periods(0.1, 0.1))

# %%
# Let it learn
# ------------
# The policy asks short questions first and longer ones as it comes closer. ``sigma="auto"`` means that nobody
# told it how sharp the optimum is: its first questions, about three prices, are to find out.
policy = PairwiseComparisonBandit(sigma="auto")
result = policy.run(shop, horizon=100_000, n_replications=8, random_state=0)
print(result.trace_[["t", "phase", "x", "x_prime", "n", "diff"]].round(4).to_string(max_rows=12))

fig, axes = plt.subplots(1, 2, figsize=(10, 4))
result.plot(axes[0], kind="path")
axes[0].axhline(shop.x_star[0], color="0.4", linestyle=":", label="best price")
axes[0].set(xscale="log", ylabel="price, from 0 (lowest) to 1")
axes[0].legend()
result.plot(axes[1], kind="average")
fig.tight_layout()
plt.show()

# %%
# What did the year cost?
# -----------------------
# Beside two other ways: explore without ever selling out, fit a curve and commit; and bandits on a grid of
# prices and levels, which trust the profit they see. A method that knows the form of demand can be as good
# as ours; at its default it is not, and which setting is good shows only afterwards.
table = compare_policies(
    {
        "comparisons, told nothing": policy,
        "comparisons, told the curvature": PairwiseComparisonBandit(sigma=18.0, M=34.3, x0=0.25),
        "explore then commit, default": ExploreThenCommit(),
        "explore then commit, line": ExploreThenCommit(degree=1, explore_scale=0.5),
        "grid of prices and levels": GridUCB(),
    },
    {"shop": shop},
    horizon=100_000,
    n_replications=8,
    random_state=1,
).to_frame()
print(table[["policy", "regret", "low", "high", "average"]].round(2).to_string(index=False))

# %%
# Does it keep its promise?
# -------------------------
# Regret of the order of the root of the horizon: ten times as long costs about three times as much.
exponent = regret_exponent(
    PairwiseComparisonBandit(sigma=18.0, M=34.3, x0=0.25),
    shop,
    [10_000, 30_000, 100_000, 300_000],
    n_replications=8,
    random_state=0,
)
exponent.plot()
plt.show()

# %%
# Your own records
# ----------------
# ``from_frame`` makes such a shop of a table with price, sales and stock, one row a week, to try policies on
# before they are let loose. Rows that sold out tell only a lower bound, and are left out.
rng = np.random.default_rng(0)
price = rng.choice([1.2, 1.6, 2.0, 2.4], 400)
demand = 9.0 - 2.2 * price + rng.uniform(-2, 2, 400)
records = pd.DataFrame({"price": price, "stock": 9.0, "sales": np.minimum(demand, 9.0)})
yours = PricingInventoryEnv.from_frame(records)
print(f"best price {yours.optimal_price:.2f}, stock up to {yours.optimal_level(yours.optimal_price):.1f}")
