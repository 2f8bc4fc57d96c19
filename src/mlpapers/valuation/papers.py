"""The two papers of this package."""

from mlpapers.core.paper import Paper

ASYMMETRIC_SHAPLEY = Paper(
    key="asymmetric-shapley",
    title="Towards Data Valuation via Asymmetric Data Shapley",
    authors=["Xi Zheng", "Xiangyu Chang", "Ruoxi Jia", "Yong Tan"],
    year=2024,
    venue="arXiv preprint arXiv:2411.00388",
    arxiv="2411.00388",
    package="mlpapers.valuation",
    summary=(
        "Data Shapley treats all points alike, so a copy takes half of what its original earned. Asymmetric "
        "data Shapley averages marginal contributions only over the orders in which earlier groups "
        "(originals, first sellers, earlier rounds) come first: the value of a group is what it adds to "
        "what was there before, and later arrivals never change earlier values. For k-nearest-neighbour "
        "utilities it is computed exactly."
    ),
)

USTATISTIC_SHAPLEY = Paper(
    key="ustatistic-shapley",
    title="Uncertainty Quantification of Data Shapley via Statistical Inference",
    authors=["Mengmeng Wu", "Zhihong Liu", "Xiang Li", "Ruoxi Jia", "Xiangyu Chang"],
    year=2024,
    venue="arXiv preprint arXiv:2407.19373",
    arxiv="2407.19373",
    package="mlpapers.valuation",
    summary=(
        "A data value computed from one sample would be another number in the next sample, and repeating "
        "the Monte Carlo run does not show it. Data Shapley is an infinite-order U-statistic of the sample: "
        "averaged over random subsets it is asymptotically normal, with a variance of two parts, what "
        "single points decide and Monte Carlo error. Estimating both (double Monte Carlo, pick-and-freeze, "
        "infinitesimal jackknife) gives confidence intervals for values, and prices a buyer can rely on "
        "when data are traded."
    ),
)
