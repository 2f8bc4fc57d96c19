"""The paper of this package."""

from mlpapers.core.paper import Paper

ZO_FRANK_WOLFE = Paper(
    key="zo-frank-wolfe",
    title="An Enhanced Zeroth-Order Stochastic Frank-Wolfe Framework for Constrained Finite-Sum Optimization",
    authors=["Haishan Ye", "Yinghui Huang", "Hao Di", "Xiangyu Chang"],
    year=2025,
    venue="arXiv preprint arXiv:2501.07201",
    arxiv="2501.07201",
    package="mlpapers.optim",
    summary=(
        "A mean of n functions is minimised over a convex set, and all that can be had are values of single "
        "functions. Differences in random directions are noisy for two reasons: a function was sampled, and "
        "a direction was. At a constrained optimum the gradient is not zero, so that the second noise does "
        "not vanish by itself. A memory of directions removes it, a recursive estimator removes the first, "
        "and linear minimisation replaces projections. Only the abstract and a predecessor's method were "
        "available: every constant and every target figure was derived and measured for this library, and "
        "none of them is the paper's own."
    ),
)
