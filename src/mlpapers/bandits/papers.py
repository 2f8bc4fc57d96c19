"""The paper of this package."""

from mlpapers.core.paper import Paper

PAIRWISE_BANDIT = Paper(
    key="pairwise-bandit",
    title="Continuum-armed Bandit Optimization with Batch Pairwise Comparison Oracles",
    authors=["Xiangyu Chang", "Xi Chen", "Yining Wang", "Zhiyi Zeng"],
    year=2025,
    venue="arXiv preprint arXiv:2505.22361",
    arxiv="2505.22361",
    package="mlpapers.bandits",
    summary=(
        "An unknown function is maximised while it is played, and all that is seen is how much better one "
        "point is than another: one number for a whole batch of periods, noisy, biased, better only if "
        "the batch is longer. For smooth functions, cells with local polynomials, a tournament and "
        "batched LinUCB reach the optimal rate; for strongly concave ones, proximal gradient steps reach "
        "the root of the horizon. Pricing with inventory under censored demand and network revenue "
        "management are of this kind. Only the abstract and published summaries were available: all "
        "constants and target figures were derived and measured for this library, and none of them is the "
        "paper's own."
    ),
)
