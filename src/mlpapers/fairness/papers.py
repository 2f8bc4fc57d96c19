"""The paper of this package."""

from mlpapers.core.paper import Paper

BAYES_FAIR = Paper(
    key="bayes-fair",
    title="Bayes-Optimal Fair Classification with Multiple Sensitive Features",
    authors=["Yi Yang", "Yinghui Huang", "Xiangyu Chang"],
    year=2025,
    venue="arXiv preprint arXiv:2505.00631",
    arxiv="2505.00631",
    package="mlpapers.fairness",
    summary=(
        "Group fairness is linear in how often people of each group and label are selected, so among all "
        "classifiers that keep it within a tolerance the most accurate has a simple form: predict 1 where "
        "the probability of the positive label exceeds a threshold of the person's own, moved by a weighted "
        "sum of the probabilities of belonging to each group. This holds for any number of sensitive "
        "features, with or without them at prediction, for differences and ratios, and for several notions "
        "at once; thresholding a fitted model or training with person-dependent costs both reach it."
    ),
)
